package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestMetrics: they are there from the first configuration, go on over reloads, and follow the
// configuration.
func TestMetrics(t *testing.T) {
	gate := make(chan struct{})
	a, b := newWhisper(t, func(s *whisper) { s.slots = 2 }), newWhisper(t)
	metrics := "http://" + freeAddress(t)
	sites := func(url, pool string) string {
		return site(url, pool) + metrics + " {\n\tmetrics /metrics\n}\n"
	}
	p := newProxy(t, "backend "+a.address()+" T4 {\n\tname a\n}")
	scrape := func() string {
		r, err := persistent(func() (response, error) { return send(t.Context(), http.MethodGet, metrics+"/metrics", nil, nil) })
		if err != nil || r.status != http.StatusOK {
			t.Fatalf("%v, status %d: %s", err, r.status, r.body)
		}
		return r.body
	}
	p.mustLoad(sites(p.url, "backend "+a.address()+" T4 {\n\tname a\n}"))
	p.ready(1)
	number := func(text, series string) (n float64) {
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, series+" "); ok {
				_, _ = fmt.Sscan(rest, &n)
				return n
			}
		}
		return -1
	}
	before := scrape()
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	if r := p.post(transcriptions, nil, "model=base"); r.status != http.StatusBadRequest {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	p.mustLoad(sites(p.url, "backend "+a.address()+" T4 {\n\tname a\n}\nbackend "+b.address()+" {\n\tname b\n}"))
	p.ready(2)
	after := scrape()
	for _, series := range []string{
		`whisperpool_requests_total{outcome="served",pool="default"}`,
		`whisperpool_requests_total{outcome="invalid",pool="default"}`,
		`whisperpool_attempts_total{class="T4",pool="default",result="success",upstream="a"}`,
		`whisperpool_queue_seconds_count{pool="default"}`,
		`whisperpool_service_seconds_count{class="T4",pool="default",upstream="a"}`,
		`whisperpool_service_seconds_bucket{class="T4",pool="default",upstream="a",le="600"}`,
	} {
		if got := number(after, series) - max(0, number(before, series)); got != 1 {
			t.Errorf("%s rose by %v", series, got)
		}
	}
	for series, want := range map[string]float64{
		`whisperpool_backend_up{class="T4",pool="default",upstream="a"}`:        1,
		`whisperpool_backend_slots{class="T4",pool="default",upstream="a"}`:     2,
		`whisperpool_backend_up{class="",pool="default",upstream="b"}`:          1,
		`whisperpool_backend_outstanding{class="",pool="default",upstream="b"}`: 0,
		`whisperpool_queue_depth{pool="default"}`:                               0,
		`whisperpool_upload_bytes{place="memory",pool="default"}`:               0,
	} {
		if got := number(after, series); got != want {
			t.Errorf("%s is %v, not %v", series, got, want)
		}
	}
	if number(before, `whisperpool_backend_up{class="",pool="default",upstream="b"}`) != -1 {
		t.Error("b was there before it was configured")
	}

	a.answer, b.answer = held(gate), held(gate)
	done := make(chan response, 5)
	for range 5 { // on three slots
		go func() {
			r, err := p.postWith(context.Background(), transcriptions, nil, wav(1), "model=base")
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
	}
	eventually(t, "three run, two wait", func() bool {
		s := p.pool().dispatcher.Snapshot()
		return s.Running == 3 && s.Queued == 2
	})
	busy := scrape()
	for series, want := range map[string]float64{
		`whisperpool_backend_outstanding{class="T4",pool="default",upstream="a"}`: 2,
		`whisperpool_backend_outstanding{class="",pool="default",upstream="b"}`:   1,
		`whisperpool_queue_depth{pool="default"}`:                                 2,
		`whisperpool_upload_bytes{place="memory",pool="default"}`:                 float64(5 * len(wav(1))),
	} {
		if got := number(busy, series); got != want {
			t.Errorf("%s is %v, not %v", series, got, want)
		}
	}
	close(gate)
	for range 5 {
		if r := <-done; r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
}

func TestHealth(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	for _, path := range []string{"/health", "/health?pool"} {
		if r := p.get(path); r.status != http.StatusOK || !strings.Contains(r.body, `"status":"ok"`) {
			t.Errorf("%s: status %d: %s", path, r.status, r.body)
		}
	}
	if r, err := send(t.Context(), http.MethodHead, p.url+"/health", nil, nil); err != nil || r.status != 200 || r.body != "" {
		t.Errorf("HEAD: %v, %+v", err, r)
	}
	// The pool's configuration goes while its site is still there, as when Caddy stops its apps.
	pool := p.pool()
	pool.mu.Lock()
	kept := pool.generations
	pool.generations = nil
	pool.mu.Unlock()
	for _, path := range []string{"/health", "/health?pool"} {
		if r := p.get(path); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d: %s", path, r.status, r.body)
		}
	}
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Errorf("requests are still served then: status %d: %s", r.status, r.body)
	}
	pool.mu.Lock()
	pool.generations = kept
	pool.mu.Unlock()
}

// TestHealthInShutdownDelay: Caddy serves on for its shutdown_delay, and /health fails meanwhile.
func TestHealthInShutdownDelay(t *testing.T) {
	backend := newWhisper(t)
	// Not by a reload: while the listeners of the configuration before are still there, Caddy does not delay.
	p := &proxy{t: t, url: "http://" + freeAddress(t), logs: filepath.Join(t.TempDir(), "caddy.log")}
	config := strings.Replace(globalOptions(p.logs), "grace_period 5s", "grace_period 5s\n\tshutdown_delay 3s", 1) +
		site(p.url, "backend "+backend.address())
	if err := loadText(config); err != nil {
		t.Fatal(err)
	}
	p.ready(1)
	stopped := make(chan error, 1)
	go func() { stopped <- caddy.Stop() }()
	eventually(t, "/health fails", func() bool {
		r, err := send(t.Context(), http.MethodGet, p.url+"/health", nil, nil)
		return err == nil && r.status == http.StatusServiceUnavailable
	})
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
