package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
)

// statusClientClosed is what is logged for a client that left; nobody reads it.
const statusClientClosed = 499

// refuse answers with an error. b is the body when it was begun to be read, else nil. An answer to an
// unfinished upload is written first and the rest taken in after, for a while; net/http would do it
// the other way round, and without a limit of time.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, b *body, problem *transcript.Error) {
	unread := r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 && (b == nil || !b.ended())
	if !unread {
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
	if lingers(r, b) {
		h.linger(w, r, b)
	}
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
	case scheduler.TenantFull:
		return tenantFull(again)
	case scheduler.WaitTooLong:
		return transcript.Unavailable("wait_too_long", again, "the queue is longer than a request may wait here; try again later")
	case scheduler.DeadlinePassed:
		return transcript.Unavailable("deadline_passed", again, "the transcription could not be done within the time that the client gives it")
	case scheduler.NoBackend:
		return t.pool.catalogue.Load().noBackend(t.model, again)
	case scheduler.Exhausted:
		return exhausted(s, again)
	case scheduler.Poison:
		t.pool.poisons.add(t.file, time.Now())
		return poisonous()
	default:
		return internalProblem("the transcription ended as " + s.Reason.String())
	}
}

// forModel is empty where the backends have no names for their models.
func forModel(model string) string {
	if model == "" {
		return ""
	}
	return "for the model " + quoted(model) + " "
}

func queueFull(again time.Duration) *transcript.Error {
	return transcript.Unavailable("queue_full", again, "too many transcriptions are waiting; try again later")
}

// tenantFull is for one of many who send: the pool itself may have room.
func tenantFull(again time.Duration) *transcript.Error {
	return &transcript.Error{
		Status: http.StatusTooManyRequests, Type: "rate_limit_error", Code: scheduler.TenantFull.String(), RetryAfter: again,
		Message: "too many transcriptions of this client are waiting; try again later",
	}
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

// refuse answers a request that never got into the queue.
func (t *transcription) refuse(w http.ResponseWriter, r *http.Request, b *body, problem *transcript.Error) {
	t.replying = time.Now()
	outcome := "invalid"
	if problem.Status >= 500 || problem.Status == http.StatusTooManyRequests {
		outcome = problem.Code
	}
	t.count(outcome)
	t.remember(outcome, problem, 0)
	t.countRefusal(problem)
	t.logRefusal(problem)
	if t.file != nil {
		t.file.Close() // it is not needed while the rest of the upload is taken in
	}
	t.writing = true
	t.handler.refuse(w, r, b, problem)
}

// upstreamRefused stands for a backend's own code, since its words may quote what it was sent.
const upstreamRefused = "upstream_refused"

// codeOf is a refusal's code where it is ours.
func (t *transcription) codeOf(problem *transcript.Error) string {
	if problem == t.problem.Load() && problem.Status < 500 {
		return upstreamRefused
	}
	return problem.Code
}

// logRefusal logs what was answered. Messages to clients quote what they wrote, so only the code of a
// client's own mistake is logged.
func (t *transcription) logRefusal(problem *transcript.Error, fields ...zap.Field) {
	code, param := t.codeOf(problem), problem.Param
	if code == upstreamRefused {
		param = ""
	}
	fields = append(fields, zap.String("request_id", t.requestID), zap.Int("status", problem.Status), zap.String("code", code))
	if problem.Status < 500 {
		t.pool.log().Debug("request refused", append(fields, zap.String("param", param))...)
		return
	}
	t.pool.log().Warn("request not served", append(fields, zap.String("message", problem.Message))...)
}

// refuseUpload answers a request whose body could not be taken in.
func (t *transcription) refuseUpload(w http.ResponseWriter, r *http.Request, b *body, err error) {
	var bad *badFormError
	var own *spoolError
	problem := internalProblem("the upload could not be taken in")
	switch {
	case errors.As(err, &bad):
		problem = bad.problem
	case errors.Is(err, errBodyTooLarge):
		problem = tooLarge(t.handler.Upload.MaxSize)
	case errors.Is(err, errNoRoom):
		problem = noRoom()
	case errors.Is(err, os.ErrDeadlineExceeded):
		problem = &transcript.Error{
			Status: http.StatusRequestTimeout, Type: "invalid_request_error", Code: "upload_timeout",
			Message: "the upload stood still, or came too slowly, for too long",
		}
	case errors.Is(err, errUploadBroken):
		t.replying = time.Now()
		t.count(scheduler.ClientGone.String())
		w.WriteHeader(statusClientClosed)
		return
	case outOfFiles(err):
		tellOutOfFiles(t.pool.log(), "storing an upload")
		problem = noFiles()
	case errors.As(err, &own):
		t.pool.log().Error("an upload can't be spooled", zap.String("request_id", t.requestID), zap.Error(own))
		if problem = transcript.Unavailable("spool_failed", queueFullRetry, "the upload could not be stored; try again later"); diskFull(own) {
			problem.Code, problem.Message = "spool_full", "the disk for uploads is full; try again later"
		}
	default:
		t.pool.log().Error("an upload can't be taken in", zap.String("request_id", t.requestID), zap.Error(fmt.Errorf("reading the form: %w", err)))
	}
	t.refuse(w, r, b, problem)
}
