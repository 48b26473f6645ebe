package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestServes(t *testing.T) {
	t.Setenv("WHISPER_KEY", "s3cret-of-ours")
	backend := newWhisper(t)
	p := newProxy(t, fmt.Sprintf("backend %s T4 {\n\tname t4\n\theader_up Authorization \"Bearer {env.WHISPER_KEY}\"\n}\nalias tiny base", backend.address()))
	clip := wav(1)
	for _, request := range []struct {
		path, field, want string
	}{
		{transcriptions, "model=base", `{"text":"ask not what"`},
		{transcriptions, "model=whisper-1", `{"text":"ask not what"`},
		{transcriptions, "model=tiny", `{"text":"ask not what"`},
		{"/v1/audio/translations", "model=base", `{"text":"ask not what"`},
		{"/inference", "response_format=json", `{"text":"`},
		{"/inference", "model=anything", `{"text":"`},
	} {
		r, err := p.postWith(t.Context(), request.path, http.Header{
			"Authorization": {"Bearer of-the-client"}, "X-Request-Id": {"request-7"}, "Cookie": {"session=of-the-client"},
		}, clip, request.field)
		if err != nil || r.status != http.StatusOK || !strings.HasPrefix(r.body, request.want) {
			t.Fatalf("%s with %s: %v, status %d: %s", request.path, request.field, err, r.status, r.body)
		}
		for name, want := range map[string]string{
			"X-Whisperpool-Backend": "t4", "X-Whisperpool-Attempts": "1", "X-Request-Id": "request-7", "Content-Type": "application/json",
		} {
			if got := r.header.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %q, not %q", request.path, name, got, want)
			}
		}
		if r.header.Get("X-Whisperpool-Queue-Ms") == "" || !strings.Contains(r.header.Get("Server-Timing"), "service;dur=") {
			t.Errorf("no times in %v", r.header)
		}
	}
	for _, got := range backend.requests() {
		if got.header.Get("Authorization") != "Bearer s3cret-of-ours" || got.header.Get("X-Request-Id") != "request-7" ||
			got.header.Get("Cookie") != "" || got.header.Get("Expect") != "" || got.header.Get("Accept-Encoding") != "" {
			t.Errorf("headers to the backend: %v", got.header)
		}
		if got.fileHash != digest(clip) {
			t.Errorf("the backend got %d bytes, not the %d that were sent", got.fileSize, len(clip))
		}
	}
	if !strings.Contains(p.log(), "attempt succeeded") {
		t.Error("nothing is logged, so this shows nothing")
	}
	for _, secret := range []string{"s3cret-of-ours", "of-the-client", "secret-name", "ask not what"} {
		if strings.Contains(p.log(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

func TestEveryFormat(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	for format, want := range map[string]string{
		"json": "ask not what", "text": "ask not what\n", "srt": "00:00:00,000 --> 00:00:01,000", "vtt": "WEBVTT", "verbose_json": `"segments"`,
	} {
		backend.answer = func(w http.ResponseWriter, r *http.Request, got sent) {
			switch got.form["response_format"][0] {
			case "srt":
				_, _ = w.Write([]byte("1\n00:00:00,000 --> 00:00:01,000\nask not what\n\n"))
			case "vtt":
				_, _ = w.Write([]byte("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nask not what\n\n"))
			default:
				speak(w, r, got)
			}
		}
		if r := p.post(transcriptions, wav(1), "model=base", "response_format="+format); r.status != 200 || !strings.Contains(r.body, want) {
			t.Errorf("%s: status %d: %s", format, r.status, r.body)
		}
	}
}

// TestWhisperServerServesOpenAIClient: what the client asked for is turned into what the server
// takes, and back.
func TestWhisperServerServesOpenAIClient(t *testing.T) {
	backend := newWhisper(t, func(s *whisper) { s.kind = "whisper_server" })
	backend.answer = func(w http.ResponseWriter, _ *http.Request, got sent) {
		if got.path != "/inference" {
			http.Error(w, "File Not Found ("+got.path+")", http.StatusNotFound)
			return
		}
		reply(w, map[string]any{"task": "transcribe", "language": "english", "duration": 1.0, "text": " ask not\n what\n", "segments": []map[string]any{
			{"id": 0, "start": 0.0, "end": 0.5, "text": " ask not", "tokens": []int{1}, "words": []any{}},
			{"id": 1, "start": 0.5, "end": 1.0, "text": " what", "tokens": []int{2}, "words": []any{}},
		}})
	}
	p := newProxy(t, "backend "+backend.address()+"\ndefault_model base")
	r := p.post(transcriptions, wav(1), "model=whisper-1")
	if r.status != http.StatusOK || !strings.Contains(r.body, "ask not what") {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	if r := p.get("/v1/models"); !strings.Contains(r.body, `"base"`) {
		t.Errorf("models: %s", r.body)
	}
}

func TestRetriesElsewhere(t *testing.T) {
	said := map[string]string{
		"dies": "connection closed before the answer was whole", "breaks": "500", "wants a key": "401",
		"is cut short": "200: connection closed before the answer was whole", "says nothing": "200", "is busy": "429",
	}
	for name, fail := range map[string]func(w http.ResponseWriter, r *http.Request, got sent){
		"dies": func(http.ResponseWriter, *http.Request, sent) { panic(http.ErrAbortHandler) },
		"breaks": func(w http.ResponseWriter, _ *http.Request, _ sent) {
			http.Error(w, "CUDA error", http.StatusInternalServerError)
		},
		"wants a key": func(w http.ResponseWriter, _ *http.Request, _ sent) { w.WriteHeader(http.StatusUnauthorized) },
		"is cut short": func(w http.ResponseWriter, _ *http.Request, _ sent) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"text":`))
		},
		"says nothing": func(w http.ResponseWriter, _ *http.Request, _ sent) { reply(w, map[string]any{}) },
		"is busy":      func(w http.ResponseWriter, _ *http.Request, _ sent) { w.WriteHeader(http.StatusTooManyRequests) },
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := newWhisper(t), newWhisper(t)
			bad.answer = fail
			p := newProxy(t, fmt.Sprintf("backend %s {\n\tname bad\n}\nbackend %s {\n\tname good\n}\npolicy round_robin", bad.address(), good.address()))
			p.ready(2)
			clip := wav(3)
			for range 4 {
				r := p.post(transcriptions, clip, "model=base")
				if r.status != http.StatusOK || r.header.Get("X-Whisperpool-Backend") != "good" {
					t.Fatalf("status %d by %s: %s", r.status, r.header.Get("X-Whisperpool-Backend"), r.body)
				}
			}
			if len(bad.requests()) == 0 {
				t.Error("the bad one was never tried, so this shows nothing")
			}
			for _, got := range good.requests() {
				if got.fileHash != digest(clip) {
					t.Error("the upload was not whole when tried again")
				}
			}
			if !strings.Contains(p.log(), `"detail":"`+said[name]) {
				t.Errorf("%q is not in the log: %s", said[name], p.log())
			}
		})
	}
}

// TestClientsFault: what the backend refuses is refused, and not tried elsewhere.
func TestClientsFault(t *testing.T) {
	backend, other := newWhisper(t), newWhisper(t)
	refuse := func(w http.ResponseWriter, _ *http.Request, _ sent) {
		w.WriteHeader(http.StatusBadRequest)
		reply(w, map[string]any{"error": map[string]any{"message": "this audio is too short", "type": "invalid_request_error", "param": "file", "code": nil}})
	}
	backend.answer, other.answer = refuse, refuse
	p := newProxy(t, "backend "+backend.address()+"\nbackend "+other.address())
	p.ready(2)
	r := p.post(transcriptions, wav(1), "model=base")
	if message, _ := r.problem(t); r.status != http.StatusBadRequest || !strings.Contains(message, "too short") {
		t.Errorf("status %d: %s", r.status, message)
	}
	if n := len(backend.requests()) + len(other.requests()); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

func TestExhausted(t *testing.T) {
	a, b := newWhisper(t), newWhisper(t)
	a.answer = func(w http.ResponseWriter, _ *http.Request, _ sent) {
		http.Error(w, "out of memory", http.StatusInternalServerError)
	}
	b.answer = a.answer
	p := newProxy(t, fmt.Sprintf("backend %s {\n\tname a\n}\nbackend %s {\n\tname b\n}\nattempts 2", a.address(), b.address()))
	p.ready(2)
	r := p.post(transcriptions, wav(1), "model=base")
	message, code := r.problem(t)
	if r.status != http.StatusBadGateway || code != "upstream_failed" || r.header.Get("Retry-After") == "" || r.header.Get("X-Whisperpool-Attempts") != "2" {
		t.Errorf("status %d, %s, %v: %s", r.status, code, r.header, message)
	}
	if strings.Contains(message, "127.0.0.1") {
		t.Errorf("an address in %q", message)
	}
}

func TestClientLeavingFreesBackend(t *testing.T) {
	gate := make(chan struct{})
	defer close(gate)
	backend := newWhisper(t)
	gone := make(chan struct{}, 1)
	backend.answer = func(w http.ResponseWriter, r *http.Request, got sent) {
		held(gate)(w, r, got)
		if r.Context().Err() != nil {
			gone <- struct{}{}
		}
	}
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := p.postWith(ctx, transcriptions, nil, wav(1), "model=base")
		ended <- err
	}()
	eventually(t, "the backend has all of it", func() bool { return len(backend.requests()) == 1 })
	leave()
	<-gone
	if err := <-ended; err == nil {
		t.Error("the client got an answer")
	}
	eventually(t, "nothing is left inside", func() bool {
		s := p.pool().dispatcher.Snapshot()
		return s.Running == 0 && s.HeldBytes == 0 && p.pool().inside.Load() == 0 && p.pool().uploads.held.Load() == 0 && p.pool().uploads.memory.Load() == 0
	})
}

// TestCancelReachesBackendSoon: a backend notices within 100 ms that its client has left, whatever the kind.
func TestCancelReachesBackendSoon(t *testing.T) {
	for _, kind := range []string{"whisperpool", "whisper_server", "openai"} {
		t.Run(kind, func(t *testing.T) {
			began, noticed := make(chan struct{}, 1), make(chan time.Time, 1)
			backend := newWhisper(t, func(s *whisper) { s.kind = kind })
			backend.answer = func(_ http.ResponseWriter, r *http.Request, _ sent) {
				began <- struct{}{}
				<-r.Context().Done()
				noticed <- time.Now()
			}
			p := newProxy(t, "backend "+backend.address()+" {\n\tslots 1000\n}\ndefault_model base")
			p.ready(1)
			var took []time.Duration
			for range 11 {
				ctx, leave := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					if r, err := p.postWith(ctx, transcriptions, nil, wav(1), "model=whisper-1"); err == nil {
						t.Errorf("answered with %d: %s", r.status, r.body)
					}
				}()
				<-began
				left := time.Now()
				leave()
				took = append(took, (<-noticed).Sub(left))
				<-ended
			}
			slices.Sort(took)
			t.Logf("noticed after %v at the median, %v at most", took[len(took)/2], took[len(took)-1])
			if took[0] > 100*time.Millisecond { // what the proxy itself did late would be late each time; what a busy machine does is not
				t.Errorf("noticed after %v", took)
			}
		})
	}
}

// TestEmulatorIsNamed: nobody is to take made-up text for a transcript.
func TestEmulatorIsNamed(t *testing.T) {
	emulator, real := newWhisper(t), newWhisper(t, func(s *whisper) { s.models = []string{"large-v3"} })
	emulator.answer = func(w http.ResponseWriter, r *http.Request, got sent) {
		w.Header().Set("X-Whisperpool-Emulator", "true")
		speak(w, r, got)
	}
	p := newProxy(t, "backend "+emulator.address()+"\nbackend "+real.address())
	p.ready(2)
	for model, want := range map[string]string{"base": "true", "large-v3": ""} {
		if r := p.post(transcriptions, wav(1), "model="+model); r.status != http.StatusOK || r.header.Get("X-Whisperpool-Emulator") != want {
			t.Errorf("%s: status %d, emulator %q", model, r.status, r.header.Get("X-Whisperpool-Emulator"))
		}
	}
}

func TestPassesOn(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	for _, path := range []string{"/elsewhere", "/load", "/metrics", "/load-report", "/v1", "/v1/models/"} {
		r := p.get(path)
		want := http.StatusOK // Caddy's own answer when nobody has one
		if path == "/elsewhere" {
			want = 203
		}
		if r.status != want || r.header.Get("X-Request-Id") != "" || path != "/elsewhere" && r.body != "" {
			t.Errorf("%s: status %d: %s", path, r.status, r.body)
		}
	}
	if r, err := send(t.Context(), http.MethodOptions, p.url+"/inference", nil, nil); err != nil || r.status != 200 || r.body != "" {
		t.Errorf("OPTIONS: %v, %+v", err, r)
	}
	for path, allow := range map[string]string{transcriptions: "POST, OPTIONS", "/inference": "POST, OPTIONS", "/v1/models": "GET, HEAD, OPTIONS", "/v1/models/base": "GET, HEAD, OPTIONS", "/health": "GET, HEAD, OPTIONS"} {
		r, err := send(t.Context(), http.MethodPut, p.url+path, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, code := r.problem(t); r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != allow || code != "method_not_allowed" {
			t.Errorf("PUT %s: status %d, Allow %q, %s", path, r.status, r.header.Get("Allow"), code)
		}
	}
}
