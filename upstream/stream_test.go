package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// streamedPieces is a server that sends each piece once it is let, and then ends the connection, orderly
// or not.
func streamedPieces(t *testing.T, pieces <-chan string, abort bool) *server {
	return listen(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case piece, more := <-pieces:
				if !more && abort {
					panic(http.ErrAbortHandler)
				}
				if !more {
					return
				}
				_, _ = io.WriteString(w, piece)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
}

func pieces(all ...string) <-chan string {
	c := make(chan string, len(all))
	for _, piece := range all {
		c <- piece
	}
	close(c)
	return c
}

const (
	deltaA = `data: {"type":"transcript.text.delta","delta":"Hello"}` + "\n\n"
	doneA  = `data: {"type":"transcript.text.done","text":"Hello"}` + "\n\n"
)

func errorEvent(kind, code string) string {
	return fmt.Sprintf(`data: {"error":{"message":"CUDA error: out of memory at Xylophon","type":%q,"param":null,"code":%q}}`, kind, code) + "\n\n"
}

// Until its first event a stream is like any answer: what is wrong with it can be done elsewhere.
func TestStreamsFirstEvent(t *testing.T) {
	r := request(params(t, transcript.OpenAI, "stream", "true"))
	for name, c := range map[string]struct {
		pieces []string
		abort  bool
		want   Class
		detail string
	}{
		"a delta":               {[]string{": x\n\n", deltaA, doneA}, false, OK, ""},
		"silence":               {[]string{`data: {"type":"transcript.text.done","text":""}` + "\n\n"}, false, OK, ""},
		"nothing":               {nil, false, Broken, "connection closed"},
		"comments only":         {[]string{": x\n\n: x\n\n"}, true, Broken, "connection closed"},
		"half an event":         {[]string{deltaA[:20]}, false, Broken, "connection closed"},
		"no JSON":               {[]string{"data: hello\n\n"}, false, Broken, "no sense"},
		"flood":                 {[]string{strings.Repeat(": "+strings.Repeat("x", 1000)+"\n\n", 1200)}, false, Broken, "more than"},
		"a failure":             {[]string{errorEvent("server_error", "engine_failed")}, false, Broken, "out of memory"},
		"shutting down":         {[]string{errorEvent("server_error", "shutting_down")}, false, Busy, ""},
		"the client's mistake":  {[]string{errorEvent("invalid_request_error", "not_audio")}, false, ClientFault, ""},
		"an error without type": {[]string{`data: {"error":"Xylophon"}` + "\n\n"}, false, Broken, "an error"},
	} {
		t.Run(name, func(t *testing.T) {
			v := mustExchange(t, whisperPool{}, streamedPieces(t, pieces(c.pieces...), c.abort).base(t), r)
			if v.Class != c.want || !strings.Contains(v.Detail, c.detail) || strings.Contains(v.Detail, "Xylophon") {
				t.Errorf("class %d, %q", v.Class, v.Detail)
			}
			if c.want == ClientFault && (v.Problem.Status != 400 || v.Problem.Code != "not_audio" || !v.Problem.Final) {
				t.Errorf("%+v", v.Problem)
			}
			if v.Answer.Stream != nil {
				drain(t, v.Answer.Stream)
			}
		})
	}
}

// The first event is passed on while the others are still to come.
func TestStreamIsNotWaitedFor(t *testing.T) {
	more := make(chan string)
	base := streamedPieces(t, more, false).base(t)
	go func() { more <- deltaA }()
	v := mustExchange(t, whisperPool{}, base, request(params(t, transcript.OpenAI, "stream", "true")))
	s := v.Answer.Stream
	if e, err := s.Next(); err != nil || e.Delta != "Hello" || e.Done {
		t.Fatalf("%+v, %v", e, err)
	}
	go func() { more <- `data: {"type":"transcript.text.delta","delta":" there"}` + "\n\n" }()
	if e, err := s.Next(); err != nil || e.Delta != " there" {
		t.Fatalf("%+v, %v", e, err)
	}
	close(more)
	_, err := s.Next()
	if detail, over := s.Fault(err); over || !strings.Contains(detail, "connection closed before") {
		t.Errorf("%v: %q, %v", err, detail, over)
	}
	if !s.Words() {
		t.Error("no words")
	}
	s.Close()
}

func TestStreamEndsWithItsAttempt(t *testing.T) {
	more := make(chan string)
	base := streamedPieces(t, more, false).base(t)
	go func() { more <- deltaA }()
	r := request(params(t, transcript.OpenAI, "stream", "true"))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := whisperPool{}.Render(ctx, base, r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	v, err := whisperPool{}.Read(resp, r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = v.Answer.Stream.Next()
	cancel()
	_, err = v.Answer.Stream.Next()
	if _, over := v.Answer.Stream.Fault(err); !over || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	v.Answer.Stream.Close()
}

// A backend that never ends its body costs a moment, and its connection.
func TestStreamWithoutEnd(t *testing.T) {
	more := make(chan string)
	base := streamedPieces(t, more, false).base(t)
	go func() { more <- deltaA + doneA }()
	v := mustExchange(t, whisperPool{}, base, request(params(t, transcript.OpenAI, "stream", "true")))
	began := time.Now()
	drain(t, v.Answer.Stream)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("closing took %v", took)
	}
}

// An older backend that does not stream answers whole.
func TestStreamThatIsNone(t *testing.T) {
	v := mustExchange(t, whisperPool{}, answering(t, 200, "application/json", openAIUsage).base(t), request(params(t, transcript.OpenAI, "stream", "true")))
	if v.Class != OK || v.Answer.Stream != nil || v.Answer.ContentType != "text/event-stream" {
		t.Fatalf("%+v", v)
	}
	streamed(t, string(v.Answer.Body))
}

// Detection from a server that does not tell the language is none.
func TestDetectionWithoutALanguage(t *testing.T) {
	v := mustExchange(t, openAI{}, answering(t, 200, "application/json", `{"text":"hm","duration":1}`).base(t), request(params(t, transcript.ASR, "detect", "1")))
	if v.Class != Broken || !strings.Contains(v.Detail, "language") {
		t.Errorf("%+v", v)
	}
}
