package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// frontKind is a balancer.
type frontKind string

const (
	ours       frontKind = "whisperpool"
	stockCaddy frontKind = "caddy"
	haproxy    frontKind = "haproxy"
)

// server is a backend as a balancer is told of it.
type server struct {
	name, address string
	slots         int    // told to whom it can be told; 0: not
	options       string // lines for its block in the Caddyfile of ours
}

func servers(fakes ...*fake) []server {
	var all []server
	for _, f := range fakes {
		all = append(all, server{name: f.name, address: f.address, slots: f.slots})
	}
	return all
}

// setup is what else is told to a whisperpool; other balancers have their one configuration.
type setup struct {
	global string // lines of the global options
	pool   string // lines of the whisper_pool block
	site   string // lines of the site, before the pool
	level  string // of the log; "" is INFO
	tls    bool   // with a certificate that clients of this program know
}

// front is a balancer that runs, in front of backends.
type front struct {
	env     *env
	kind    frontKind
	name    string
	url     string
	admin   string // URL, or where HAProxy's statistics are
	scrape  string // URL of the metrics; "" where there are none
	setup   setup
	servers []server
	*process
	program string
	ports   [3]int
}

// front starts the balancer that this run is about, and waits until it takes requests.
func (e *env) front(ctx context.Context, name string, s setup, servers []server) (*front, error) {
	f := &front{env: e, kind: e.kind, name: name, setup: s, servers: servers}
	for i := range f.ports {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		f.ports[i] = port
	}
	f.url = fmt.Sprintf("%s://127.0.0.1:%d", s.scheme(), f.ports[0])
	f.admin = fmt.Sprintf("http://127.0.0.1:%d", f.ports[1])
	f.program = e.programs.whisperpool
	if f.kind == haproxy {
		path, err := find("haproxy")
		if err != nil {
			return nil, err
		}
		f.program = path
	}
	if f.kind == ours {
		f.scrape = fmt.Sprintf("http://127.0.0.1:%d/metrics", f.ports[2])
	}
	return f, f.begin(ctx)
}

// begin starts the process.
func (f *front) begin(ctx context.Context) error {
	file, args, ready := "Caddyfile", []string{"run", "--config", "Caddyfile"}, f.url+"/health"
	switch f.kind {
	case haproxy:
		file, args = "haproxy.cfg", []string{"-W", "-f", "haproxy.cfg"}
	case ours:
		if ready += "?pool"; f.setup.tls {
			ready = f.scrape
		}
	}
	if f.setup.tls {
		if err := f.env.writeCertificate(); err != nil {
			return err
		}
	}
	if _, err := f.env.write(filepath.Join(f.name, file), f.config(f.servers, f.setup)); err != nil {
		return err
	}
	var err error
	if f.process, err = f.env.start(f.name, f.program, args...); err != nil {
		return err
	}
	return f.ready(ctx, ready)
}

func (f *front) config(servers []server, s setup) string {
	switch f.kind {
	case haproxy:
		return f.haproxyConfig(servers)
	case stockCaddy:
		return f.caddyConfig(servers)
	default:
		return f.ownConfig(servers, s)
	}
}

func (f *front) caddyHead(s setup) string {
	level := s.level
	if level == "" {
		level = "INFO"
	}
	return fmt.Sprintf("{\n\tadmin 127.0.0.1:%d\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\toutput stderr\n\t\tformat json\n\t\tlevel %s\n\t}\n%s}\n",
		f.ports[1], level, indent(s.global, 1))
}

// ownConfig names the backends, and what a scenario adds.
func (f *front) ownConfig(servers []server, s setup) string {
	var b strings.Builder
	if s.tls {
		s.site += fmt.Sprintf("\ntls %s %s\n", filepath.Join(f.env.dir, certFile), filepath.Join(f.env.dir, keyFile))
	}
	s.global += "\nservers {\nlistener_wrappers {\nwhisper_pool\n}\n}\n"
	b.WriteString(f.caddyHead(s))
	fmt.Fprintf(&b, "http://127.0.0.1:%d {\n\tbind 127.0.0.1\n\tmetrics\n}\n", f.ports[2])
	fmt.Fprintf(&b, "%s://127.0.0.1:%d {\n\tbind 127.0.0.1\n%s\twhisper_pool {\n", s.scheme(), f.ports[0], indent(s.site, 1))
	for _, to := range servers {
		fmt.Fprintf(&b, "\t\tbackend %s {\n\t\t\tname %s\n", to.address, to.name)
		if to.slots > 0 {
			fmt.Fprintf(&b, "\t\t\tslots %d\n", to.slots)
		}
		fmt.Fprintf(&b, "%s\t\t}\n", indent(to.options, 3))
	}
	fmt.Fprintf(&b, "%s\t}\n}\n", indent(s.pool, 2))
	return b.String()
}

func indent(lines string, by int) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(strings.Repeat("\t", by) + line + "\n")
		}
	}
	return b.String()
}

// caddyConfig is what a careful operator writes for stock reverse_proxy: uploads are buffered so that
// they can be sent again, failures and 5xx are retried elsewhere, and backends that fail are left
// alone for a while, by their health checks and by what is seen of them.
func (f *front) caddyConfig(servers []server) string {
	var addresses []string
	for _, to := range servers {
		addresses = append(addresses, to.address)
	}
	return f.caddyHead(setup{level: "ERROR"}) + fmt.Sprintf(`http://127.0.0.1:%d {
	bind 127.0.0.1
	reverse_proxy %s {
		lb_policy least_conn
		lb_retries 3
		lb_try_duration 30s
		lb_retry_match {
			method POST
		}
		lb_retry_match `+"`{rp.status_code} in [500, 502, 503, 504]`"+`
		request_buffers 16MiB
		health_uri /health
		health_interval 2s
		health_timeout 5s
		fail_duration 10s
		max_fails 3
		unhealthy_status 5xx 429
		transport http {
			dial_timeout 2s
			keepalive 4s
		}
	}
}
`, f.ports[0], strings.Join(addresses, " "))
}

// haproxyConfig is the same for HAProxy: as many requests at a backend as it has slots, the others
// wait in its queue; whatever can be retried is, elsewhere; errors that are seen count as failed
// checks. Requests are retried only when they fit in its buffer, so that is made large.
func (f *front) haproxyConfig(servers []server) string {
	var b strings.Builder
	fmt.Fprintf(&b, `global
  maxconn 4000
  tune.bufsize 262144
  log stderr format raw local0 notice
defaults
  mode http
  log global
  timeout connect 2s
  timeout client 15m
  timeout server 15m
  timeout queue 4m
  timeout check 5s
frontend in
  bind 127.0.0.1:%d
  default_backend pool
backend pool
  balance leastconn
  option httpchk GET /health
  option redispatch 1
  option http-buffer-request
  retries 3
  retry-on all-retryable-errors
  default-server check inter 2s fall 2 rise 2 slowstart 5s observe layer7 error-limit 3 on-error mark-down
`, f.ports[0])
	for _, to := range servers {
		fmt.Fprintf(&b, "  server %s %s maxconn %d\n", to.name, to.address, max(1, to.slots))
	}
	return b.String()
}

// reload gives the balancer other backends, and another setup, while it runs.
func (f *front) reload(ctx context.Context, servers []server, s setup) error {
	config := f.config(servers, s)
	if f.kind == haproxy {
		if err := os.WriteFile(filepath.Join(filepath.Dir(f.log), "haproxy.cfg"), []byte(config), 0o644); err != nil {
			return err
		}
		f.signal(syscall.SIGUSR2)
		return nil
	}
	return f.load(ctx, config)
}

// load gives it a configuration through Caddy's API; the error is what that says.
func (f *front) load(ctx context.Context, config string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.admin+"/load", strings.NewReader(config))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "text/caddyfile")
	response, err := (&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, oneLine(string(text)))
	}
	return nil
}

// metrics are all values that the process exports, by name and labels as they are written.
type metrics map[string]float64

func (f *front) metrics(ctx context.Context) (metrics, error) {
	text, err := get(ctx, f.scrape)
	if err != nil {
		return nil, err
	}
	all := metrics{}
	for line := range bytes.Lines(text) {
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte("} "))
		if ok {
			name = append(name, '}')
		} else if name, value, ok = bytes.Cut(bytes.TrimSpace(line), []byte(" ")); !ok {
			continue
		}
		if v, err := strconv.ParseFloat(string(value), 64); err == nil && line[0] != '#' {
			all[string(name)] = v
		}
	}
	return all, nil
}

// sum adds up the values of a metric whose labels have all of these, written as name="value".
func (m metrics) sum(name string, labels ...string) float64 {
	total := 0.0
next:
	for key, value := range m {
		if rest, ok := strings.CutPrefix(key, name); !ok || rest != "" && rest[0] != '{' {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(key, label) {
				continue next
			}
		}
		total += value
	}
	return total
}

// findLine is the first line that has one of the words, "" when there is none.
func findLine(text string, words ...string) string {
	for line := range strings.Lines(text) {
		for _, word := range words {
			if strings.Contains(line, word) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// learned is on how many observations each backend's speed rests.
func (f *front) learned(ctx context.Context) (map[string]int, error) {
	text, err := get(ctx, f.admin+"/whisper_pool/pools")
	if err != nil {
		return nil, err
	}
	var said struct {
		Pools []struct {
			Backends []struct {
				ID     string
				Speeds []struct{ Observations int }
			}
		}
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return nil, fmt.Errorf("what the admin API says of the pools: %w", err)
	}
	all := map[string]int{}
	for _, p := range said.Pools {
		for _, b := range p.Backends {
			for _, s := range b.Speeds {
				all[b.ID] += s.Observations
			}
		}
	}
	return all, nil
}
