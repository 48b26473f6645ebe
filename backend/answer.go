package backend

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/transcript"
)

// requestIDHeader names a request in the logs of all that it passes through.
const requestIDHeader = "X-Request-Id"

// transcription makes the handler of a route that takes audio.
func (s *Server) transcription(d dialect) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.gate.enter() {
			defer s.gate.leave() // after the answer is written
		}
		started := time.Now()
		j := &job{dialect: d, id: requestID(r)}
		defer func() { j.stream.stop() }() // also when this ends in a panic
		t, refusal := s.attend(w, r, j)

		outcome := outcomeOf(refusal)
		s.metrics.observe(outcome, j)
		s.log.Info("request", "id", j.id, "outcome", outcome, "audio_seconds", j.audioSeconds,
			"decode", j.decode, "queue", j.queue, "inference", j.inference, "total", time.Since(started))
		if refusal != nil {
			s.metrics.refused(refusal.Code)
		}
		if j.stream.end(t, refusal) {
			return
		}
		h := w.Header()
		h.Set(requestIDHeader, j.id)
		s.setLoadHeaders(h)
		setTiming(h, j)
		d.setHeaders(h, j, s)
		if refusal != nil {
			s.refuse(w, r, refusal, j.upload != nil)
			return
		}
		contentType, body := t.Render(j.params)
		writeAnswer(w, contentType, body)
	}
}

// setTiming tells how long the job took where, in milliseconds.
func setTiming(h http.Header, j *job) {
	if j.decode == 0 {
		return
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	h.Set("Server-Timing", fmt.Sprintf("decode;dur=%.1f, queue;dur=%.1f, inference;dur=%.1f",
		ms(j.decode), ms(j.queue), ms(j.inference)))
}

// writeAnswer writes a whole answer, and gives a client that does not take it answerStall to.
func writeAnswer(w http.ResponseWriter, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(answerStall))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // the client may be gone, which is no error of ours
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{}) // the connection serves on
}

// refuse answers with an error. What the client is still sending is then read for a moment: were
// the connection closed at once, a client that looks for the answer only after its upload would see
// a reset instead. bodyRead: there is nothing left of it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, e *transcript.Error, bodyRead bool) {
	control := http.NewResponseController(w)
	if e.Status == statusClientGone {
		_ = control.SetReadDeadline(time.Unix(1, 0)) // net/http would wait for what is unread
		panic(http.ErrAbortHandler)                  // nobody reads an answer; closes the connection without a log line
	}
	waitsForGo := r.Header.Get("Expect") != "" // such a client sends nothing before it is told to
	unread := r.ContentLength != 0 && !bodyRead && !waitsForGo
	if unread {
		_ = control.EnableFullDuplex() // else the answer would wait for the upload
	}
	if unread && (r.ContentLength < 0 || r.ContentLength > drainBytesMax) {
		w.Header().Set("Connection", "close") // else the client might use a connection that is about to close
	}
	_ = control.SetWriteDeadline(time.Now().Add(answerStall))
	e.WriteTo(w)
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{})
	if !unread {
		return
	}
	patience := drainTimeMax
	if e.Status == http.StatusRequestTimeout || errors.Is(context.Cause(r.Context()), errShutdown) {
		patience = 0 // the client was waited for already
	}
	_ = control.SetReadDeadline(time.Now().Add(patience))
	_, err := io.CopyN(io.Discard, r.Body, drainBytesMax)
	if errors.Is(err, io.EOF) {
		_ = control.SetReadDeadline(time.Time{}) // read to its end: the connection serves on
	}
}

// requestID is the client's own where it is fit for headers and logs, else a new one.
func requestID(r *http.Request) string {
	const longest = 128
	id := r.Header.Get(requestIDHeader)
	odd := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.:", c)
	}
	if id != "" && len(id) <= longest && !strings.ContainsFunc(id, odd) {
		return id
	}
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails, by its contract
	return hex.EncodeToString(random)
}

// recovered logs a panic, without what it may hold of a client's data, and makes the answer.
func (s *Server) recovered(v any) *transcript.Error {
	if v == http.ErrAbortHandler {
		panic(v)
	}
	what := fmt.Sprintf("%T", v)
	if err, ok := v.(runtime.Error); ok {
		what = err.Error() // of the runtime's own making: an index, a type
	}
	s.log.Error("a handler panicked", "panic", what, "stack", string(debug.Stack()))
	return &transcript.Error{
		Status: http.StatusInternalServerError, Type: "server_error", Code: "internal_error",
		Message: "The server made a mistake; its log says more.",
	}
}

// sentence makes an error's text one that starts with a capital and ends with a full stop.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[size:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
