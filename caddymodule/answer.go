package caddymodule

import (
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
)

// finish answers as the job ended.
func (t *transcription) finish(w http.ResponseWriter, r *http.Request, b *body, s scheduler.Settle) {
	t.replying = time.Now()
	queueSeconds.WithLabelValues(t.pool.name).Observe(s.Waited.Seconds())
	answer := t.answer.Load()
	var problem *transcript.Error
	outcome := s.Reason.String()
	switch {
	case s.Reason == scheduler.Served && answer != nil, s.Reason == scheduler.ClientGone && !t.shutOut(r):
	case s.Reason == scheduler.ClientGone:
		problem = shutDown() // the grace period has ended, not the client's patience
		outcome = problem.Code
	case s.Reason == scheduler.Served: // its stream broke off
		s.Last.Detail = t.stream.fault()
		problem = exhausted(s, time.Second)
		outcome = scheduler.Exhausted.String()
	default:
		problem = t.settled(s)
	}
	t.count(outcome)
	t.remember(outcome, problem, s.Waited)
	t.traceEnd(s, outcome)
	if problem != nil {
		t.countRefusal(problem)
		t.logRefusal(problem, zap.String("backend", string(s.Backend)), zap.Int("attempts", s.Attempts), zap.Duration("waited", s.Waited))
	}
	if t.stream.end(problem) { // what has begun as a stream ends as one
		return
	}
	t.dispatched(w.Header(), s.Backend, s.Waited, s.Attempts)
	t.writing = true
	switch {
	case problem != nil:
		t.handler.refuse(w, r, b, problem)
	case s.Reason == scheduler.ClientGone:
		w.WriteHeader(statusClientClosed)
	default:
		t.write(w, answer)
	}
}

// shutOut tells whether it was the pool that gave up on the request, and not its client.
func (t *transcription) shutOut(r *http.Request) bool {
	return r.Context().Err() == nil && t.pool.closing.Err() != nil
}

// dispatched says in the answer's header who served it and how long it waited.
func (t *transcription) dispatched(h http.Header, backend scheduler.BackendID, waited time.Duration, attempts int) {
	if backend != "" {
		h.Set("X-Whisperpool-Backend", string(backend))
	}
	h.Set("X-Whisperpool-Queue-Ms", strconv.FormatInt(waited.Milliseconds(), 10))
	h.Set("X-Whisperpool-Attempts", strconv.Itoa(attempts))
	timing := "upload;dur=" + milliseconds(t.uploaded) + ", queue;dur=" + milliseconds(waited)
	if answer := t.answer.Load(); answer != nil {
		timing += ", service;dur=" + milliseconds(answer.service)
	}
	h.Set("Server-Timing", timing)
}

// write writes an answer that is whole.
func (t *transcription) write(w http.ResponseWriter, a *answer) {
	h := w.Header()
	if a.ContentType == transcript.StreamType {
		transcript.StreamHeader(h)
	}
	if a.emulated {
		h.Set(emulatorHeader, "true") // or somebody would take it for what was said
	}
	t.dialect.setHeaders(h, t.request)
	h.Set("Content-Type", a.ContentType)
	h.Set("Content-Length", strconv.Itoa(len(a.Body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(a.Body) // the client may be gone
}

const emulatorHeader = "X-Whisperpool-Emulator"

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64)
}
