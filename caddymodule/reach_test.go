package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestNothingElseIsReached: a site with the pool lets nobody at Caddy's own endpoints, nor at what backends serve
// besides: swapping models, metrics, an emulator's faults. All other paths are the next handler's.
func TestNothingElseIsReached(t *testing.T) {
	var mu sync.Mutex
	reached := map[string]bool{}
	backend := &whisper{models: []string{"base"}, slots: 1, kind: "whisperpool"}
	backend.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		reached[r.Method+" "+r.URL.Path] = true
		mu.Unlock()
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		backend.CloseClientConnections()
		backend.Close()
	})
	p, admin := adminProxy(t, "backend "+backend.address())
	if r := admin.get("/whisper_pool/pools"); r.status != http.StatusOK {
		t.Fatalf("the admin endpoint is not there, so this shows nothing: status %d", r.status)
	}
	p.mustLoad(fmt.Sprintf("%s {\n\troute {\n\t\twhisper_pool {\n\t\t\tbackend %s\n\t\t}\n\t\trespond \"next\" 203\n\t}\n}\n", p.url, backend.address()))
	p.ready(1)
	body, contentType := form(wav(1), "model=base")
	ask := func(method, path string) response {
		return p.persist(func() (response, error) {
			return send(t.Context(), method, p.url+path, http.Header{"Content-Type": {contentType}}, body)
		})
	}
	others := []string{
		"/", "/config/", "/config/apps/http", "/load", "/adapt", "/stop", "/id/x", "/reverse_proxy/upstreams", "/pki/ca/local", "/debug/pprof/",
		"/debug/vars", "/metrics", "/whisper_pool/pools", "/whisper_pool/pools/default/backends/x/drain", "/load-report", "/v1/load",
		"/emulator/fault", "/emulator/fault/", "/emulator", "/inference/", "//inference", "/inference/../load", "/INFERENCE", "/v1/audio/transcriptions/",
		"/v1/audio/speech", "/asr/../emulator/fault", "/v1/models/", "/status/",
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		for _, path := range others {
			if r := ask(method, path); r.status != 203 || r.body != "next" {
				t.Errorf("%s %s: status %d: %s", method, path, r.status, r.body)
			}
		}
	}
	// These begin as one of ours does, and mean a model that is called so.
	for _, path := range []string{"/v1/models/../load", "/v1/models/..%2Femulator%2Ffault", "/v1/models/x/load", "/v1/models/base?x=/load"} {
		if r := ask(http.MethodGet, path); r.status != http.StatusNotFound && !strings.Contains(path, "base") {
			t.Errorf("GET %s: status %d: %s", path, r.status, r.body)
		}
	}
	if r := ask(http.MethodPost, transcriptions); r.status != http.StatusOK {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(reached) != 2 || !reached["GET /load-report"] || !reached["POST "+transcriptions] { // a health check, and the last request
		t.Errorf("the backend was asked for %v", reached)
	}
}
