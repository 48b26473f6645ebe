package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// statusSite is a proxy with a pool and the read-only status beside it.
func statusSite(t *testing.T, status, pool string) (p *proxy, admin *proxy) {
	t.Helper()
	p, admin = adminProxy(t, pool)
	p.mustLoad(strings.Replace(site(p.url, pool), "\twhisper_pool {", "\t"+status+"\n\twhisper_pool {", 1))
	return p, admin
}

func (p *proxy) status() (out status, text string) {
	p.t.Helper()
	r := p.get("/whisper_pool/pools")
	if err := json.Unmarshal([]byte(r.body), &out); err != nil || r.status != http.StatusOK {
		p.t.Fatalf("status %d, %v: %s", r.status, err, r.body)
	}
	return out, r.body
}

// TestPoolStatus: jobs that run and wait are told one by one, with what is foretold, and placements once they are over.
func TestPoolStatus(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t, func(s *whisper) { s.answer = held(gate) })
	p, admin := statusSite(t, "whisper_pool_status", "backend "+backend.address()+" T4 {\n\tname t4\n}\npriority {header.X-Priority}")
	p.ready(1)
	done := make(chan response)
	send := func(id, priority string, seconds float64) {
		go func() {
			r, _ := p.postWith(t.Context(), transcriptions, http.Header{"X-Request-Id": {id}, "X-Priority": {priority}}, canaryWAV(seconds), "model=base", "prompt="+canary)
			done <- r
		}()
	}
	send("id-1", "", 30)
	eventually(t, "one runs", func() bool { s, _ := admin.status(); return s.Pools[0].Running == 1 })
	send("id-2", "batch", 8)
	eventually(t, "one waits", func() bool { s, _ := admin.status(); return s.Pools[0].Queued == 1 })
	send("id-3", "interactive", 5)
	eventually(t, "two wait", func() bool { s, _ := admin.status(); return s.Pools[0].Queued == 2 })

	for whose, told := range map[string]*proxy{"operators": admin, "the site": p} {
		s, text := told.status()
		pool := s.Pools[0]
		jobs := pool.Backends[0].Jobs
		if s.Drains != (told == admin) || s.Time.IsZero() || pool.Name != "default" || pool.Slots != 1 || len(jobs) != 1 || jobs[0].Model != "base" ||
			jobs[0].Audio != 30 || jobs[0].Predicted <= 0 || jobs[0].Number != 1 || len(pool.History.Queued) == 0 {
			t.Errorf("%s: %s", whose, text)
		}
		first, second := pool.Waiting[0], pool.Waiting[1]
		if len(pool.Waiting) != 2 || first.Audio != 5 || first.Priority != "interactive" || first.Backend != "t4" || second.Priority != "batch" ||
			first.EndsIn <= first.StartsIn || second.StartsIn != first.EndsIn {
			t.Errorf("%s: what waits is %+v", whose, pool.Waiting)
		}
		if len(pool.Placements) != 1 || !pool.Placements[0].Running || pool.Placements[0].InWords == "" || pool.Placements[0].Reason != "only_one" {
			t.Errorf("%s: placements are %+v", whose, pool.Placements)
		}
	}
	close(gate)
	for range 3 {
		if r := <-done; r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
	eventually(t, "all are over", func() bool {
		s, _ := admin.status()
		return len(s.Pools[0].Placements) == 3 && !slices.ContainsFunc(s.Pools[0].Placements, func(p placementStatus) bool { return p.Outcome != "served" })
	})
	operators, text := admin.status()
	var ids []string
	for _, placed := range operators.Pools[0].Placements {
		ids = append(ids, placed.RequestID)
	}
	if !slices.Equal(ids, []string{"id-2", "id-3", "id-1"}) {
		t.Errorf("the newest first: %v", ids)
	}
	if strings.Contains(text, canary) {
		t.Errorf("something that a client wrote is in %s", text)
	}
	if _, text := p.status(); strings.Contains(text, "id-1") || strings.Contains(text, canary) {
		t.Errorf("the site tells who asked: %s", text)
	}
}

// TestStatusSiteIsReadOnly: a site has no addresses unless told to, shows the pools that it is to show, serves GET alone and
// passes all else on.
func TestStatusSiteIsReadOnly(t *testing.T) {
	a, b := newWhisper(t), newWhisper(t)
	pool := fmt.Sprintf("backend %s {\n\tname rack/a\n}\nbackend %s T4", a.address(), b.address())
	p, admin := statusSite(t, "whisper_pool_status", pool)
	p.ready(2)
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	s, text := p.status()
	var names []scheduler.BackendID
	for _, backend := range s.Pools[0].Backends {
		names = append(names, backend.ID)
	}
	if !slices.Equal(names, []scheduler.BackendID{"rack/a", "backend 2"}) || strings.Contains(text, "127.0.0.1") || strings.Contains(text, a.URL) ||
		strings.Contains(text, "drained\"") || strings.Contains(text, "discover") {
		t.Errorf("the site tells %s", text)
	}
	for _, path := range []string{"/whisper_pool/pools/default/backends/rack%2Fa/drain", "/whisper_pool/pools", "/whisper_pool/"} {
		if r := p.adminPost(path); r.body != "" {
			t.Errorf("POST %s: status %d: %s", path, r.status, r.body)
		}
	}
	if states := poolStates(t, admin.get("/whisper_pool/pools")); states["rack/a"] != "up" {
		t.Errorf("drained by a site: %v", states)
	}
	if r := p.get("/elsewhere"); r.body != "next" {
		t.Errorf("another path: status %d: %s", r.status, r.body)
	}

	load := func(status string) {
		t.Helper()
		p.mustLoad(strings.Replace(site(p.url, pool), "\twhisper_pool {", "\t"+status+"\n\twhisper_pool {", 1))
	}
	load("whisper_pool_status other")
	if s, text := p.status(); len(s.Pools) != 0 || !strings.Contains(text, `"pools":[]`) {
		t.Errorf("of another pool: %s", text)
	}
	load("whisper_pool_status default {\n\t\taddresses on\n\t}")
	if s, text := p.status(); string(s.Pools[0].Backends[1].ID) != b.address() || s.Pools[0].Backends[0].Address != a.address() || s.Drains {
		t.Errorf("with addresses: %s", text)
	}
	load("handle_path /ops/* {\n\t\twhisper_pool_status\n\t}")
	if r := p.get("/ops/whisper_pool/pools"); !strings.Contains(r.body, `"rack/a"`) {
		t.Errorf("below a prefix: status %d: %s", r.status, r.body)
	}
	if r := p.get("/ops/whisper_pool"); r.status != http.StatusOK || !strings.Contains(r.body, "<h1>whisperpool</h1>") { // redirected
		t.Errorf("without the slash: status %d: %s", r.status, r.body)
	}
}

// TestStatusPage: the page runs what we wrote and nothing else, fetches from where it came from, and is the same on both
// endpoints; on the admin endpoint no web page of another origin can drain a backend.
func TestStatusPage(t *testing.T) {
	backend := newWhisper(t)
	p, admin := statusSite(t, "whisper_pool_status", "backend "+backend.address()+" {\n\tname gpu\n}")
	p.ready(1)
	for _, from := range []*proxy{p, admin} {
		r := from.get("/whisper_pool/")
		policy := r.header.Get("Content-Security-Policy")
		if r.status != http.StatusOK || !strings.HasPrefix(r.body, "<!doctype html>") || r.header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("status %d, %v: %s", r.status, r.header, r.body)
		}
		for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("no %q in the policy %q", want, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(r.body, "{{") || strings.Contains(r.body, "innerHTML") || strings.Contains(r.body, " style=") {
			t.Errorf("policy %q, page %s", policy, r.body)
		}
		again, err := send(t.Context(), http.MethodGet, from.url+"/whisper_pool/", http.Header{"If-None-Match": {r.header.Get("ETag")}}, nil)
		if err != nil || again.status != http.StatusNotModified {
			t.Errorf("%v, status %d with its own tag", err, again.status)
		}
	}
	const drain = "/whisper_pool/pools/default/backends/gpu/drain"
	for name, header := range map[string]http.Header{
		"another origin":      {"Origin": {"http://elsewhere.example"}},
		"no origin is told":   {"Origin": {"null"}},
		"a form of elsewhere": {"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"cross-site"}, "Referer": {"http://elsewhere.example/"}},
		"a disguised one":     {"Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Site": {"cross-site"}},
	} {
		r, err := send(t.Context(), http.MethodPost, admin.url+drain, header, nil)
		if err != nil || r.status != http.StatusForbidden && r.status != http.StatusBadRequest {
			t.Errorf("%s: %v, status %d: %s", name, err, r.status, r.body)
		}
	}
	if states := poolStates(t, admin.get("/whisper_pool/pools")); states["gpu"] != "up" {
		t.Errorf("drained from elsewhere: %v", states)
	}
	r, err := send(t.Context(), http.MethodPost, admin.url+drain, http.Header{"Origin": {admin.url}, "Sec-Fetch-Mode": {"cors"}}, nil)
	if err != nil || r.status != http.StatusOK {
		t.Errorf("%v, the page itself: status %d: %s", err, r.status, r.body)
	}
}

// TestHistory: it has samples in the order of time, no more than it keeps, and counts no less when a backend goes.
func TestHistory(t *testing.T) {
	var h history
	for i := range historyKept + 10 {
		served := uint64(i)
		if i == historyKept+9 {
			served = 3 // the others are gone
		}
		h.add(scheduler.Snapshot{Queued: i, Running: i % 3, Backends: []scheduler.BackendSnapshot{{Served: served}, {Served: served}}})
	}
	got := h.lately()
	if len(got.Queued) != historyKept || len(got.Running) != historyKept || len(got.Served) != historyKept || got.Queued[0] != 10 ||
		got.Queued[historyKept-1] != historyKept+9 || got.Served[5] != 2 || got.Served[historyKept-1] != 0 || got.Every != 5 {
		t.Errorf("%+v", got)
	}
}

// TestStatusDirective: what is written wrong is told with its place.
func TestStatusDirective(t *testing.T) {
	for text, want := range map[string]string{
		"whisper_pool_status a a":                            "pool a is given twice, at Caddyfile:2",
		"whisper_pool_status {\n\t\taddresses maybe\n\t}":    "addresses on|off",
		"whisper_pool_status {\n\t\tdrain on\n\t}":           "has no option drain; it has addresses",
		"whisper_pool_status \"two words\"":                  "use up to 128 printable characters",
		"whisper_pool_status @any one two {\n\taddresses\n}": "addresses on|off",
	} {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":80 {\n\t@any path /*\n\t"+text+"\n}\n"), map[string]any{"filename": "Caddyfile"})
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "Caddyfile:3", "Caddyfile:2"), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":80 {\n\twhisper_pool_status /whisper_pool/* one two {\n\t\taddresses on\n\t}\n}\n"), nil)
	if err != nil || !strings.Contains(string(config), `"addresses":true,"handler":"whisper_pool_status","pools":["one","two"]`) {
		t.Errorf("%v: %s", err, config)
	}
}

// BenchmarkStatus is what a look at a hundred backends costs that work on two jobs each, as many as they are given
// before they have answered any, with 800 that wait.
func BenchmarkStatus(b *testing.B) {
	p := newPool("bench")
	var config scheduler.Config
	for i := range 100 {
		config.Backends = append(config.Backends, scheduler.Backend{ID: scheduler.BackendID(fmt.Sprintf("backend-%d", i)), Class: "T4", Slots: 4,
			Models: []string{"base"}, Prior: scheduler.Law{PerSecond: time.Millisecond}})
	}
	if err := p.dispatcher.Configure(config); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			p.dispatcher.Run(ctx, scheduler.Job{Model: "base", AudioSeconds: 10}, func(ctx context.Context, _ dispatcher.Attempt) scheduler.Outcome {
				<-ctx.Done()
				return scheduler.Outcome{Result: scheduler.Aborted}
			})
		})
	}
	for s := p.dispatcher.Snapshot(); s.Running+s.Queued < 1000; s = p.dispatcher.Snapshot() {
		runtime.Gosched()
	}
	text, err := json.Marshal(p.status(forOperators))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = json.Marshal(p.status(forOperators))
	}
	b.ReportMetric(float64(len(text)), "B/document")
	cancel()
	all.Wait()
	if err := p.Destruct(); err != nil {
		b.Fatal(err)
	}
}
