package caddymodule

import (
	"net/http"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
)

// statusClientClosed is what is logged for a client that left; nobody reads it.
const statusClientClosed = 499

// refuse answers with an error. b is the body when it was begun to be read, else nil. An answer to an
// unfinished upload is written first and the rest drained after, for a while; net/http would do it
// the other way round, and without a limit of time.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, b *body, problem *transcript.Error) {
	unread := r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 && (b == nil || !b.ended())
	// A client that asked first sends nothing once it has a refusal. Reading would tell it to go on.
	asks := b == nil && strings.EqualFold(r.Header.Get("Expect"), "100-continue")
	if !unread || asks {
		problem.WriteTo(w)
		return
	}
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/2 and 3 need not be told
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	problem.WriteTo(w)
	_ = control.Flush()
	drain(w, r)
}

// settled is the refusal for a job that was not served.
func (t *transcription) settled(s scheduler.Settle) *transcript.Error {
	again := max(s.RetryAfter, time.Second)
	switch s.Reason {
	case scheduler.Refused:
		if problem := t.problem.Load(); problem != nil {
			return problem
		}
		return internalProblem("the backend refused the request and did not say why")
	case scheduler.QueueFull:
		return queueFull(again)
	case scheduler.WaitTooLong:
		return transcript.Unavailable("wait_too_long", again, "the queue is longer than a request may wait here; try again later")
	case scheduler.DeadlinePassed:
		return transcript.Unavailable("deadline_passed", again, "the transcription could not be done within the time that the client gives it")
	case scheduler.NoBackend:
		return transcript.Unavailable("no_backend", again, "no backend can be used for the model %s at present; try again later", quoted(t.model))
	case scheduler.Exhausted:
		return exhausted(s, again)
	default:
		return internalProblem("the transcription ended as " + s.Reason.String())
	}
}

func queueFull(again time.Duration) *transcript.Error {
	return transcript.Unavailable("queue_full", again, "too many transcriptions are waiting; try again later")
}

// exhausted names what the last backend did. Details are made for clients: no addresses, no text of
// answers.
func exhausted(s scheduler.Settle, again time.Duration) *transcript.Error {
	problem := transcript.Unavailable("upstream_failed", again, "every attempt failed; the last, on %s: %s", s.Backend, s.Last.Detail)
	switch s.Last.Result {
	case scheduler.Busy, scheduler.Loading:
	default:
		problem.Status = http.StatusBadGateway
	}
	return problem
}
