package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// TestReloadsUnderLoad: twenty reloads that add, remove and change backends lose and repeat nothing.
func TestReloadsUnderLoad(t *testing.T) {
	var backends []*whisper
	for range 3 {
		backends = append(backends, newWhisper(t, func(s *whisper) { s.slots = 2 }))
	}
	pool := func(i int) string {
		var text strings.Builder
		for n, b := range backends {
			if n > 0 && (i+n)%3 == 0 {
				continue // taken out this time
			}
			fmt.Fprintf(&text, "backend %s T4 {\n\tname b%d\n\tslots %d\n}\n", b.address(), n, 1+i%3)
		}
		fmt.Fprintf(&text, "policy %s\n", []string{"latency_aware", "least_outstanding", "round_robin"}[i%3])
		return text.String()
	}
	p := newProxy(t, pool(0))
	p.ready(3)

	var wg sync.WaitGroup
	var served, resets atomic.Int32
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := p.postWith(context.Background(), transcriptions, nil, wav(1), "model=base")
				if err != nil {
					resets.Add(1)
					continue
				}
				if r.status != http.StatusOK {
					t.Errorf("status %d: %s", r.status, r.body)
					return
				}
				served.Add(1)
			}
		})
	}
	before := p.pool()
	for i := range 20 {
		was := served.Load()
		p.mustLoad(site(p.url, pool(i)))
		eventually(t, "more is served under the new configuration", func() bool { return served.Load() > was+5 || t.Failed() })
	}
	close(stop)
	wg.Wait()
	if p.pool() != before {
		t.Error("a reload made another pool")
	}
	sum, trials := 0, 0 // of clients' jobs, and with the proxy's own audio
	clip := digest(wav(1))
	for _, b := range backends {
		for _, got := range b.requests() {
			if got.fileHash == clip {
				sum++
			} else {
				trials++
			}
		}
	}
	t.Logf("%d served, %d connections reset, %d trials", served.Load(), resets.Load(), trials)
	if int32(sum) != served.Load() || resets.Load() != 0 {
		t.Errorf("%d were served with %d attempts", served.Load(), sum)
	}
	eventually(t, "nothing is left inside", func() bool {
		s := p.pool().dispatcher.Snapshot()
		return s.Running == 0 && s.HeldBytes == 0 && p.pool().uploads.held.Load() == 0
	})
}

// TestQueuedJobRunsOnNewBackend: a job that was queued under one configuration runs on a backend
// that the next one brought.
func TestQueuedJobRunsOnNewBackend(t *testing.T) {
	gate := make(chan struct{})
	stuck, fresh := newWhisper(t), newWhisper(t)
	stuck.answer = held(gate)
	p := newProxy(t, "backend "+stuck.address()+" {\n\tname stuck\n}")
	p.ready(1)
	answers := make(chan response, 2)
	for range 2 {
		go func() {
			r, err := p.postWith(context.Background(), transcriptions, nil, wav(1), "model=base")
			if err != nil {
				t.Error(err)
			}
			answers <- r
		}()
	}
	eventually(t, "one runs, one waits", func() bool {
		return backendRuns(stuck) && p.pool().dispatcher.Snapshot().Queued == 1
	})
	p.mustLoad(site(p.url, "backend "+stuck.address()+" {\n\tname stuck\n}\nbackend "+fresh.address()+" {\n\tname fresh\n}"))
	if r := <-answers; r.status != http.StatusOK || r.header.Get("X-Whisperpool-Backend") != "fresh" {
		t.Errorf("status %d by %s: %s", r.status, r.header.Get("X-Whisperpool-Backend"), r.body)
	}
	// The one that runs goes on although its backend is taken out and its configuration is gone.
	p.mustLoad(site(p.url, "backend "+fresh.address()+" {\n\tname fresh\n}"))
	close(gate)
	if r := <-answers; r.status != http.StatusOK || r.header.Get("X-Whisperpool-Backend") != "stuck" {
		t.Errorf("status %d by %s: %s", r.status, r.header.Get("X-Whisperpool-Backend"), r.body)
	}
}

func backendRuns(s *whisper) bool { return s.running.Load() > 0 }

// TestFailingReloadChangesNothing: whether it fails before or after our app has started.
func TestFailingReloadChangesNothing(t *testing.T) {
	backend, other := newWhisper(t), newWhisper(t)
	p := newProxy(t, "backend "+backend.address()+" {\n\tname good\n}")
	p.ready(1)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	pool := p.pool()
	before := pool.current
	next := "backend " + other.address() + " {\n\tname new\n}\n"
	for what, sites := range map[string]string{
		"a port in use":          site(p.url, next) + "http://" + taken.Addr().String() + " {\n\trespond hi\n}\n",
		"an unknown variable":    site(p.url, "backend "+other.address()+" {\n\theader_up X-Key {env.NO_SUCH_VARIABLE_HERE}\n}"),
		"a spool that is a file": site(p.url, next+"upload {\n\tspool "+p.logs+"\n}"),
		"a recording in a file":  site(p.url, next+"record "+p.logs),
	} {
		for range 5 { // apps start in random order
			if err := p.load(sites); err == nil {
				t.Fatalf("%s: it loaded", what)
			}
			pool.mu.Lock()
			if pool.current != before || len(pool.generations) != 1 {
				t.Errorf("%s: the pool has another configuration", what)
			}
			pool.mu.Unlock()
			p.ready(1)
			if r := p.post(transcriptions, wav(1), "model=base"); r.status != 200 || r.header.Get("X-Whisperpool-Backend") != "good" {
				t.Fatalf("%s: status %d by %s: %s", what, r.status, r.header.Get("X-Whisperpool-Backend"), r.body)
			}
		}
	}
	eventually(t, "the configuration has two references", func() bool { // the app's and the pool's; a probe has one for a moment
		return before.refs.Load() == 2
	})
}

// refusing is an app that does not start.
type refusing struct{}

// whenRefusing is called before it refuses.
var whenRefusing = func() {}

func init() {
	caddy.RegisterModule(refusing{})
	httpcaddyfile.RegisterGlobalOption("refusing", func(*caddyfile.Dispenser, any) (any, error) {
		return httpcaddyfile.App{Name: "refusing", Value: json.RawMessage("{}")}, nil
	})
}

func (refusing) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "refusing", New: func() caddy.Module { return new(refusing) }}
}

func (refusing) Start() error {
	whenRefusing()
	return errors.New("it refuses")
}

func (refusing) Stop() error { return nil }

// TestNothingIsAppliedBeforeAllHasStarted: an app that starts after ours may still refuse.
func TestNothingIsAppliedBeforeAllHasStarted(t *testing.T) {
	p := newProxy(t, "backend "+newWhisper(t).address())
	p.ready(1)
	pool := p.pool()
	before, seen := pool.current, 0
	whenRefusing = func() {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		if len(pool.generations) == 2 {
			seen++
		}
		if pool.current != before {
			t.Error("the configuration was applied though it may fail")
		}
	}
	p.more = "\trefusing\n"
	for range 200 { // apps start in random order
		if err := p.load(site(p.url, "backend "+newWhisper(t).address())); err == nil || !strings.Contains(err.Error(), "it refuses") {
			t.Fatal(err)
		}
		if seen == 3 {
			break
		}
	}
	if seen != 3 {
		t.Errorf("it refused after our app %d times only", seen)
	}
	p.more = ""
	p.mustLoad(site(p.url, "backend "+newWhisper(t).address()))
	if pool.current == before {
		t.Error("one that did not fail was not applied")
	}
}

func TestSecretsMustBeThere(t *testing.T) {
	t.Setenv("EMPTY_KEY", "")
	for value, want := range map[string]string{
		"{env.EMPTY_KEY}":                "{env.EMPTY_KEY} is empty",
		"Bearer {env.NO_SUCH_VARIABLE}":  "{env.NO_SUCH_VARIABLE} is empty",
		"{http.request.header.X-Client}": "unrecognized placeholder {http.request.header.X-Client}",
	} {
		err := provisionOnly("http://127.0.0.1:0 {\n\twhisper_pool {\n\t\tbackend 127.0.0.1:1 {\n\t\t\tname t4\n\t\t\theader_up X-Key \"" + value + "\"\n\t\t}\n\t}\n}\n")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "backend t4: header_up X-Key") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// provisionOnly is what caddy validate does.
func provisionOnly(sites string) error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\n\tadmin off\n\tlog {\n\t\toutput discard\n\t}\n}\n"+sites), nil)
	if err != nil {
		return err
	}
	var parsed caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &parsed); err != nil {
		return err
	}
	return caddy.Validate(&parsed)
}

// TestValidateAsksNobody: validating a configuration opens no connection and starts nothing.
func TestValidateAsksNobody(t *testing.T) {
	backend := newWhisper(t)
	before := runtime.NumGoroutine()
	if err := provisionOnly("http://127.0.0.1:0 {\n\twhisper_pool {\n\t\tbackend " + backend.address() + "\n\t}\n}\n"); err != nil {
		t.Fatal(err)
	}
	if n := backend.probes.Load(); n != 0 {
		t.Errorf("%d probes", n)
	}
	eventually(t, "no more goroutines than before", func() bool { return runtime.NumGoroutine() <= before })
	if _, ok := pools.References(defaultPoolName); ok {
		t.Error("the pool is still there")
	}
}

// TestTwoSitesOnePool: they share queue and slots, and differ in how they read requests.
func TestTwoSitesOnePool(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t, func(s *whisper) { s.models = []string{"base", "large-v3"} })
	backend.answer = held(gate)
	p := newProxy(t, "backend "+backend.address())
	second := "http://" + freeAddress(t)
	p.mustLoad(site(p.url, "backend "+backend.address()+"\ndefault_model base") +
		site(second, "backend "+backend.address()+"\ndefault_model large-v3\nalias turbo large-v3\nupload {\n\tmax_size 1MiB\n}"))
	p.ready(1)
	answers := make(chan response, 2)
	for _, url := range []string{p.url, second} {
		go func() {
			answers <- (&proxy{t: t, url: url}).post(transcriptions, wav(1), "model=whisper-1")
		}()
	}
	eventually(t, "one runs, one waits", func() bool {
		return backendRuns(backend) && p.pool().dispatcher.Snapshot().Queued == 1
	})
	close(gate)
	for range 2 {
		if r := <-answers; r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
	if backend.peak.Load() != 1 {
		t.Errorf("%d at a time on one slot", backend.peak.Load())
	}
	models := map[string]bool{}
	for _, got := range backend.requests() {
		models[got.form["model"][0]] = true
	}
	if !models["base"] || !models["large-v3"] {
		t.Errorf("models asked for: %v", models)
	}
}

func TestPoolsMustAgree(t *testing.T) {
	one := func(pool string) string { return "http://127.0.0.1:8001 {\n\t" + pool + "\n}\n" }
	two := func(pool string) string { return "http://127.0.0.1:8002 {\n\t" + pool + "\n}\n" }
	block := func(name, options string) string { return "whisper_pool " + name + " {\n" + options + "\n}" }
	for what, c := range map[string]struct{ sites, want string }{
		"equal": {one(block("", "backend 10.0.0.1:1 {\n\ttransport http {\n\t\tdial_timeout 2s\n\t\tread_buffer 8KiB\n\t}\n}")) +
			two(block("", "backend 10.0.0.1:1 {\n\ttransport http {\n\t\tread_buffer 8KiB\n\t\tdial_timeout 2s\n\t}\n}\ndefault_model x")), ""},
		"default written out": {one(block("", "backend 10.0.0.1:1")) + two(block("default", "backend 10.0.0.1:1\nattempts 3\npolicy latency_aware")), ""},
		"other slots":         {one(block("", "backend 10.0.0.1:1")) + two(block("", "backend 10.0.0.1:1 {\n\tslots 2\n}")), "these must be equal"},
		"other order":         {one(block("", "backend 10.0.0.1:1\nqueue {\norder shortest_first\n}")) + two(block("", "backend 10.0.0.1:1\nqueue {\nmax_wait 4m\n}")), "these must be equal"},
		"other recording":     {one(block("", "backend 10.0.0.1:1\nrecord /var/lib/a")) + two(block("", "backend 10.0.0.1:1\nrecord /var/lib/b")), "these must be equal"},
		"same recording":      {one(block("", "backend 10.0.0.1:1\nrecord /var/lib/a")) + two(block("", "backend 10.0.0.1:1\nrecord /var/lib/a {\nkeep 10\n}")), ""},
		"other reading":       {one(block("", "backend 10.0.0.1:1\npriority {header.A}\ntenant {header.B}")) + two(block("", "backend 10.0.0.1:1\nqueue {\norder fifo\n}\npriority {header.C}\ntenant {header.D} {\nmax_queued 3\n}")), ""},
		"other budget":        {one(block("", "backend 10.0.0.1:1\nretry_budget 10%")) + two(block("", "backend 10.0.0.1:1\nretry_budget 20%")), "these must be equal"},
		"other hedging":       {one(block("", "backend 10.0.0.1:1\nhedge on")) + two(block("", "backend 10.0.0.1:1")), "these must be equal"},
		"defaults of these":   {one(block("", "backend 10.0.0.1:1\nhedge off\nretry_budget 10%\nbreaker {\nslow_factor 4\n}")) + two(block("", "backend 10.0.0.1:1")), ""},
		"other policy":        {one(block("", "backend 10.0.0.1:1")) + two(block("", "backend 10.0.0.1:1\npolicy random")), "these must be equal"},
		"other name":          {one(block("a", "backend 10.0.0.1:1")) + two(block("b", "backend http://10.0.0.1:1/v1")), "one pool must have it alone"},
		"other address":       {one(block("a", "backend 10.0.0.1:1")) + two(block("b", "backend 10.0.0.1:2")), ""},
		"both TLS and http":   {one(block("", "backend http://10.0.0.1:1 {\n\ttransport http {\n\t\ttls\n\t}\n}")), "the address says http, its transport says TLS"},
	} {
		err := provisionOnly(c.sites)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// TestJSONIsChecked: what a Caddyfile is refused for, JSON is too.
func TestJSONIsChecked(t *testing.T) {
	for handler, want := range map[string]string{
		`{}`:                                    "no backends",
		`{"backends":[{"address":"10.0.0.1"}]}`: "no port",
		`{"backends":[{"address":"10.0.0.1:1","kind":"ray"}]}`:                           "unknown kind",
		`{"backends":[{"address":"10.0.0.1:1","class":"a b"}]}`:                          "GPU class",
		`{"backends":[{"address":"10.0.0.1:1","slots":-1}]}`:                             "slots is -1",
		`{"backends":[{"address":"10.0.0.1:1"},{"address":"http://10.0.0.1:1/"}]}`:       "the same address",
		`{"backends":[{"address":"10.0.0.1:1"}],"policy":"none"}`:                        "unknown policy",
		`{"backends":[{"address":"10.0.0.1:1"}],"attempts":-1}`:                          "attempts is negative",
		`{"backends":[{"address":"10.0.0.1:1"}],"queue":{"max_wait":-1}}`:                "queue.max_wait is negative",
		`{"backends":[{"address":"10.0.0.1:1"}],"aliases":{"a":"b","b":"c"}}`:            "not for another alias",
		`{"backends":[{"address":"10.0.0.1:1"}],"cluster":{}}`:                           "unknown field",
		`{"backends":[{"address":"10.0.0.1:1"}],"retry_budget":1.5}`:                     "retry_budget: 1.5 is not a share",
		`{"backends":[{"address":"10.0.0.1:1"}],"retry_budget":-0.1}`:                    "retry_budget: -0.1 is not a share",
		`{"backends":[{"address":"10.0.0.1:1"}],"breaker":{"slow_factor":1}}`:            "breaker.slow_factor: 1 is not a factor above 1",
		`{"backends":[{"address":"10.0.0.1:1","header_up":{"set":{"Host:":["a"]}}}]}`:    "not a header field",
		`{"backends":[{"address":"10.0.0.1:1"}],"upload":{"spool":"here"}}`:              "not an absolute path",
		`{"backends":[{"address":"10.0.0.1:1"}],"priority":"batch"}`:                     "priority: \"batch\" has no placeholder",
		`{"backends":[{"address":"10.0.0.1:1"}],"tenant":{}}`:                            "tenant.key: \"\" has no placeholder",
		`{"backends":[{"address":"10.0.0.1:1"}],"tenant":{"key":"{a}","max_queued":-1}}`: "tenant.max_queued is negative",
		`{"backends":[{"address":"10.0.0.1:1"}],"record":{}}`:                            "record.folder:  is not an absolute path",
		`{"backends":[{"address":"10.0.0.1:1"}],"record":{"folder":"/a","keep":-1}}`:     "record: keep is less than 1",
		`{"backends":[{"address":"10.0.0.1:1"}],"record":{"folder":"/a","max_size":-1}}`: "record: max_size is less than 1.0 MiB",
		`{"backends":[{"address":"10.0.0.1:1"}],"queue":{"order":"lifo"}}`:               "queue.order: unknown order",
	} {
		config := fmt.Sprintf(`{"admin":{"disabled":true},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}},"apps":{"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[%s]}]}}}}}`,
			`{"handler":"whisper_pool",`+strings.TrimPrefix(handler, "{"))
		config = strings.Replace(config, ",}", "}", 1)
		var parsed caddy.Config
		if err := caddy.StrictUnmarshalJSON([]byte(config), &parsed); err != nil {
			t.Fatal(err)
		}
		if err := caddy.Validate(&parsed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", handler, err, want)
		}
	}
}

// TestNothingLeaks: after starting, serving, reloading and stopping, all goroutines, files and
// references are given back.
func TestNothingLeaks(t *testing.T) {
	backend := newWhisper(t)
	round := func() {
		p := &proxy{t: t, url: "http://" + freeAddress(t)} // logs nothing: Caddy's log writer keeps a goroutine a file
		for i := range 3 {
			p.mustLoad(site(p.url, fmt.Sprintf("backend %s {\n\tslots %d\n\ttransport http {\n\t\tmax_conns_per_host 4\n\t}\n}\nupload {\n\tmemory 1KiB\n}", backend.address(), i+1)))
			p.ready(1)
			for range 3 {
				if r := p.post(transcriptions, wav(5), "model=base"); r.status != http.StatusOK {
					t.Fatalf("status %d: %s", r.status, r.body)
				}
			}
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		client.CloseIdleConnections()
		eventually(t, "the pool is gone", func() bool { _, ok := pools.References(defaultPoolName); return !ok })
	}
	round() // what is made once per process
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 3 {
		round()
	}
	defer func() {
		if t.Failed() {
			t.Logf("%d goroutines of %d, %d files of %d", runtime.NumGoroutine(), goroutines, openFiles(t), files)
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		}
	}()
	eventually(t, "no more goroutines and files than before", func() bool {
		return runtime.NumGoroutine() <= goroutines+2 && openFiles(t) <= files+1
	})
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here to count open files in")
	}
	return len(entries)
}

// TestHealthWhileStopping: requests that run when Caddy stops are finished, /health fails meanwhile.
func TestStopFinishesWhatRuns(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t)
	backend.answer = held(gate)
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	pool := p.pool()
	answers := make(chan response, 2)
	for range 2 { // one runs, one waits
		go func() {
			r, err := p.postWith(context.Background(), transcriptions, nil, wav(1), "model=base")
			if err != nil {
				t.Error(err)
			}
			answers <- r
		}()
	}
	eventually(t, "one runs, one waits", func() bool {
		return backendRuns(backend) && pool.dispatcher.Snapshot().Queued == 1
	})
	stopped := make(chan error, 1)
	go func() { stopped <- caddy.Stop() }()
	eventually(t, "the pool has no configuration any more", func() bool { return !pool.serving() })
	close(gate)
	for range 2 {
		if r := <-answers; r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestRequestsWaitForConfiguration: Caddy may start its HTTP app before ours.
func TestRequestsWaitForConfiguration(t *testing.T) {
	pool := loadPool(t.Name())
	defer pool.release()
	came := make(chan bool, 1)
	go func() { came <- pool.ready(t.Context()) }()
	close(pool.configured)
	if !<-came {
		t.Error("refused")
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if newPool("never").ready(gone) {
		t.Error("a pool without a configuration is ready")
	}
}
