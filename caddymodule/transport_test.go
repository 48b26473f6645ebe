package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/scheduler"
)

// TestSpoolsToFile: an upload beyond the memory is in a nameless file, and whole at each attempt.
func TestSpoolsToFile(t *testing.T) {
	gate := make(chan struct{})
	bad, good := newWhisper(t), newWhisper(t)
	bad.answer = func(http.ResponseWriter, *http.Request, sent) { panic(http.ErrAbortHandler) }
	good.answer = held(gate)
	dir := t.TempDir()
	p := newProxy(t, fmt.Sprintf("backend %s {\n\tname bad\n}\nbackend %s {\n\tname good\n\tmodels base\n}\npolicy round_robin\nupload {\n\tmemory 1KiB\n\tspool %s\n}",
		bad.address(), good.address(), dir))
	p.ready(2)
	clip := wav(20)
	done := make(chan response, 2)
	for range 2 { // in turn, so one of them goes to the bad one first
		go func() {
			r, err := p.postWith(context.Background(), transcriptions, nil, clip, "model=base")
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
	}
	eventually(t, "both uploads are held, one runs", func() bool {
		return p.pool().uploads.held.Load() == 2*int64(len(clip)) && backendRuns(good) && len(bad.requests()) > 0
	})
	if memory := p.pool().uploads.memory.Load(); memory != 0 {
		t.Errorf("%d bytes in memory", memory)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("files with names: %v, %v", entries, err)
	}
	close(gate)
	for range 2 {
		if r := <-done; r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
	for _, got := range append(good.requests(), bad.requests()...) {
		if got.header.Get("X-Request-Id") == "trial" { // of the one that died
			continue
		}
		if got.fileHash != digest(clip) {
			t.Errorf("%d bytes reached a backend, not the %d that were sent", got.fileSize, len(clip))
		}
	}
}

// TestHTTPSBackend: TLS is used where the address says so, and certificates are checked unless told
// otherwise.
func TestHTTPSBackend(t *testing.T) {
	s := &whisper{models: []string{"base"}, slots: 1, kind: "whisperpool"}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	p := newProxy(t, "backend "+s.URL+" {\n\tname secure\n}")
	pool := p.pool()
	eventually(t, "the first probe has ended, and is told of", func() bool {
		return pool.catalogue.Load().pending == 0 && strings.Contains(p.log(), "its certificate is not accepted")
	})
	if countUsable(pool.dispatcher.Snapshot()) != 0 {
		t.Errorf("a certificate of unknown origin was accepted: %s", p.log())
	}
	p.mustLoad(site(p.url, "backend "+s.URL+" {\n\tname secure\n\ttransport http {\n\t\ttls_insecure_skip_verify\n\t}\n}"))
	pool.probeSoon(scheduler.BackendID("secure"))
	p.ready(1)
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Errorf("status %d: %s", r.status, r.body)
	}
}

// TestHeadersToBackend: each way of writing header_up does what it does in reverse_proxy, and a value
// that looks like a placeholder after it was expanded is left alone.
func TestHeadersToBackend(t *testing.T) {
	t.Setenv("ODD_KEY", "{env.HOME}")
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address()+` {
		header_up Authorization {env.ODD_KEY}
		header_up +X-Tag one
		header_up -User-Agent
		header_up Host gpu.internal
		header_up X-Request-Id ^(.*)$ r-$1
	}`)
	p.ready(1)
	r, err := p.postWith(t.Context(), transcriptions, http.Header{"X-Request-Id": {"7"}}, wav(1), "model=base")
	if err != nil || r.status != http.StatusOK {
		t.Fatalf("%v, status %d: %s", err, r.status, r.body)
	}
	got := backend.requests()[0].header
	for name, want := range map[string]string{"Authorization": "{env.HOME}", "X-Tag": "one", "X-Request-Id": "r-7"} {
		if got.Get(name) != want || len(got[name]) != 1 {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if host := backend.requests()[0].host; host != "gpu.internal" {
		t.Errorf("Host: %s", host)
	}
	if agent := got.Get("User-Agent"); strings.Contains(agent, "whisperpool") {
		t.Errorf("User-Agent: %s", agent)
	}
}
