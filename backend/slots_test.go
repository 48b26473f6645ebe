package backend_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
)

// start sends a request that a test goes on without; cancel is the client leaving.
func start(t *testing.T, base string) (done <-chan answer, cancel context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	contentType, body := form(wav(0.2), "model", "base")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/audio/transcriptions", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	answers := make(chan answer, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answers <- answer{body: err.Error()}
			return
		}
		defer func() { _ = resp.Body.Close() }()
		answers <- answer{status: resp.StatusCode, header: resp.Header}
	}()
	return answers, cancel
}

func TestAClientThatLeavesFreesItsSlot(t *testing.T) {
	e := newBlocking(1)
	_, base := serve(t, backend.Config{}, e)
	left := soon(t, "aborted", func() time.Duration {
		_, leave := start(t, base)
		await(t, e.started, "the job")
		began := time.Now()
		leave()
		if err := await(t, e.ended, "the abort"); err == nil {
			t.Error("the job ended by itself")
		}
		return time.Since(began)
	})
	done, _ := start(t, base)
	await(t, e.started, "the next job")
	e.release <- struct{}{}
	if a := await(t, done, "its answer"); a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
	contains(t, send(t, http.MethodGet, base+"/metrics", "", nil).body,
		fmt.Sprintf("whisper_backend_aborts_total %d", left), fmt.Sprintf(`whisper_backend_requests_total{outcome="client_gone"} %d`, left))
}

// soon tries up to five times for something to happen within 100 ms, and returns how often: a busy machine may
// make it late once, and what is late by itself is late each time.
func soon(t *testing.T, what string, try func() time.Duration) (tries int) {
	t.Helper()
	for tries = 1; ; tries++ {
		took := try()
		if took <= 100*time.Millisecond {
			return tries
		}
		if tries == 5 || t.Failed() {
			t.Fatalf("%s after %v", what, took)
		}
	}
}

func TestAClientThatLeavesTheQueueIsForgotten(t *testing.T) {
	e := newBlocking(1)
	_, base := serve(t, backend.Config{Queue: 2}, e)
	first, _ := start(t, base)
	await(t, e.started, "the first job")
	_, leave := start(t, base)
	until(t, "one waits", func() bool { return report(t, base).Queued == 1 })
	third, _ := start(t, base)
	until(t, "two wait", func() bool { return report(t, base).Queued == 2 })
	soon(t, "forgotten", func() time.Duration {
		began := time.Now()
		leave()
		until(t, "one waits again", func() bool { return report(t, base).Queued == 1 })
		took := time.Since(began)
		if took > 100*time.Millisecond { // once more, behind the third
			_, leave = start(t, base)
			until(t, "two wait", func() bool { return report(t, base).Queued == 2 })
		}
		return took
	})
	e.release <- struct{}{}
	await(t, first, "the first answer")
	await(t, e.started, "the third job")
	e.release <- struct{}{}
	if a := await(t, third, "the third answer"); a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
	if len(e.started) != 0 {
		t.Error("the job whose client left ran all the same")
	}
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	e := newBlocking(1)
	_, base := serve(t, backend.Config{Queue: 2}, e)
	all := make([]<-chan answer, 0, 3)
	for range 3 {
		done, _ := start(t, base)
		all = append(all, done)
	}
	await(t, e.started, "a job")
	until(t, "the queue is full", func() bool { return report(t, base).Queued == 2 })

	started := time.Now()
	a := transcribe(t, base)
	if took := time.Since(started); took > 5*time.Second { // it would wait for ever
		t.Errorf("refused after %v", took)
	}
	p := a.problem(t)
	if a.status != http.StatusServiceUnavailable || p.kind != "server_error" || p.code != "queue_full" || a.header.Get("X-Should-Retry") != "" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	if got := a.header.Get("X-Whisperpool-Load"); got != fmt.Sprintf("slots=1, busy=1, queued=2, instance=%s", report(t, base).Instance) {
		t.Errorf("load %q", got)
	}
	if h := send(t, http.MethodGet, base+"/health", "", nil); h.status != http.StatusOK || h.body != `{"status":"ok"}`+"\n" {
		t.Errorf("/health of a busy server: %d %s", h.status, h.body)
	}
	contains(t, send(t, http.MethodGet, base+"/metrics", "", nil).body,
		"whisper_backend_busy 1", "whisper_backend_queued 2", `whisper_backend_requests_total{outcome="queue_full"} 1`)
	for range 3 {
		e.release <- struct{}{}
	}
	for _, done := range all {
		if a := await(t, done, "an answer"); a.status != http.StatusOK {
			t.Errorf("%d", a.status)
		}
	}
}

func TestNoQueue(t *testing.T) {
	e := newBlocking(1)
	_, base := serve(t, backend.Config{Queue: -1}, e)
	done, _ := start(t, base)
	await(t, e.started, "the job")
	if a := transcribe(t, base); a.status != http.StatusServiceUnavailable {
		t.Errorf("%d", a.status)
	}
	e.release <- struct{}{}
	await(t, done, "the answer")
}

func TestNeverMoreJobsThanSlots(t *testing.T) {
	const slots, clients, each = 3, 12, 4
	e := newBlocking(slots)
	_, base := serve(t, backend.Config{Queue: clients}, e)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				done, _ := start(t, base)
				if a := <-done; a.status != http.StatusOK {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	until(t, "all slots are busy and all others wait", func() bool {
		r := report(t, base)
		return r.Busy == slots && r.Queued == clients-slots
	})
	for range clients * each {
		e.release <- struct{}{}
	}
	wg.Wait()
	if most := e.most.Load(); most != slots {
		t.Errorf("%d jobs ran side by side on %d slots", most, slots)
	}
	if n := len(e.started); n != clients*each {
		t.Errorf("%d jobs ran of %d", n, clients*each)
	}
	if r := report(t, base); r.Busy != 0 || r.Queued != 0 {
		t.Errorf("after all: %+v", r)
	}
}

func TestTooManyUploadsAtOnce(t *testing.T) {
	s, base := serve(t, backend.Config{}, fast(t))
	for range backend.UploadsMax {
		conn := dial(t, base)
		fmt.Fprint(conn, "POST /inference HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 500\r\n\r\n--b\r\n")
	}
	until(t, "all uploads are under way", func() bool { return s.UploadsUnderWay() == backend.UploadsMax })
	a := transcribe(t, base)
	if a.status != http.StatusServiceUnavailable || a.problem(t).code != "too_many_uploads" || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// An upload that is still being sent holds neither a slot nor a place in the queue.
func TestASlowUploadHoldsNothing(t *testing.T) {
	_, base := serve(t, backend.Config{Queue: -1}, fast(t))
	for range 20 {
		conn := dial(t, base)
		fmt.Fprint(conn, "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 500000\r\n\r\n--b\r\n")
	}
	if a := transcribe(t, base); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if r := report(t, base); r.Busy != 0 || r.Queued != 0 {
		t.Errorf("%+v", r)
	}
}
