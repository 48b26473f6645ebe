package caddymodule

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

func TestModels(t *testing.T) {
	ours := newWhisper(t, func(s *whisper) { s.models = []string{"base", "Systran/faster-whisper-tiny"} })
	openai := newWhisper(t, func(s *whisper) { s.kind, s.models = "openai", []string{"large-v3"} })
	theirs := newWhisper(t, func(s *whisper) { s.kind = "whisper_server" })
	p := newProxy(t, fmt.Sprintf("backend %s\nbackend %s\nbackend %s {\n\tmodels small\n}\nalias tiny base", ours.address(), openai.address(), theirs.address()))
	r := p.get("/v1/models")
	var list struct {
		Object string
		Data   []model
	}
	if err := json.Unmarshal([]byte(r.body), &list); err != nil || r.status != 200 || list.Object != "list" {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	var names []string
	for _, m := range list.Data {
		names = append(names, m.ID)
		if m.Object != "model" || m.OwnedBy == "" || m.Created == 0 {
			t.Errorf("%+v", m)
		}
	}
	if want := []string{"Systran/faster-whisper-tiny", "base", "large-v3", "small", "tiny"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	for _, id := range []string{"tiny", "Systran/faster-whisper-tiny", "Systran%2Ffaster-whisper-tiny"} {
		if r := p.get("/v1/models/" + id); r.status != 200 || !strings.Contains(r.body, `"object":"model"`) {
			t.Errorf("%s: status %d: %s", id, r.status, r.body)
		}
	}
	r = p.get("/v1/models/huge")
	if message, code := r.problem(t); r.status != 404 || code != "model_not_found" || !strings.Contains(message, "large-v3") {
		t.Errorf("status %d, %s: %s", r.status, code, message)
	}
	// Each is asked in its own way.
	for model, at := range map[string]*whisper{"base": ours, "large-v3": openai, "small": theirs} {
		if r := p.post(transcriptions, wav(1), "model="+model); r.status != http.StatusOK || len(at.requests()) != 1 {
			t.Errorf("%s: status %d, %d requests: %s", model, r.status, len(at.requests()), r.body)
		}
	}
}

// TestBackendComesLater: one that is not there when the proxy starts is found without a reload.
func TestBackendComesLater(t *testing.T) {
	address := freeAddress(t)
	p := newProxy(t, "backend "+address)
	pool := p.pool()
	eventually(t, "the first probe has ended", func() bool { return pool.catalogue.Load().pending == 0 })
	if r := p.get("/health?pool"); r.status != http.StatusServiceUnavailable {
		t.Errorf("/health?pool: %d", r.status)
	}
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusServiceUnavailable {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &whisper{models: []string{"base"}, slots: 3, kind: "whisperpool"}
	s.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: s}}
	s.Start()
	defer s.Close()
	pool.probeSoon(scheduler.BackendID(address)) // instead of waiting for the interval
	p.ready(1)
	if r := p.get("/health?pool"); r.status != http.StatusOK {
		t.Errorf("/health?pool: %d: %s", r.status, r.body)
	}
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	if slots := pool.dispatcher.Snapshot().Backends[0].Slots; slots != 3 {
		t.Errorf("%d slots", slots)
	}
}

// TestAnotherServerAtKnownName: what was found out about the old address does not hold for the new.
func TestAnotherServerAtKnownName(t *testing.T) {
	old := newWhisper(t)
	other := newWhisper(t, func(s *whisper) { s.kind, s.models = "openai", []string{"large-v3"} })
	p := newProxy(t, "backend "+old.address()+" {\n\tname gpu\n}")
	p.ready(1)
	p.mustLoad(site(p.url, "backend "+other.address()+" {\n\tname gpu\n}"))
	eventually(t, "the new one's models are known", func() bool { return p.pool().catalogue.Load().has("large-v3") })
	p.ready(1)
	if r := p.post(transcriptions, wav(1), "model=large-v3"); r.status != http.StatusOK || len(other.requests()) != 1 {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	if p.pool().catalogue.Load().has("base") {
		t.Error("the old one's models are still known")
	}
}

// TestReloadKeepsWhatIsKnown: a reload that changes nothing of a backend asks it nothing anew.
func TestReloadKeepsWhatIsKnown(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	before := p.pool().member(scheduler.BackendID(backend.address()))
	p.mustLoad(site(p.url, "backend "+backend.address()+" {\n\tslots 2\n}"))
	if countUsable(p.pool().dispatcher.Snapshot()) != 1 {
		t.Error("the backend had to be found again")
	}
	if p.pool().member(scheduler.BackendID(backend.address())) != before {
		t.Error("the prober was restarted")
	}
	if slots := p.pool().dispatcher.Snapshot().Backends[0].Slots; slots != 2 {
		t.Errorf("%d slots", slots)
	}
}

// TestProbesAreNotLimited: a limit of connections that a transcription uses up does not stop probes.
func TestProbesAreNotLimited(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t, func(s *whisper) { s.slots = 4 })
	backend.answer = held(gate)
	p := newProxy(t, "backend "+backend.address()+" {\n\ttransport http {\n\t\tmax_conns_per_host 1\n\t}\n}")
	p.ready(1)
	done := make(chan response, 1)
	go func() {
		r, err := p.postWith(context.Background(), transcriptions, nil, wav(1), "model=base")
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	eventually(t, "the only connection is in use", func() bool { return backendRuns(backend) })
	was := backend.probes.Load()
	p.pool().probeSoon(scheduler.BackendID(backend.address()))
	eventually(t, "a probe came through", func() bool { return backend.probes.Load() > was })
	close(gate)
	if r := <-done; r.status != http.StatusOK {
		t.Errorf("status %d: %s", r.status, r.body)
	}
}

// TestStaleConnectionIsRedialled: a backend that closes kept connections without a word costs nobody
// an attempt.
func TestStaleConnectionIsRedialled(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var broken, answered atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go oneAnswerAConnection(conn, &broken, &answered)
		}
	}()
	p := newProxy(t, "backend "+listener.Addr().String()+" {\n\tkind openai\n\tmodels base\n\tname cranky\n}\nattempts 1")
	p.ready(1)
	for i := range 5 {
		r := p.post(transcriptions, wav(5), "model=base")
		if r.status != http.StatusOK || r.header.Get("X-Whisperpool-Attempts") != "1" {
			t.Fatalf("request %d: status %d: %s", i, r.status, r.body)
		}
	}
	if broken.Load() == 0 || answered.Load() != 5 {
		t.Errorf("%d connections broke, %d transcriptions were answered", broken.Load(), answered.Load())
	}
}

// oneAnswerAConnection answers one request, promises to keep the connection, and closes it when the
// next transcription comes.
func oneAnswerAConnection(conn net.Conn, broken, answered *atomic.Int32) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for first := true; ; first = false {
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body := `{"text":"ask not what"}`
		switch {
		case req.Method == http.MethodGet:
			body = `{"object":"list","data":[{"id":"base"}]}`
		case !first:
			broken.Add(1)
			return
		default:
			answered.Add(1)
		}
		_, _ = io.Copy(io.Discard, req.Body)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

// TestSlotsAreDiscovered: where neither configuration nor backend tells, more jobs side by side are
// tried while throughput rises; but not on a server that lets them wait, nor where the number is told.
func TestSlotsAreDiscovered(t *testing.T) {
	for name, c := range map[string]struct {
		kind, options string
		most          int32 // side by side; 0: more than one
	}{
		"openai":             {"openai", "", 0}, // a gain that shows on a busy machine too
		"whisper_server":     {"whisper_server", "", 1},
		"configured":         {"openai", "slots 1", 1},
		"reported":           {"whisperpool", "", 1},
		"a kind that is set": {"whisper_server", "kind whisper_server", 1},
	} {
		t.Run(name, func(t *testing.T) {
			backend := newWhisper(t, func(s *whisper) { s.kind = c.kind })
			backend.answer = taking(100 * time.Millisecond)
			if c.most > 0 {
				backend.answer = taking(time.Millisecond)
			}
			p := newProxy(t, "backend "+backend.address()+" {\n"+c.options+"\n}\ndefault_model base")
			p.ready(1)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						r, err := p.postWith(context.Background(), transcriptions, nil, wav(1), "model=whisper-1")
						if err != nil || r.status != http.StatusOK {
							t.Errorf("%v, status %d: %s", err, r.status, r.body)
							return
						}
					}
				})
			}
			slots := func() int { return p.pool().dispatcher.Snapshot().Backends[0].Slots }
			eventually(t, "slots are discovered, or have had the time to be", func() bool {
				return c.most == 0 && slots() > 1 || c.most > 0 && len(backend.requests()) > 100 || t.Failed()
			})
			close(stop)
			wg.Wait()
			if peak := backend.peak.Load(); c.most > 0 && peak != c.most || peak < 1 {
				t.Errorf("%d side by side with %d slots", peak, slots())
			}
		})
	}
}
