package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// What an operator would write for each peer. Timeouts are long everywhere, since no peer is to be
// compared by what it refuses; health checks are rare, since they cost all the others time too.

const caddyHead = `{
	admin off
	auto_https off
	persist_config off
	log {
		level ERROR
	}
}
`

// whisperpoolFiles name addresses, and nothing else.
func whisperpoolFiles(backends []*backend, ports []int) map[string]string {
	var s strings.Builder
	fmt.Fprintf(&s, "%shttp://127.0.0.1:%d {\n\tbind 127.0.0.1\n\twhisper_pool {\n", caddyHead, ports[0])
	for _, b := range backends {
		fmt.Fprintf(&s, "\t\tbackend %s {\n\t\t\tname %s\n\t\t}\n", b.address, b.name)
	}
	s.WriteString("\t}\n}\n")
	return map[string]string{"Caddyfile": s.String()}
}

// caddyFiles have a site for each policy. Uploads are streamed, not buffered: nothing is retried
// here, so buffering would only cost time.
func caddyFiles(backends []*backend, ports []int) map[string]string {
	var s strings.Builder
	s.WriteString(caddyHead)
	for i, policy := range []string{"least_conn", "round_robin", "random"} {
		fmt.Fprintf(&s, `http://127.0.0.1:%d {
	bind 127.0.0.1
	reverse_proxy %s {
		lb_policy %s
		lb_try_duration 2s
		health_uri /health
		health_interval 10s
		fail_duration 10s
		max_fails 3
	}
}
`, ports[i], addresses(backends, " "), policy)
	}
	return map[string]string{"Caddyfile": s.String()}
}

func addresses(backends []*backend, separator string) string {
	var all []string
	for _, b := range backends {
		all = append(all, b.address)
	}
	return strings.Join(all, separator)
}

// haproxyFiles have leastconn as it comes, leastconn with what an operator can set by hand, and
// first with the fastest card first. The weights are the true speeds, which is the best that static
// knowledge can do.
func haproxyFiles(backends []*backend, ports []int) map[string]string {
	var s strings.Builder
	s.WriteString(`global
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 15m
  timeout server 15m
  timeout queue 15m
`)
	fastest := slices.Clone(backends)
	slices.SortStableFunc(fastest, func(a, b *backend) int { return cmp.Compare(b.speed, a.speed) })
	section := func(name string, port int, balance string, servers []*backend, options func(b *backend) string) {
		fmt.Fprintf(&s, "frontend %s\n  bind 127.0.0.1:%d\n  default_backend %s\nbackend %s\n  balance %s\n  option httpchk GET /health\n  option redispatch\n  retries 2\n",
			name, port, name, name, balance)
		for _, b := range servers {
			fmt.Fprintf(&s, "  server %s %s check inter 10s%s\n", b.name, b.address, options(b))
		}
	}
	section("plain", ports[0], "leastconn", backends, func(*backend) string { return "" })
	section("tuned", ports[1], "leastconn", backends, func(b *backend) string {
		return fmt.Sprintf(" maxconn 1 weight %d", max(1, int(math.Round(100*b.speed/fastest[0].speed))))
	})
	section("first", ports[2], "first", fastest, func(*backend) string { return " maxconn 1" })
	return map[string]string{"haproxy.cfg": s.String()}
}

func nginxFiles(backends []*backend, ports []int) map[string]string {
	conf := fmt.Sprintf(`daemon off;
pid nginx.pid;
worker_processes 1;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
  access_log off;
  client_max_body_size 200m;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream asr {
    zone asr 64k;
    least_conn;
    server %s;
    keepalive 64;
  }
  server {
    listen 127.0.0.1:%d;
    location / {
      proxy_pass http://asr;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_read_timeout 15m;
      proxy_send_timeout 15m;
      proxy_next_upstream error timeout http_502;
    }
  }
}
`, addresses(backends, "; server "), ports[0])
	return map[string]string{"nginx.conf": conf}
}

func traefikFiles(backends []*backend, ports []int) map[string]string {
	var servers []string
	for _, b := range backends {
		servers = append(servers, fmt.Sprintf("{url: 'http://%s'}", b.address))
	}
	static := fmt.Sprintf(`global: {checkNewVersion: false, sendAnonymousUsage: false}
log: {level: ERROR}
entryPoints:
  leasttime: {address: "127.0.0.1:%d", transport: {respondingTimeouts: {readTimeout: 15m}}}
providers: {file: {filename: dynamic.yml}}
`, ports[0])
	dynamic := fmt.Sprintf("http:\n"+`  routers:
    asr: {entryPoints: [leasttime], rule: 'PathPrefix(%s)', service: asr}
  services:
    asr:
      loadBalancer:
        strategy: leasttime
        healthCheck: {path: /health, interval: 10s, timeout: 5s}
        servers: [%s]
`, "`/`", strings.Join(servers, ", "))
	return map[string]string{"traefik.yml": static, "dynamic.yml": dynamic}
}
