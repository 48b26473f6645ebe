package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
	"github.com/whisperpool/whisperpool/upstream"
)

// saying is an answer in events, sent as they are told, until the channel is closed.
func saying(events <-chan string) func(http.ResponseWriter, *http.Request, sent) {
	return func(w http.ResponseWriter, r *http.Request, got sent) {
		if got.form["stream"] == nil { // a trial
			speak(w, r, got)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Whisperpool-Audio-Seconds", "1.000")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case event, more := <-events:
				if !more {
					panic(http.ErrAbortHandler)
				}
				if event == "" {
					return
				}
				_, _ = io.WriteString(w, event)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}
}

func deltaOf(text string) string {
	return fmt.Sprintf("data: {\"type\":\"transcript.text.delta\",\"delta\":%q}\n\n", text)
}

func doneOf(text string) string {
	return fmt.Sprintf("data: {\"type\":\"transcript.text.done\",\"text\":%q}\n\n", text)
}

// streamed asks for a stream and returns the answer unread.
func (p *proxy) streamed(ctx context.Context) *http.Response {
	p.t.Helper()
	body, contentType := form(wav(1), "model=base", "stream=true")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+transcriptions, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// event reads the next event of a stream.
func event(t *testing.T, lines *bufio.Reader) string {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, line)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			return strings.TrimSpace(data)
		}
	}
}

// Events of our own backend reach the client as they come.
func TestStreamIsPassedOn(t *testing.T) {
	events := make(chan string)
	backend := newWhisper(t)
	backend.answer = saying(events)
	p := newProxy(t, "backend "+backend.address()+" {\n\tname a\n}")
	p.ready(1)
	go func() { events <- ": still at work\n\n" + deltaOf("Ask not") }()
	resp := p.streamed(t.Context())
	h := resp.Header
	if resp.StatusCode != http.StatusOK || h.Get("Content-Type") != "text/event-stream" || !strings.Contains(h.Get("Cache-Control"), "no-transform") ||
		h.Get("X-Whisperpool-Backend") != "a" || h.Get("X-Whisperpool-Attempts") != "1" || h.Get("X-Request-Id") == "" || h.Get("Content-Length") != "" {
		t.Fatalf("%d %v", resp.StatusCode, h)
	}
	lines := bufio.NewReader(resp.Body)
	for i, text := range []string{"Ask not", " what", " your"} {
		if i > 0 {
			events <- deltaOf(text)
		}
		if got := event(t, lines); got != fmt.Sprintf(`{"type":"transcript.text.delta","delta":%q}`, text) {
			t.Errorf("event %d is %s", i, got)
		}
	}
	if n := p.pool().dispatcher.Snapshot().Running; n != 1 {
		t.Errorf("%d jobs run while the answer comes", n)
	}
	events <- doneOf("Ask not what your")
	events <- ""
	if got := event(t, lines); got != `{"type":"transcript.text.done","text":"Ask not what your"}` {
		t.Errorf("the last event is %s", got)
	}
	if rest, err := io.ReadAll(lines); err != nil || len(bytes.TrimSpace(rest)) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if strings.Contains(p.log(), "Ask not") {
		t.Error("the log has what was said")
	}
}

// Until the first event another backend can be tried.
func TestStreamThatBreaksBeforeItsFirstEvent(t *testing.T) {
	once := func(events ...string) func(http.ResponseWriter, *http.Request, sent) {
		return func(w http.ResponseWriter, r *http.Request, got sent) {
			all := make(chan string, len(events))
			for _, e := range events {
				all <- e
			}
			close(all)
			saying(all)(w, r, got)
		}
	}
	failure := "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"param\":null,\"code\":\"engine_failed\"}}\n\n"
	for name, broken := range map[string]func(http.ResponseWriter, *http.Request, sent){"dies": once(": still at work\n\n"), "fails": once(failure)} {
		t.Run(name, func(t *testing.T) {
			bad, good := newWhisper(t), newWhisper(t)
			bad.answer = broken
			good.answer = once(deltaOf("Ask"), doneOf("Ask"), "")
			p := newProxy(t, fmt.Sprintf("backend %s {\n\tname bad\n}\nbackend %s {\n\tname good\n}\npolicy round_robin", bad.address(), good.address()))
			p.ready(2)
			for range 2 {
				resp := p.streamed(t.Context())
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.Header.Get("X-Whisperpool-Backend") != "good" || string(body) != deltaOf("Ask")+doneOf("Ask") {
					t.Errorf("%d by %s: %s, %v", resp.StatusCode, resp.Header.Get("X-Whisperpool-Backend"), body, err)
				}
			}
			if len(bad.requests()) == 0 {
				t.Error("the bad one was never tried, so this shows nothing")
			}
		})
	}
}

// After the first event nothing is tried again, and the client is told.
func TestStreamThatBreaksLater(t *testing.T) {
	events := make(chan string)
	a, b := newWhisper(t), newWhisper(t)
	a.answer, b.answer = saying(events), saying(events)
	p := newProxy(t, "backend "+a.address()+"\nbackend "+b.address())
	p.ready(2)
	go func() { events <- deltaOf("Ask not") }()
	resp := p.streamed(t.Context())
	lines := bufio.NewReader(resp.Body)
	event(t, lines)
	close(events)
	var e struct{ Error map[string]*string }
	if data := event(t, lines); json.Unmarshal([]byte(data), &e) != nil || len(e.Error) != 4 || e.Error["code"] == nil || *e.Error["code"] != "upstream_failed" {
		t.Errorf("the last event is %s", data)
	}
	if rest, err := io.ReadAll(lines); err != nil || len(bytes.TrimSpace(rest)) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	streams := 0
	for _, got := range append(a.requests(), b.requests()...) {
		if got.form["stream"] != nil {
			streams++
		}
	}
	if streams != 1 {
		t.Errorf("%d attempts", streams)
	}
}

// A stream that stands still until its attempt is given up is the backend's failure, and says so.
func TestStreamThatIsGivenUp(t *testing.T) {
	events := make(chan string, 1)
	events <- deltaOf("Ask not")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		saying(events)(w, r, sent{form: map[string][]string{"stream": {"true"}}})
	}))
	t.Cleanup(server.Close)
	ctx, end := context.WithCancelCause(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	kind, _ := upstream.ByName("whisperpool")
	v, err := kind.Read(resp, upstream.Request{Params: transcript.Params{API: transcript.OpenAI, Format: transcript.JSON, Stream: true}})
	if err != nil || v.Answer.Stream == nil {
		t.Fatal(v, err)
	}
	defer v.Answer.Stream.Close()
	if _, err := v.Answer.Stream.Next(); err != nil {
		t.Fatal(err)
	}
	end(dispatcher.ErrGivenUp)
	_, err = v.Answer.Stream.Next()
	if o := brokenStream(ctx, v.Answer.Stream, err); err == nil || o.Result != scheduler.Failed || !strings.Contains(o.Detail, "given up") {
		t.Errorf("%v, %+v", err, o)
	}
}

func TestStreamsClientLeaves(t *testing.T) {
	events := make(chan string)
	backend := newWhisper(t)
	gone := make(chan struct{})
	backend.answer = func(w http.ResponseWriter, r *http.Request, got sent) {
		saying(events)(w, r, got)
		if r.Context().Err() != nil {
			close(gone)
		}
	}
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	ctx, leave := context.WithCancel(t.Context())
	go func() { events <- deltaOf("Ask not") }()
	event(t, bufio.NewReader(p.streamed(ctx).Body))
	leave()
	eventually(t, "the backend is free", func() bool {
		select {
		case <-gone:
			return p.pool().dispatcher.Snapshot().Running == 0
		default:
			return false
		}
	})
}

// What a client is refused before anything was said has a status.
func TestStreamThatIsRefused(t *testing.T) {
	backend := newWhisper(t)
	backend.answer = func(w http.ResponseWriter, _ *http.Request, _ sent) {
		w.WriteHeader(http.StatusBadRequest)
		reply(w, map[string]any{"error": map[string]any{"message": "too short", "type": "invalid_request_error", "param": "file", "code": nil}})
	}
	p := newProxy(t, "backend "+backend.address())
	resp := p.streamed(t.Context())
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Content-Type") != "application/json" || !strings.Contains(string(body), "too short") {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
}

// A kind that does not stream answers whole, and the client gets that in events.
func TestStreamOfAKindWithoutStreams(t *testing.T) {
	backend := newWhisper(t, func(s *whisper) { s.kind = "openai" })
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	resp := p.streamed(t.Context())
	body, _ := io.ReadAll(resp.Body)
	if want := "data: {\"type\":\"transcript.text.delta\",\"delta\":\"ask not what\"}\n\ndata: {\"type\":\"transcript.text.done\",\"text\":\"ask not what\"}\n\n"; string(body) != want ||
		resp.Header.Get("Content-Type") != "text/event-stream" || !strings.Contains(resp.Header.Get("Cache-Control"), "no-transform") {
		t.Errorf("%v %q", resp.Header, body)
	}
}
