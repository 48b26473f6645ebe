package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestTargets(t *testing.T) {
	const path = "/v1/audio/transcriptions"
	for base, want := range map[string]string{
		"http://127.0.0.1:8080":    "http://127.0.0.1:8080/v1/audio/transcriptions",
		"http://127.0.0.1:8080/":   "http://127.0.0.1:8080/v1/audio/transcriptions",
		"https://host/v1":          "https://host/v1/audio/transcriptions",
		"https://host/v1/":         "https://host/v1/audio/transcriptions",
		"https://host/gpu":         "https://host/gpu/v1/audio/transcriptions",
		"https://host/gpu/v1?a=b":  "https://host/gpu/v1/audio/transcriptions?a=b",
		"https://host/openai/v1//": "https://host/openai/v1//v1/audio/transcriptions",
	} {
		if got, err := ParseTarget(base, path); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", base, got, err, want)
		}
	}
	for _, bad := range []string{"", "host:8080", "ftp://host", "http://", "http://a b"} {
		if _, err := ParseTarget(bad, path); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// serve answers all that is posted with one function.
func serve(t *testing.T, handler http.HandlerFunc) (url string) {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(func() {
		s.CloseClientConnections() // Close alone waits for one that was opened and never used
		s.Close()
	})
	return s.URL
}

func client(t *testing.T, target Target) *Client {
	t.Helper()
	c := NewClient(target, speech(t), 8)
	t.Cleanup(c.Close)
	return c
}

func TestRequestsAreWhatAskedFor(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		file, header, err := r.FormFile("file")
		if err != nil {
			t.Error(err)
			return
		}
		content, _ := io.ReadAll(file)
		if len(content) != 44+5*speechRate || header.Filename != "speech-7.wav" || r.ContentLength <= 0 {
			t.Errorf("%s of %d bytes, in a body of %d", header.Filename, len(content), r.ContentLength)
		}
		if r.FormValue("model") != "base" || r.Header.Get("Authorization") != "Bearer key" || r.URL.Path != "/inference" {
			t.Errorf("model %q, %v, %s", r.FormValue("model"), r.Header, r.URL.Path)
		}
		w.Header().Set("X-Whisperpool-Backend", "t4")
		w.Header().Set("Server-Timing", "upload;dur=1.5, queue;dur=20, service;dur=412.5")
		fmt.Fprint(w, `{"text": ""}`) // silence is a transcript
	})
	c := client(t, Target{
		URL: url + "/inference", Fields: [][2]string{{"model", "base"}}, Header: http.Header{"authorization": {"Bearer key"}},
	})
	got := c.Send(t.Context(), Job{Index: 7, Seconds: 5})
	if want := (Outcome{Backend: "t4", Service: 412500 * time.Microsecond}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestOutcomes(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("X-Whisperpool-Instance", "i1")
			w.Header().Set("Server-Timing", "decode;dur=1.0, inference;dur=nonsense")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	reset := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
	never := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	for _, c := range []struct {
		handler http.HandlerFunc
		want    Outcome
	}{
		{answer(200, `{"text":"hello"}`), Outcome{Backend: "i1"}},
		{answer(200, `{"error":"no"}`), Outcome{Class: Failed, What: "no transcript in the answer", Detail: `{"error":"no"}`, Backend: "i1"}},
		{answer(200, ``), Outcome{Class: Failed, What: "no transcript in the answer", Backend: "i1"}},
		{answer(503, `{"error": {"message":`+"\n"+`"full"}}`), Outcome{Class: Refused, What: "status 503", Detail: `{"error": {"message": "full"}}`, Backend: "i1"}},
		{answer(429, ``), Outcome{Class: Refused, What: "status 429", Backend: "i1"}},
		{answer(500, strings.Repeat("x", 999)), Outcome{Class: Failed, What: "status 500", Detail: strings.Repeat("x", 200) + "...", Backend: "i1"}},
		{answer(302, ``), Outcome{Class: Failed, What: "status 302", Backend: "i1"}},
		{reset, Outcome{Class: Failed, What: "connection broken before the answer's end"}},
		{never, Outcome{Class: Failed, What: "no answer within 100ms"}},
	} {
		target := Target{URL: serve(t, c.handler)}
		if c.want.What == "no answer within 100ms" {
			target.Timeout = 100 * time.Millisecond
		}
		got := client(t, target).Send(t.Context(), Job{Seconds: 0.1})
		if c.want.Detail == "" {
			if got.What != c.want.What {
				t.Log(got.Detail)
			}
			got.Detail = "" // the system's words
		}
		if got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	if got := client(t, Target{URL: url}).Send(t.Context(), Job{Seconds: 0.1}); got.Class != Failed || got.What != "connection refused" {
		t.Errorf("%+v", got)
	}
}

func TestAbandonedIsNoFailure(t *testing.T) {
	arrived := make(chan struct{})
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if got := client(t, Target{URL: url}).Send(ctx, Job{Seconds: 0.1}); got != (Outcome{Class: Abandoned}) {
		t.Errorf("%+v", got)
	}
}

// Real sockets: a closed loop opens about as many connections as it has clients. (A few more, since a
// client may ask again before its connection is back among the idle ones.)
func TestConnectionsAreKept(t *testing.T) {
	var opened atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = json.NewEncoder(w).Encode(map[string]string{"text": "x"})
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := client(t, Target{URL: s.URL})
	sum := Summarize(Run(t.Context(), NewSchedule(Load{Clients: 4, Requests: 200}, speech(t), 1), c.Send, nil))
	if sum.OK != 200 || opened.Load() > 20 {
		t.Errorf("%d served over %d connections: %+v", sum.OK, opened.Load(), sum.Problems)
	}
}

// Real sockets: a burst is at the endpoint all at once.
func TestBurstsArriveTogether(t *testing.T) {
	const n = 32
	var all sync.WaitGroup
	all.Add(n)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		all.Done()
		all.Wait() // answers nobody before all are there
		fmt.Fprint(w, `{"text":"x"}`)
	})
	c := NewClient(Target{URL: url, Timeout: 30 * time.Second}, speech(t), n)
	defer c.Close()
	if s := Summarize(Run(t.Context(), NewSchedule(Load{Burst: n}, speech(t), 1), c.Send, nil)); s.OK != n {
		t.Errorf("%+v", s)
	}
}

func TestFileLimit(t *testing.T) {
	if err := CheckFiles(10); err != nil {
		t.Error(err)
	}
	if err := CheckFiles(1 << 40); err == nil || !strings.Contains(err.Error(), "ulimit") {
		t.Errorf("error %v", err)
	}
}
