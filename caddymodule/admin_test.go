package caddymodule

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// adminProxy is a proxy with Caddy's admin endpoint.
func adminProxy(t *testing.T, pool string) (p *proxy, admin *proxy) {
	t.Helper()
	address := freeAddress(t)
	p = &proxy{t: t, url: "http://" + freeAddress(t), logs: filepath.Join(t.TempDir(), "caddy.log"), more: ownListener, admin: address}
	t.Cleanup(func() {
		p.admin = "off" // Caddy stops the endpoint with the next configuration only
		p.mustLoad(site(p.url, pool))
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	p.mustLoad(site(p.url, pool))
	return p, &proxy{t: t, url: "http://" + address}
}

func (p *proxy) adminPost(path string) response {
	p.t.Helper()
	return p.persist(func() (response, error) { return send(p.t.Context(), http.MethodPost, p.url+path, nil, nil) })
}

func poolStates(t *testing.T, r response) map[string]string {
	t.Helper()
	var got struct{ Pools []poolStatus }
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != http.StatusOK || len(got.Pools) != 1 {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	states := map[string]string{}
	for _, b := range got.Pools[0].Backends {
		states[string(b.ID)] = b.State
	}
	return states
}

// TestDrain: an operator has a backend left alone, over reloads and restarts, until he takes that back.
func TestDrain(t *testing.T) {
	a, b := newWhisper(t), newWhisper(t)
	pool := "backend " + a.address() + " {\n\tname rack/a\n}\nbackend " + b.address() + " {\n\tname b\n}\npolicy round_robin"
	p, admin := adminProxy(t, pool)
	p.ready(2)
	drain := "/whisper_pool/pools/default/backends/" + url.PathEscape("rack/a")
	if r := admin.adminPost(drain + "/drain"); r.status != http.StatusOK || !strings.Contains(r.body, `"drained":["rack/a"]`) {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	goesTo := func(what string, names ...string) {
		t.Helper()
		seen := map[string]bool{}
		for range 6 {
			r := p.post(transcriptions, wav(1), "model=base")
			if r.status != http.StatusOK {
				t.Fatalf("%s: status %d: %s", what, r.status, r.body)
			}
			seen[r.header.Get("X-Whisperpool-Backend")] = true
		}
		for _, name := range names {
			if !seen[name] {
				t.Errorf("%s: nothing went to %s", what, name)
			}
		}
		if len(seen) != len(names) {
			t.Errorf("%s: served by %v", what, seen)
		}
	}
	goesTo("drained", "b")
	if states := poolStates(t, admin.get("/whisper_pool/pools")); states["rack/a"] != "drained" || states["b"] != "up" {
		t.Errorf("states %v", states)
	}
	p.mustLoad(site(p.url, pool+"\nattempts 2"))
	goesTo("after a reload", "b")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pool is gone", func() bool { _, ok := pools.References(defaultPoolName); return !ok })
	p.mustLoad(site(p.url, pool))
	p.ready(1)
	goesTo("after a restart", "b")
	if r := admin.adminPost(drain + "/undrain"); r.status != http.StatusOK || !strings.Contains(r.body, `"drained":[]`) {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	p.ready(2)
	goesTo("undrained", "rack/a", "b")
}

func TestAdminRefuses(t *testing.T) {
	backend := newWhisper(t)
	p, admin := adminProxy(t, "backend "+backend.address()+" {\n\tname gpu\n}")
	p.ready(1)
	for path, want := range map[string]string{
		"/whisper_pool/pools/other/backends/gpu/drain":     `there is no pool \"other\"; there are default`,
		"/whisper_pool/pools/default/backends/a%2Fb/drain": `there is no backend \"a/b\"; there are gpu`,
		"/whisper_pool/pools/default/backends/gpu/stop":    "there are GET /whisper_pool/pools",
		"/whisper_pool/pools/default":                      "there are GET /whisper_pool/pools",
	} {
		r := admin.adminPost(path)
		if r.status != http.StatusNotFound || !strings.Contains(r.body, want) {
			t.Errorf("%s: status %d: %s", path, r.status, r.body)
		}
	}
	if r := admin.get("/whisper_pool/pools/default/backends/gpu/drain"); r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != http.MethodPost {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	if r := admin.adminPost("/whisper_pool/"); r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != http.MethodGet {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	if r := p.get("/whisper_pool/pools"); r.body != "" {
		t.Errorf("on a site: %s", r.body)
	}
}
