package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
)

// scaleOf reads the signal by paths, as KEDA does.
func scaleOf(t *testing.T, r response) func(path ...string) float64 {
	t.Helper()
	var whole any
	if err := json.Unmarshal([]byte(r.body), &whole); err != nil || r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	return func(path ...string) float64 {
		t.Helper()
		at := whole
		for _, key := range append([]string{"pools", "default"}, path...) {
			fields, _ := at.(map[string]any)
			at = fields[key]
		}
		number, ok := at.(float64)
		if !ok {
			t.Fatalf("%v is no number in %s", path, r.body)
		}
		return number
	}
}

// TestAutoscale: each number is at the same path from the first moment on, also of classes without a backend; what
// waits goes to the class that is to serve it, or is told as unserved.
func TestAutoscale(t *testing.T) {
	gate := make(chan struct{})
	a, b := newWhisper(t, func(s *whisper) { s.answer = held(gate) }), newWhisper(t, func(s *whisper) { s.answer = held(gate) })
	pool := fmt.Sprintf("backend %s H100 {\n\tname a\n\tslots 2\n}\nbackend %s {\n\tname b\n}\ndiscover a nobody.invalid 8000 T4 {\n\tslots 4\n}", a.address(), b.address())
	p, admin := adminProxy(t, pool)
	path := "/whisper_pool/autoscale"
	at := scaleOf(t, admin.get(path)) // whatever has been found out by now
	if at("classes", "T4", "work") != 0 || at("classes", "T4", "slots_per_backend") != 4 || at("classes", "T4", "wanted_backends") != 0 || at("classes", "T4", "backends") != 0 {
		t.Errorf("%s", admin.get(path).body)
	}
	p.ready(2)
	at = scaleOf(t, admin.get(path))
	if at("work") != 0 || at("slots") != 3 || at("ready") != 2 || at("backends") != 2 || at("saturation") != 0 ||
		at("classes", "H100", "slots") != 2 || at("classes", "unnamed", "slots") != 1 {
		t.Errorf("%s", admin.get(path).body)
	}
	done := make(chan response, 9)
	for range 9 {
		go func() {
			r, err := p.postWith(t.Context(), transcriptions, nil, wav(1), "model=base")
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
	}
	eventually(t, "three run, six wait", func() bool {
		s := p.pool().dispatcher.Snapshot()
		return s.Running == 3 && s.Queued == 6
	})
	at = scaleOf(t, admin.get(path))
	work := at("classes", "H100", "work") + at("classes", "unnamed", "work")
	if at("work") != 9 || at("running") != 3 || at("queued") != 6 || at("saturation") != 3 || at("unserved") != 0 || work < 8.999 || work > 9.001 ||
		at("classes", "H100", "running") != 2 || at("classes", "H100", "queued") <= at("classes", "unnamed", "queued") ||
		at("classes", "H100", "wanted_backends") < 4 || at("oldest_wait_s") <= 0 {
		t.Errorf("%s", admin.get(path).body)
	}
	// Those that wait while nobody takes any are nobody's. Those that run go on.
	for _, id := range []string{"a", "b"} {
		if r := admin.adminPost("/whisper_pool/pools/default/backends/" + id + "/drain"); r.status != http.StatusOK {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
	}
	if at = scaleOf(t, admin.get(path)); at("unserved") != at("queued") || at("ready") != 0 || at("slots") != 0 || at("saturation") != at("work") || at("classes", "H100", "queued") != 0 {
		t.Errorf("%s", admin.get(path).body)
	}
	close(gate)
	served := 0
	for range 9 {
		switch r := <-done; r.status {
		case http.StatusOK:
			served++
		case http.StatusServiceUnavailable:
		default:
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
	if at = scaleOf(t, admin.get(path)); served != 3 || at("turned_away") != 6 || at("work") != 0 {
		t.Errorf("%d were served; %s", served, admin.get(path).body)
	}
	if r := admin.adminPost(path); r.status != http.StatusMethodNotAllowed {
		t.Errorf("status %d: %s", r.status, r.body)
	}
}

// TestAutoscaleOnASite: where the admin endpoint can't be reached, a site has the same.
func TestAutoscaleOnASite(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address()+" T4")
	status := "http://" + freeAddress(t)
	p.mustLoad(site(p.url, "backend "+backend.address()+" T4") + status + " {\n\twhisper_pool_status\n}\n")
	p.ready(1)
	r, err := persistent(func() (response, error) {
		return send(t.Context(), http.MethodGet, status+"/whisper_pool/autoscale", nil, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if at := scaleOf(t, r); at("classes", "T4", "ready") != 1 || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s", r.body)
	}
}
