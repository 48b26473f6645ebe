package emulator

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
)

// server is an emulated one on a socket.
type server struct {
	t      *testing.T
	url    string
	faults *Faults
	died   chan struct{} // gets one whenever the process would have died
	client *http.Client
}

// serve starts an emulated T4, a thousand times as fast, with two slots.
func serve(t *testing.T, change func(*backend.Config)) *server {
	t.Helper()
	s := &server{t: t, faults: NewFaults(slog.New(slog.DiscardHandler)), died: make(chan struct{}, 10), client: &http.Client{Transport: &http.Transport{}}}
	s.faults.die = func() { s.died <- struct{}{} }
	engine := emulator(t, Config{Class: "T4", Model: "base", Slots: 2, SpeedUp: 1000, Faults: s.faults})
	cfg := backend.Config{Wrap: s.faults.Handler, Grace: time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	back, err := backend.New(cfg, engine)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- back.Serve(ctx, ln, nil) }()
	s.url = "http://" + ln.Addr().String()
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

type reply struct {
	status int
	header http.Header
	body   string
	err    error // of the connection, body included
}

func (s *server) do(ctx context.Context, method, path, contentType string, body io.Reader) reply {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return reply{err: err}
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(text), err}
}

func (s *server) get(path string) reply { return s.do(s.t.Context(), http.MethodGet, path, "", nil) }

// transcribe sends a second of silence.
func (s *server) transcribe(ctx context.Context, path string) reply {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.WriteField("model", "whisper-1")
	part, _ := w.CreateFormFile("file", "a.wav")
	le := binary.LittleEndian
	head := le.AppendUint32([]byte("RIFF"), 36+32000)
	head = le.AppendUint32(append(head, "WAVEfmt "...), 16)
	head = le.AppendUint16(le.AppendUint16(head, 1), 1)
	head = le.AppendUint32(le.AppendUint32(head, 16000), 32000)
	head = le.AppendUint16(le.AppendUint16(head, 2), 16)
	head = le.AppendUint32(append(head, "data"...), 32000)
	_, _ = part.Write(append(head, make([]byte, 32000)...))
	_ = w.Close()
	return s.do(ctx, http.MethodPost, path, w.FormDataContentType(), &b)
}

const openAI = "/v1/audio/transcriptions"

func (s *server) set(fault string) reply {
	s.t.Helper()
	r := s.do(s.t.Context(), http.MethodPut, FaultPath, "application/json", strings.NewReader(fault))
	if r.status != http.StatusOK {
		s.t.Fatalf("PUT %s: %+v", fault, r)
	}
	return r
}

func (s *server) clear() {
	s.t.Helper()
	if r := s.do(s.t.Context(), http.MethodDelete, FaultPath, "", nil); r.status != http.StatusOK {
		s.t.Fatalf("DELETE: %+v", r)
	}
}

// struck is how many requests the first fault has hit.
func (s *server) struck() (n int, over bool) {
	s.t.Helper()
	var v struct {
		Faults []struct {
			Struck int
			Over   bool
		}
	}
	if err := json.Unmarshal([]byte(s.get(FaultPath).body), &v); err != nil || len(v.Faults) == 0 {
		s.t.Fatalf("no faults are told: %v", err)
	}
	return v.Faults[0].Struck, v.Faults[0].Over
}

// reports tells whether something is in the load report.
func (s *server) reports(part string) bool { return strings.Contains(s.get("/load-report").body, part) }

// until asks again and again, for a minute.
func (s *server) until(what string, so func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not after a minute", what)
		}
	}
}

func (s *server) wellAgain() {
	s.t.Helper()
	s.clear()
	if r := s.transcribe(s.t.Context(), openAI); r.status != http.StatusOK || !strings.Contains(r.body, "[emulated T4] 1 seconds") {
		s.t.Errorf("after the fault was cleared: %+v", r)
	}
	if r := s.get("/health"); r.status != http.StatusOK {
		s.t.Errorf("after the fault was cleared: %+v", r)
	}
}

func TestFaultsThatAnswer(t *testing.T) {
	s := serve(t, nil)
	for _, c := range []struct {
		fault, path string // path: GET unless it takes audio
		status      int
		body        string // part of it
		retryAfter  string
	}{
		{`{"fault":"error"}`, openAI, 500, "emulated_fault", ""},
		{`{"fault":"error","status":418,"body":"{\"error\":\"no\"}","retry_after":"1500ms"}`, "/inference", 418, `{"error":"no"}`, "2"},
		{`{"fault":"error"}`, "/health", 200, "ok", ""},
		{`{"fault":"error","on":"health","status":500}`, "/health", 500, "emulated", ""},
		{`{"fault":"error","on":"health","status":500}`, openAI, 200, "emulated T4", ""},
		{`{"fault":"error","on":"all"}`, "/v1/models", 500, "emulated", ""},
		{`{"fault":"busy"}`, openAI, 503, "queue_full", "1"},
		{`{"fault":"busy","retry_after":"7s"}`, "/asr", 503, "queue_full", "7"},
		{`{"fault":"loading"}`, openAI, 503, "loading", "2"},
		{`{"fault":"loading"}`, "/health", 503, `"loading"`, "1"},
		{`{"fault":"loading"}`, "/v1/models", 503, "loading", "2"},
		{`{"fault":"loading"}`, "/load-report", 200, `"ready":false,"loading":true`, ""},
		{`{"fault":"unauthorized"}`, openAI, 401, "invalid_api_key", ""},
		{`{"fault":"unauthorized"}`, "/load-report", 401, "invalid_api_key", ""},
		{`{"fault":"unauthorized"}`, "/health", 200, "ok", ""},
		{`{"fault":"empty"}`, openAI, 200, "", ""},
		{`{"fault":"silent"}`, openAI, 200, `{"text":""`, ""},
		{`{"fault":"latency","delay":"1ms"}`, openAI, 200, "emulated T4", ""},
		{`[{"fault":"latency","delay":"1ms"},{"fault":"error","status":502}]`, openAI, 502, "emulated", ""},
		{`[]`, openAI, 200, "emulated T4", ""},
	} {
		s.set(c.fault)
		r := s.get(c.path)
		if c.path == openAI || c.path == "/inference" || c.path == "/asr" {
			r = s.transcribe(t.Context(), c.path)
		}
		if r.err != nil || r.status != c.status || !strings.Contains(r.body, c.body) || c.body == "" && r.body != "" || r.header.Get("Retry-After") != c.retryAfter {
			t.Errorf("%s at %s: %+v", c.fault, c.path, r)
		}
		if strings.HasPrefix(c.path, "/v1/audio") && r.header.Get("X-Whisperpool-Emulator") != "true" {
			t.Errorf("%s: the answer does not say that it is an emulator's", c.fault)
		}
	}
	s.wellAgain()
}

func TestAnswersThatBreak(t *testing.T) {
	s := serve(t, nil)
	whole := s.transcribe(t.Context(), openAI)
	if whole.status != http.StatusOK || len(whole.body) < 20 {
		t.Fatalf("%+v", whole)
	}
	s.set(`{"fault":"cut"}`)
	if r := s.transcribe(t.Context(), openAI); r.err != nil || r.status != 200 || r.body != whole.body[:len(whole.body)/2] || json.Valid([]byte(r.body)) {
		t.Errorf("cut: %+v", r)
	}
	s.set(`{"fault":"reset"}`)
	if r := s.transcribe(t.Context(), openAI); r.err == nil || r.status != 0 {
		t.Errorf("reset: %+v", r)
	}
	s.set(`{"fault":"reset","amid":true}`)
	r := s.transcribe(t.Context(), openAI)
	if r.err == nil || !errors.Is(r.err, syscall.ECONNRESET) && !errors.Is(r.err, io.ErrUnexpectedEOF) {
		t.Errorf("reset amid: %+v", r)
	}
	s.wellAgain()
}

func TestExit(t *testing.T) {
	s := serve(t, nil)
	s.set(`{"fault":"exit","on":"transcriptions"}`)
	s.get("/load-report")
	if len(s.died) != 0 {
		t.Error("died of a request that takes no audio")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan reply, 1)
	go func() { done <- s.transcribe(ctx, openAI) }()
	<-s.died
	cancel()
	if r := <-done; r.err == nil {
		t.Errorf("answered: %+v", r)
	}
	s.set(`{"fault":"exit"}`)
	<-s.died
	s.wellAgain()
}

// A job that hangs keeps its slot until the fault is cleared, and is then answered.
func TestHang(t *testing.T) {
	s := serve(t, nil)
	s.set(`{"fault":"hang","requests":2}`)
	done := make(chan reply, 2)
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		go func() { done <- s.transcribe(ctx, openAI) }()
	}
	s.until("jobs hang", func() bool { return s.reports(`"busy":2`) })
	if r := s.get("/health"); r.status != http.StatusOK {
		t.Errorf("a hung engine's health: %+v", r)
	}
	if n, over := s.struck(); n != 2 || !over {
		t.Errorf("struck %d, over %v", n, over)
	}
	s.clear()
	for range 2 {
		if r := <-done; r.status != http.StatusOK {
			t.Errorf("after it was cleared: %+v", r)
		}
	}
	// A client that leaves frees the slot.
	s.set(`{"fault":"hang"}`)
	go func() { done <- s.transcribe(ctx, openAI) }()
	s.until("jobs hang", func() bool { return s.reports(`"busy":1`) })
	cancel()
	<-done
	s.until("the slot is free", func() bool { return s.reports(`"busy":0`) })
	s.wellAgain()
}

// The end of a fault's time ends what it holds.
func TestAFaultEndsByItself(t *testing.T) {
	s := serve(t, nil)
	s.set(`{"fault":"hang","for":"20ms"}`)
	if r := s.transcribe(t.Context(), openAI); r.status != http.StatusOK {
		t.Errorf("%+v", r)
	}
	s.until("the fault is over", func() bool { _, over := s.struck(); return over })
	s.set(`{"fault":"latency","delay":"1h","on":"health","for":"20ms"}`)
	if r := s.get("/health"); r.status != http.StatusOK {
		t.Errorf("%+v", r)
	}
	s.set(`{"fault":"error","requests":3}`)
	failed := 0
	for range 5 {
		if s.transcribe(t.Context(), openAI).status == 500 {
			failed++
		}
	}
	if n, over := s.struck(); failed != 3 || n != 3 || !over {
		t.Errorf("%d failed, struck %d, over %v", failed, n, over)
	}
	s.wellAgain()
}

// A share of requests is struck, the same with the same seed.
func TestShare(t *testing.T) {
	s := serve(t, nil)
	pattern := func(seed string) (all string) {
		s.set(`{"fault":"busy","share":0.5,"seed":` + seed + `}`)
		for range 40 {
			all += map[int]string{200: ".", 503: "x"}[s.transcribe(t.Context(), openAI).status]
		}
		return all
	}
	first, again, other := pattern("3"), pattern("3"), pattern("4")
	if n := strings.Count(first, "x"); n < 10 || n > 30 || len(first) != 40 {
		t.Errorf("half of 40: %s", first)
	}
	if first != again || first == other {
		t.Errorf("seeds do not decide:\n%s\n%s\n%s", first, again, other)
	}
}

func TestSlowIsSlow(t *testing.T) {
	for _, c := range []struct {
		fault string
		want  float64
	}{{`{"fault":"slow"}`, 4}, {`{"fault":"slow","factor":2.5}`, 2.5}, {`{"fault":"slow","factor":0.5}`, 0.5}, {`[{"fault":"slow"},{"fault":"slow","factor":3}]`, 12}} {
		faults, err := ParseFaults([]byte(c.fault))
		if err != nil {
			t.Fatal(err)
		}
		f := NewFaults(slog.New(slog.DiscardHandler))
		f.Set(faults)
		cfg := Config{Class: "T4", Model: "base", Slots: 1}
		well := times(t, cfg, []float64{5})
		cfg.Faults = f
		ill := times(t, cfg, []float64{5})
		if got := float64(ill[0]) / float64(well[0]); got < c.want-1e-6 || got > c.want+1e-6 {
			t.Errorf("%s: %v times as long", c.fault, got)
		}
	}
}

func TestMistakesInFaultsAreTold(t *testing.T) {
	s := serve(t, nil)
	for fault, want := range map[string]string{
		``:                                 "such as",
		`slow`:                             "such as",
		`7`:                                "such as",
		`{}`:                               "slow, hang, silent",
		`{"fault":7}`:                      "slow, hang, silent",
		`{"fault":"melt"}`:                 "exit",
		`[{"fault":"slow"},{"fault":"x"}]`: "slow, hang",
		`{"fault":"slow","delay":"1s"}`:    "fault, share, seed, for, requests, factor",
		`{"fault":"slow","factor":-1}`:     "factor is -1",
		`{"fault":"slow","factor":"x"}`:    "factor",
		`{"fault":"hang","share":1.5}`:     "share is 1.5",
		`{"fault":"hang","requests":-1}`:   "requests is -1",
		`{"fault":"hang","for":"soon"}`:    "500ms",
		`{"fault":"hang","for":5}`:         "500ms",
		`{"fault":"latency"}`:              "delay",
		`{"fault":"error","status":200}`:   "400 and 599",
		`{"fault":"error","on":"mondays"}`: "transcriptions, health or all",
		`{"fault":"exit","share":0.5}`:     "on",
	} {
		r := s.do(t.Context(), http.MethodPut, FaultPath, "application/json", strings.NewReader(fault))
		if r.status != http.StatusBadRequest || !strings.Contains(r.body, want) {
			t.Errorf("%s: %+v, want something about %q", fault, r, want)
		}
	}
	if r := s.do(t.Context(), http.MethodPost, FaultPath, "", nil); r.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %+v", r)
	}
	if r := s.get(FaultPath); r.status != http.StatusOK || !strings.Contains(r.body, `"faults":[]`) || !strings.Contains(r.body, `"hang":"jobs keep`) {
		t.Errorf("what was refused is on, or kinds are not told: %+v", r)
	}
}

// Faults want the API key that all else wants, and a server without an emulator has no such path.
func TestWhoMaySwitchFaults(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(c *backend.Config) { c.KeyFile = keys })
	if r := s.do(t.Context(), http.MethodPut, FaultPath, "", strings.NewReader(`{"fault":"exit"}`)); r.status != http.StatusUnauthorized || len(s.died) != 0 {
		t.Errorf("without a key: %+v", r)
	}
	s = serve(t, func(c *backend.Config) { c.Wrap = nil })
	if r := s.get(FaultPath); r.status != http.StatusNotFound {
		t.Errorf("a server without faults: %+v", r)
	}
}
