package caddymodule

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/whisperpool/whisperpool/scheduler"
)

func init() {
	caddy.RegisterModule(faultyTransport{})
	caddy.RegisterModule(faultyHandler{})
	httpcaddyfile.RegisterHandlerDirective("faulty", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return faultyHandler{}, nil })
}

// transportFault and handlerFault are what the modules below do, as long as a test has set them.
var (
	transportFault atomic.Pointer[func(*http.Request) (*http.Response, error)]
	handlerFault   atomic.Pointer[func(http.ResponseWriter, *http.Request) (http.ResponseWriter, *http.Request)]
)

// faultyTransport is a backend's transport with a bug in it.
type faultyTransport struct{}

// CaddyModule returns the Caddy module information.
func (faultyTransport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: transportNamespace + ".faulty", New: func() caddy.Module { return new(faultyTransport) }}
}

// UnmarshalCaddyfile has nothing to read.
func (*faultyTransport) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

// RoundTrip does what the test says, or else what a transport does.
func (*faultyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if fault := transportFault.Load(); fault != nil {
		return (*fault)(req)
	}
	return http.DefaultTransport.RoundTrip(req)
}

// faultyHandler stands before ours, and has what that reads or writes panic.
type faultyHandler struct{}

// CaddyModule returns the Caddy module information.
func (faultyHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.faulty", New: func() caddy.Module { return new(faultyHandler) }}
}

// ServeHTTP passes on what the test makes of the request.
func (faultyHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if fault := handlerFault.Load(); fault != nil {
		w, r = (*fault)(w, r)
	}
	return next.ServeHTTP(w, r)
}

func setFault[F any](t *testing.T, at *atomic.Pointer[F], fault F) {
	t.Helper()
	at.Store(&fault)
	t.Cleanup(func() { at.Store(nil) })
}

// What may not come to the log: of a prompt, of an upload, and of an answer.
const (
	promptSecret = "a-prompt-of-somebody"
	uploadSecret = "an-upload-of-somebody"
	answerSecret = "a-transcript-of-somebody"
)

func secretClip() []byte { return append(wav(1), uploadSecret...) }

// panicsWithAll panics with all that a request has in it.
func panicsWithAll(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost {
		return http.DefaultTransport.RoundTrip(req)
	}
	all, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	panic(fmt.Errorf("cannot send %q", all))
}

// exploding is a body that panics, once it may, with what it has.
type exploding struct {
	io.Closer
	when <-chan struct{} // nil: at once
}

func (e exploding) Read([]byte) (int, error) {
	if e.when != nil {
		<-e.when
	}
	panic(uploadSecret + answerSecret)
}

// isLeftAlone fails the test when something is left inside, or the log tells what it must not.
func (p *proxy) isLeftAlone() {
	p.t.Helper()
	eventually(p.t, "nothing is left inside", func() bool {
		pool := p.pool()
		s := pool.dispatcher.Snapshot()
		for _, b := range s.Backends {
			if b.Outstanding != 0 {
				return false
			}
		}
		return s.Running == 0 && s.Queued == 0 && s.HeldBytes == 0 && pool.inside.Load() == 0 && pool.running.Load() == 0 &&
			pool.uploads.held.Load() == 0 && pool.uploads.memory.Load() == 0
	})
	for _, secret := range []string{promptSecret, uploadSecret, answerSecret} {
		if strings.Contains(p.log(), secret) {
			p.t.Errorf("%q is in the log", secret)
		}
	}
}

// failures are how many attempts the scheduler knows to have failed on a backend.
func (p *proxy) failures(id scheduler.BackendID) int {
	for _, b := range p.pool().dispatcher.Snapshot().Backends {
		if b.ID == id {
			return int(b.Failed)
		}
	}
	p.t.Fatalf("there is no backend %s", id)
	return 0
}

// panicsTold is how many panics of clients' attempts are in the log.
func (p *proxy) panicsTold() (n int) {
	for line := range strings.Lines(p.log()) {
		if strings.Contains(line, "an attempt ended in a panic") && !strings.Contains(line, `"request_id":"trial"`) {
			n++
		}
	}
	return n
}

// TestAttemptPanics: a job whose attempt panics is done elsewhere.
func TestAttemptPanics(t *testing.T) {
	for _, hedge := range []string{"off", "on"} {
		t.Run("hedge "+hedge, func(t *testing.T) {
			bad, good := newWhisper(t), newWhisper(t)
			p := newProxy(t, fmt.Sprintf("backend %s {\n\tname bad\n\ttransport faulty\n}\nbackend %s {\n\tname good\n}\npolicy round_robin\nhedge %s",
				bad.address(), good.address(), hedge))
			p.ready(2)
			setFault(t, &transportFault, panicsWithAll)
			for range 4 {
				r := p.post(transcriptions, secretClip(), "model=base", "prompt="+promptSecret)
				if r.status != http.StatusOK || r.header.Get("X-Whisperpool-Backend") != "good" {
					t.Fatalf("status %d by %s: %s", r.status, r.header.Get("X-Whisperpool-Backend"), r.body)
				}
			}
			p.isLeftAlone()
			if told, failed := p.panicsTold(), p.failures("bad"); told == 0 || failed < told || p.failures("good") != 0 {
				t.Errorf("%d panics are in the log; %d attempts failed on the bad one, %d on the good one", told, failed, p.failures("good"))
			}
			if !strings.Contains(p.log(), "panicsWithAll") { // where it was
				t.Error("the log has no stack")
			}
		})
	}
}

// TestEveryAttemptPanics: it must be the job, which is answered with 500 after the second.
func TestEveryAttemptPanics(t *testing.T) {
	for _, hedge := range []string{"off", "on"} {
		t.Run("hedge "+hedge, func(t *testing.T) {
			backends := []*whisper{newWhisper(t), newWhisper(t), newWhisper(t)}
			pool := "hedge " + hedge
			for _, b := range backends {
				pool += "\nbackend " + b.address() + " {\n\ttransport faulty\n}"
			}
			p := newProxy(t, pool)
			p.ready(3)
			setFault(t, &transportFault, panicsWithAll)
			r := p.post(transcriptions, secretClip(), "model=base", "prompt="+promptSecret)
			if _, code := r.problem(t); r.status != http.StatusInternalServerError || code != "internal_error" || p.panicsTold() != 2 {
				t.Errorf("status %d after %d panics: %s", r.status, p.panicsTold(), r.body)
			}
			p.isLeftAlone()
			transportFault.Store(nil)
			if r := p.post(transcriptions, secretClip(), "model=base"); r.status != http.StatusOK {
				t.Errorf("afterwards: status %d: %s", r.status, r.body)
			}
		})
	}
}

// explodes answers transcriptions with what begins so, and panics when it is read on.
func explodes(contentType, begin string, when <-chan struct{}) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		if req.Method != http.MethodPost {
			return http.DefaultTransport.RoundTrip(req)
		}
		_, _ = io.Copy(io.Discard, req.Body)
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, Request: req,
			Body: io.NopCloser(io.MultiReader(strings.NewReader(begin), exploding{when: when})),
		}, nil
	}
}

// TestAnswerPanics: the attempt panics when it reads what came back.
func TestAnswerPanics(t *testing.T) {
	bad := newWhisper(t)
	p := newProxy(t, "backend "+bad.address()+" {\n\tname bad\n\ttransport faulty\n}")
	p.ready(1)
	setFault(t, &transportFault, explodes("application/json", `{"text":"`+answerSecret, nil))
	if r := p.post(transcriptions, secretClip(), "model=base", "prompt="+promptSecret); r.status < 500 {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	p.isLeftAlone()
	if p.panicsTold() == 0 {
		t.Error("no panic is in the log")
	}
}

// TestStreamPanics: the client has a part of the answer, and is told that there will be no more.
func TestStreamPanics(t *testing.T) {
	bad := newWhisper(t)
	p := newProxy(t, "backend "+bad.address()+" {\n\tname bad\n\ttransport faulty\n}")
	p.ready(1)
	read := make(chan struct{}) // the first event, or there would be a status to tell it by
	setFault(t, &transportFault, explodes("text/event-stream", deltaOf(answerSecret), read))
	resp := p.streamed(t.Context())
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	lines := bufio.NewReader(resp.Body)
	if got := event(t, lines); !strings.Contains(got, answerSecret) {
		t.Errorf("the first event is %s", got)
	}
	close(read)
	if got := event(t, lines); !strings.Contains(got, `"error"`) || strings.Contains(got, answerSecret) {
		t.Errorf("the last event is %s", got)
	}
	p.isLeftAlone()
	if p.panicsTold() != 1 || p.failures("bad") == 0 {
		t.Errorf("%d panics are in the log, %d attempts failed", p.panicsTold(), p.failures("bad"))
	}
}

// TestProbePanics: the backend is down, and its prober goes on.
func TestProbePanics(t *testing.T) {
	odd, good := newWhisper(t), newWhisper(t)
	p := newProxy(t, "backend "+odd.address()+" {\n\tname odd\n\ttransport faulty\n}\nbackend "+good.address()+" {\n\tname good\n}")
	p.ready(2)
	setFault(t, &transportFault, func(*http.Request) (*http.Response, error) { panic(answerSecret) })
	p.pool().probeSoon("odd")
	eventually(t, "it is down", func() bool { return states(p)["odd"] == "down" })
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK || r.header.Get("X-Whisperpool-Backend") != "good" {
		t.Errorf("status %d by %s: %s", r.status, r.header.Get("X-Whisperpool-Backend"), r.body)
	}
	transportFault.Store(nil)
	p.pool().probeSoon("odd")
	p.ready(2)
	if !strings.Contains(p.log(), "looking at a backend ended in a panic") {
		t.Error("the panic is not in the log")
	}
	p.isLeftAlone()
}

// unwritable panics when the answer's body is written.
type unwritable struct{ http.ResponseWriter }

func (unwritable) Write([]byte) (int, error)     { panic(answerSecret) }
func (u unwritable) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// TestHandlerPanics: outside of any attempt. The client gets 500, or, once the answer has begun, sees it broken off.
func TestHandlerPanics(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	p.mustLoad(fmt.Sprintf("%s {\n\troute {\n\t\tfaulty\n\t\twhisper_pool {\n\t\t\tbackend %s\n\t\t}\n\t}\n}\n", p.url, backend.address()))
	p.ready(1)
	setFault(t, &handlerFault, func(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
		r.Body = exploding{Closer: r.Body}
		return w, r
	})
	r := p.post(transcriptions, secretClip(), "model=base", "prompt="+promptSecret)
	if _, code := r.problem(t); r.status != http.StatusInternalServerError || code != "internal_error" || r.header.Get("X-Request-Id") == "" {
		t.Errorf("status %d, %v: %s", r.status, r.header, r.body)
	}
	p.isLeftAlone()

	setFault(t, &handlerFault, func(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
		return unwritable{w}, r
	})
	if r, err := p.postWith(t.Context(), transcriptions, nil, secretClip(), "model=base", "prompt="+promptSecret); err == nil {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	p.isLeftAlone()
	if n := strings.Count(p.log(), "a request ended in a panic"); n != 2 {
		t.Errorf("%d panics are in the log", n)
	}
	handlerFault.Store(nil)
	if r := p.post(transcriptions, secretClip(), "model=base"); r.status != http.StatusOK {
		t.Errorf("afterwards: status %d: %s", r.status, r.body)
	}
}

// TestStreamsWriterPanics: in the goroutine that writes events. The job ends as if its client had left.
func TestStreamsWriterPanics(t *testing.T) {
	events := make(chan string)
	backend := newWhisper(t)
	backend.answer = saying(events)
	p := newProxy(t, "backend "+backend.address())
	p.mustLoad(fmt.Sprintf("%s {\n\troute {\n\t\tfaulty\n\t\twhisper_pool {\n\t\t\tbackend %s\n\t\t}\n\t}\n}\n", p.url, backend.address()))
	p.ready(1)
	setFault(t, &handlerFault, func(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
		return unwritable{w}, r
	})
	go func() { events <- deltaOf(answerSecret) }()
	if text, _ := io.ReadAll(p.streamed(t.Context()).Body); len(text) > 0 {
		t.Errorf("the client got %q", text)
	}
	eventually(t, "the backend is left", func() bool { return !backendRuns(backend) })
	p.isLeftAlone()
	if n := strings.Count(p.log(), "writing a stream ended in a panic"); n != 1 {
		t.Errorf("%d panics are in the log", n)
	}
}
