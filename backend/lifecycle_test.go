package backend_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
)

// running is a server under Serve.
type running struct {
	base   string
	server *backend.Server
	stop   context.CancelFunc
	done   chan error
}

func run(t *testing.T, cfg backend.Config, load func() (backend.Transcriber, error)) running {
	t.Helper()
	return runEvery(t, 0, cfg, load)
}

// runEvery runs a server that looks after its slots and models so often; 0: as it does by itself.
func runEvery(t *testing.T, every time.Duration, cfg backend.Config, load func() (backend.Transcriber, error)) running {
	t.Helper()
	s, err := backend.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if every > 0 {
		s.SetTendEvery(every)
	}
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	r := running{base: "http://" + ln.Addr().String(), server: s, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- s.Serve(ctx, ln, load) }()
	return r
}

func health(t *testing.T, base string) (status int, body string) {
	t.Helper()
	a := send(t, http.MethodGet, base+"/health", "", nil)
	return a.status, strings.TrimSpace(a.body)
}

func TestLoadingIsToldFromDead(t *testing.T) {
	loaded := make(chan struct{})
	e := newBlocking(1)
	r := run(t, backend.Config{}, func() (backend.Transcriber, error) {
		<-loaded
		return e, nil
	})
	if status, body := health(t, r.base); status != http.StatusServiceUnavailable || body != `{"status":"loading"}` {
		t.Errorf("/health: %d %s", status, body)
	}
	a := transcribe(t, r.base)
	if a.status != http.StatusServiceUnavailable || a.problem(t).code != "loading" || a.header.Get("Retry-After") == "" {
		t.Errorf("a transcription: %d %s", a.status, a.body)
	}
	if a := send(t, http.MethodGet, r.base+"/v1/models", "", nil); a.status != http.StatusServiceUnavailable {
		t.Errorf("/v1/models: %d %s", a.status, a.body)
	}
	if got := report(t, r.base); got.Ready || !got.Loading || got.Slots != 0 || got.Models == nil {
		t.Errorf("%+v", got)
	}
	close(loaded)
	until(t, "it is ready", func() bool { status, body := health(t, r.base); return status == 200 && body == `{"status":"ok"}` })
	if got := report(t, r.base); !got.Ready || got.Loading || got.Slots != 1 {
		t.Errorf("%+v", got)
	}
	r.stop()
	if err := await(t, r.done, "the end"); err != nil || !e.closed.Load() {
		t.Errorf("ended with %v, engine closed: %v", err, e.closed.Load())
	}
}

func TestAFailedLoadEndsTheServer(t *testing.T) {
	r := run(t, backend.Config{}, func() (backend.Transcriber, error) { return nil, errors.New("no such model") })
	if err := await(t, r.done, "the end"); err == nil || err.Error() != "no such model" {
		t.Errorf("ended with %v", err)
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(r.base, "http://"))
	if err == nil {
		_ = conn.Close()
		t.Error("it still listens")
	}
}

func TestDrainFinishesWhatItHas(t *testing.T) {
	e := newBlocking(1)
	r := run(t, backend.Config{Grace: time.Minute}, func() (backend.Transcriber, error) { return e, nil })
	until(t, "it is ready", func() bool { status, _ := health(t, r.base); return status == http.StatusOK })
	first, _ := start(t, r.base)
	await(t, e.started, "the first job")
	second, _ := start(t, r.base)
	until(t, "the second waits", func() bool { return report(t, r.base).Queued == 1 })
	r.stop()
	until(t, "/health fails", func() bool {
		status, body := health(t, r.base)
		return status == 503 && body == `{"status":"draining"}`
	})
	if got := report(t, r.base); got.Ready || !got.Draining {
		t.Errorf("%+v", got)
	}
	a := transcribe(t, r.base)
	if a.status != http.StatusServiceUnavailable || a.problem(t).code != "shutting_down" || a.header.Get("Retry-After") == "" {
		t.Errorf("new work: %d %s", a.status, a.body)
	}
	select {
	case err := <-r.done:
		t.Fatalf("ended with work in it: %v", err)
	default:
	}
	e.release <- struct{}{}
	e.release <- struct{}{}
	for _, done := range []<-chan answer{first, second} {
		if a := await(t, done, "an accepted job"); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if err := await(t, r.done, "the end"); err != nil || !e.closed.Load() {
		t.Errorf("ended with %v, engine closed: %v", err, e.closed.Load())
	}
}

func TestDrainAbortsWhatOutlastsTheGrace(t *testing.T) {
	e := newBlocking(1)
	r := run(t, backend.Config{Grace: time.Millisecond}, func() (backend.Transcriber, error) { return e, nil })
	until(t, "it is ready", func() bool { status, _ := health(t, r.base); return status == http.StatusOK })
	done, _ := start(t, r.base)
	await(t, e.started, "the job")
	r.stop()
	if a := await(t, done, "the answer"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if err := await(t, r.done, "the end"); err != nil || !e.closed.Load() {
		t.Errorf("ended with %v, engine closed: %v", err, e.closed.Load())
	}
}

func TestDrainEndsStalledUploads(t *testing.T) {
	r := run(t, backend.Config{Grace: time.Millisecond}, func() (backend.Transcriber, error) { return newBlocking(1), nil })
	until(t, "it is ready", func() bool { status, _ := health(t, r.base); return status == http.StatusOK })
	conn := dial(t, r.base)
	fmt.Fprint(conn, "POST /inference HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 500\r\n\r\n--b\r\n")
	// Until the upload is read, a connection would be closed as an idle one.
	until(t, "the upload has begun", func() bool { return r.server.UploadsUnderWay() == 1 })
	r.stop()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%s", resp.Status)
	}
	if err := await(t, r.done, "the end"); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	for _, cfg := range []backend.Config{
		{UploadMax: -1}, {AudioMax: -1}, {BeamSizeMax: 9}, {BeamSizeMax: -1}, {Grace: -1},
	} {
		if _, err := backend.New(cfg, nil); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
	for _, info := range []backend.EngineInfo{{Model: "base"}, {Slots: 1}} {
		if _, err := backend.New(backend.Config{}, engineFunc{info: info}); err == nil {
			t.Errorf("an engine of %+v was accepted", info)
		}
	}
	s, err := backend.New(backend.Config{}, newBlocking(1))
	if err != nil {
		t.Fatal(err)
	}
	if s.Use(newBlocking(1)) == nil {
		t.Error("a second engine was accepted")
	}
}
