package backend_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// speaking is an engine that tells a segment whenever it is let, and ends when it is told how.
type speaking struct {
	say chan string
	end chan error
	got chan error // what ended the job
}

func newSpeaking() *speaking {
	return &speaking{say: make(chan string), end: make(chan error), got: make(chan error, 10)}
}

func (e *speaking) Info() backend.EngineInfo {
	return backend.EngineInfo{Engine: "test", Model: "base", Multilingual: true, Slots: 1, Device: "CPU"}
}
func (e *speaking) Resize(int) error { return nil }
func (e *speaking) Close() error     { return nil }

func (e *speaking) Transcribe(ctx context.Context, job backend.Job) (r backend.Result, err error) {
	defer func() { e.got <- err }()
	r.Task, r.Language = job.Params.Task, "en"
	for {
		select {
		case text := <-e.say:
			s := transcript.Segment{ID: len(r.Segments), Start: float64(len(r.Segments)), End: float64(len(r.Segments) + 1), Text: text}
			r.Segments = append(r.Segments, s)
			job.Segment(s)
		case err = <-e.end:
			return r, err
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// streaming posts half a second of sound with stream=true and returns the answer, unread.
func streaming(ctx context.Context, t *testing.T, base string, fields ...string) *http.Response {
	t.Helper()
	contentType, body := form(wav(0.5), append([]string{"model", "whisper-1", "stream", "true"}, fields...)...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/audio/transcriptions", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// next is the next event's data, comments skipped.
func next(t *testing.T, lines *bufio.Reader) string {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, line)
		}
		if data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: "); ok {
			return data
		}
	}
}

func TestStream(t *testing.T) {
	engine := newSpeaking()
	_, base := serve(t, backend.Config{}, engine)
	go func() { engine.say <- " One" }()
	resp := streaming(t.Context(), t, base)
	h := resp.Header
	if resp.StatusCode != http.StatusOK || h.Get("Content-Type") != "text/event-stream" || !strings.Contains(h.Get("Cache-Control"), "no-transform") ||
		h.Get("X-Request-Id") == "" || h.Get(backend.LoadHeader) == "" || h.Get(backend.AudioSecondsHeader) != "0.500" || h.Get("Content-Encoding") != "" {
		t.Fatalf("%d %v", resp.StatusCode, h)
	}
	lines := bufio.NewReader(resp.Body)
	for i, c := range []struct{ said, delta string }{{"", "One"}, {" two, ", " two,"}, {"  ", ""}, {" thr\xc3", "    thr"}, {"\xa9e.", "ée."}} {
		if c.said != "" {
			engine.say <- c.said // and its delta comes while the engine goes on
		}
		if c.delta == "" {
			continue
		}
		var e struct{ Type, Delta string }
		if data := next(t, lines); json.Unmarshal([]byte(data), &e) != nil || e.Type != "transcript.text.delta" || e.Delta != c.delta {
			t.Errorf("event %d is %s, want the delta %q", i, data, c.delta)
		}
	}
	engine.end <- nil
	if data, want := next(t, lines), `{"type":"transcript.text.done","text":"One two,    thrée."}`; data != want {
		t.Errorf("%s, want %s", data, want)
	}
	if rest, err := io.ReadAll(lines); len(bytes.TrimSpace(rest)) > 0 || err != nil {
		t.Errorf("after the last event: %q, %v", rest, err)
	}
}

// The header comes although nothing was said yet.
func TestStreamBeginsWithinASecond(t *testing.T) {
	engine := newSpeaking()
	_, base := serve(t, backend.Config{}, engine)
	began := time.Now()
	resp := streaming(t.Context(), t, base)
	if took := time.Since(began); resp.StatusCode != http.StatusOK || took < 900*time.Millisecond {
		t.Errorf("%d after %v", resp.StatusCode, took)
	}
	engine.end <- errors.New("out of luck")
	var e struct{ Error map[string]*string }
	data := next(t, bufio.NewReader(resp.Body))
	if err := json.Unmarshal([]byte(data), &e); err != nil || e.Error["code"] == nil || *e.Error["code"] != "engine_failed" || len(e.Error) != 4 {
		t.Errorf("a late failure is %s", data)
	}
}

func TestStreamThatFailsAtOnceHasAStatus(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	contentType, body := form([]byte("this is no sound at all"), "model", "whisper-1", "stream", "true")
	a := send(t, http.MethodPost, base+"/v1/audio/transcriptions", contentType, body)
	if p := a.problem(t); a.status != http.StatusBadRequest || p.code != "not_audio" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestStreamIsAbortedWhenItsClientLeaves(t *testing.T) {
	engine := newSpeaking()
	s, base := serve(t, backend.Config{}, engine)
	ctx, leave := context.WithCancel(t.Context())
	go func() { engine.say <- " One" }()
	resp := streaming(ctx, t, base)
	next(t, bufio.NewReader(resp.Body))
	leave()
	if err := await(t, engine.got, "the end of the job"); !errors.Is(err, context.Canceled) {
		t.Errorf("the job ended with %v", err)
	}
	until(t, "no job inside", func() bool { return s.Report().Busy == 0 && s.Report().Queued == 0 })
}

// An engine that tells no segments, and one that tells nothing was said.
func TestStreamOfAWholeAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		segments []transcript.Segment
		want     string
	}{
		"silence": {nil, `data: {"type":"transcript.text.done","text":""}` + "\n\n"},
		"at the end": {
			[]transcript.Segment{{Text: " a"}, {Text: " b"}},
			`data: {"type":"transcript.text.delta","delta":"a"}` + "\n\n" + `data: {"type":"transcript.text.delta","delta":" b"}` + "\n\n" +
				`data: {"type":"transcript.text.done","text":"a b"}` + "\n\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, base := serve(t, backend.Config{}, engineFunc{
				info: newSpeaking().Info(),
				run: func(context.Context, []float32, transcript.Params) (transcript.Transcript, error) {
					return transcript.Transcript{Segments: c.segments}, nil
				},
			})
			body, err := io.ReadAll(streaming(t.Context(), t, base, "response_format", "text").Body)
			if err != nil || string(body) != c.want {
				t.Errorf("%q, %v; want %q", body, err, c.want)
			}
		})
	}
}
