package backend_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/emulator"
	"github.com/whisperpool/whisperpool/transcript"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// wav is a tone of so many seconds, 16 kHz mono.
func wav(seconds float64) []byte {
	n := int(seconds * 16000)
	var b bytes.Buffer
	b.WriteString("RIFF")
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	le(uint32(36 + 2*n))
	b.WriteString("WAVEfmt ")
	le(uint32(16))
	le(uint16(1))
	le(uint16(1))
	le(uint32(16000))
	le(uint32(32000))
	le(uint16(2))
	le(uint16(16))
	b.WriteString("data")
	le(uint32(2 * n))
	for i := range n {
		le(int16(8000 * math.Sin(float64(i)*2*math.Pi*440/16000)))
	}
	return b.Bytes()
}

// form is a multipart body: file, unless nil, as the field "file", and fields as name, value, ...
func form(file []byte, fields ...string) (contentType string, body []byte) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = w.WriteField(fields[i], fields[i+1])
	}
	if file != nil {
		part, _ := w.CreateFormFile("file", "private-name.wav")
		_, _ = part.Write(file)
	}
	_ = w.Close()
	return w.FormDataContentType(), b.Bytes()
}

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

// problem is an error object; null is "".
type problem struct{ message, kind, param, code string }

// problem is the error object of an answer; the test fails when it has another shape.
func (a answer) problem(t *testing.T) problem {
	t.Helper()
	var v struct {
		Error map[string]*string `json:"error"`
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%d %q is no error object: %v", a.status, a.body, err)
	}
	for _, name := range []string{"message", "type", "param", "code"} {
		if _, ok := v.Error[name]; !ok {
			t.Fatalf("the error lacks %q: %s", name, a.body)
		}
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return problem{text(v.Error["message"]), text(v.Error["type"]), text(v.Error["param"]), text(v.Error["code"])}
}

// send makes a request and reads the answer.
func send(t *testing.T, method, url, contentType string, body []byte) answer {
	t.Helper()
	return sendWith(t.Context(), t, method, url, contentType, bytes.NewReader(body))
}

func sendWith(ctx context.Context, t *testing.T, method, url, contentType string, body io.Reader) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// transcribe posts a short tone to /v1/audio/transcriptions.
func transcribe(t *testing.T, base string, fields ...string) answer {
	t.Helper()
	contentType, body := form(wav(0.5), append([]string{"model", "whisper-1"}, fields...)...)
	return send(t, http.MethodPost, base+"/v1/audio/transcriptions", contentType, body)
}

// serve runs a server over a real socket.
func serve(t *testing.T, cfg backend.Config, engine backend.Transcriber) (*backend.Server, string) {
	t.Helper()
	if cfg.TempDir == "" {
		cfg.TempDir = t.TempDir()
	}
	s, err := backend.New(cfg, engine)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return s, server.URL
}

// fast is an emulator that takes no time to speak of.
func fast(t *testing.T) backend.Transcriber {
	t.Helper()
	e, err := emulator.New(emulator.Config{Class: "T4", Model: "base", Slots: 2, Seed: 1, SpeedUp: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// blocking is an engine whose jobs run until they are let go or their context ends.
type blocking struct {
	slots   int
	started chan transcript.Params // one for each job that starts
	release chan struct{}          // a job ends for each value
	ended   chan error             // one for each job that ends
	running atomic.Int32
	most    atomic.Int32 // that ever ran side by side
	closed  atomic.Bool
}

func newBlocking(slots int) *blocking {
	return &blocking{
		slots: slots, started: make(chan transcript.Params, 100), release: make(chan struct{}), ended: make(chan error, 100),
	}
}

func (b *blocking) Info() backend.EngineInfo {
	return backend.EngineInfo{Engine: "test", Model: "base", Multilingual: true, Slots: b.slots, Device: "CUDA0: NVIDIA A10G"}
}

func (b *blocking) Resize(int) error { return nil }

func (b *blocking) Transcribe(ctx context.Context, job backend.Job) (backend.Result, error) {
	now := b.running.Add(1)
	defer b.running.Add(-1)
	for most := b.most.Load(); now > most && !b.most.CompareAndSwap(most, now); most = b.most.Load() {
	}
	b.started <- job.Params
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-b.release:
	}
	b.ended <- err
	text := "private words"
	return backend.Result{Transcript: transcript.Transcript{
		Task: job.Params.Task, Language: "en", Segments: []transcript.Segment{{Text: text, End: float64(len(job.Samples)) / 16000}},
	}}, err
}

func (b *blocking) Close() error {
	b.closed.Store(true)
	return nil
}

// engineFunc is an engine of one function.
type engineFunc struct {
	info backend.EngineInfo
	run  func(ctx context.Context, samples []float32, p transcript.Params) (transcript.Transcript, error)
}

func (e engineFunc) Info() backend.EngineInfo { return e.info }
func (e engineFunc) Close() error             { return nil }
func (e engineFunc) Resize(int) error         { return nil }
func (e engineFunc) Transcribe(ctx context.Context, job backend.Job) (backend.Result, error) {
	t, err := e.run(ctx, job.Samples, job.Params)
	return backend.Result{Transcript: t}, err
}

// await receives from c, or fails the test.
func await[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
	}
	return v
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("it never came to this: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// report reads /load-report.
func report(t *testing.T, base string) (r backend.Report) {
	t.Helper()
	a := send(t, http.MethodGet, base+"/load-report", "", nil)
	if a.status != http.StatusOK {
		t.Fatalf("/load-report: %d %s", a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %s", part, text)
		}
	}
}
