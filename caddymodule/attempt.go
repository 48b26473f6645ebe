package caddymodule

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
	"github.com/whisperpool/whisperpool/upstream"
)

// staleWithin is how soon after the request was written an old connection must break to count as one
// that the backend had closed already: the answer to the first bytes takes a round trip. One that breaks
// later died with our request on it.
const staleWithin = 250 * time.Millisecond

// try runs one attempt of the job. The dispatcher calls it, and ends it through ctx alone.
func (t *transcription) try(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
	m := t.pool.member(a.Backend)
	if m == nil {
		return scheduler.Outcome{Result: scheduler.Died, Unreached: true, Detail: "the backend was just taken out of the configuration"}
	}
	b, kind := t.pool.hold(m)
	defer b.generation.release()
	if kind == nil {
		return scheduler.Outcome{Result: scheduler.Loading, Detail: "the backend's address just changed and it has not been asked yet"}
	}
	if ctx.Err() != nil {
		return scheduler.Outcome{Result: scheduler.Aborted} // the upload may be given back already
	}
	m.running.Add(1)
	defer m.running.Add(-1)
	if !t.trial {
		defer t.runs()()
	}
	began := time.Now()
	t.begun(a, b, began)
	ctx, span := t.traceAttempt(ctx, a, b.config.Class, began)
	var way way
	outcome := t.attempt(ctx, a, b, kind, &way)
	took := time.Since(began)
	t.attempted(a, b, outcome, took)
	t.story.attempted(a, outcome, took)
	t.endAttempt(span, outcome)
	t.logAttempt(a, b, outcome, took)
	if ctx.Err() != nil && way.atWork() && !kind.FreesOnCancel() {
		t.pool.sitOut(a.Predicted - took)
	}
	t.course.end(a.Dispatch, outcome.Result, time.Now())
	return outcome
}

// runs counts the job as one that does not wait, until the attempt is over.
func (t *transcription) runs() (over func()) {
	t.pool.running.Add(1)
	t.pool.tenants.add(t.tenant, -1)
	return func() {
		t.pool.tenants.add(t.tenant, 1)
		t.pool.running.Add(-1)
	}
}

// sitOutShare is how much of what was left of an attempt is sat out. It is less than all, for an attempt
// that was ended after more than was predicted would count as one that showed the backend to be slow.
const sitOutShare = 0.95

// sitOut keeps the slot of an attempt that was ended on a backend that does not notice, and goes on, for
// what was left of the time that it was predicted to take. Nothing but the process's end is known to end that
// sooner.
func (p *Pool) sitOut(left time.Duration) {
	timer := time.NewTimer(time.Duration(sitOutShare * float64(left)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.closing.Done():
	case <-p.life.Done():
	}
}

func (t *transcription) logAttempt(a dispatcher.Attempt, b *backend, outcome scheduler.Outcome, took time.Duration) {
	log, message := t.pool.log().Warn, "attempt failed"
	switch outcome.Result {
	case scheduler.Success:
		log, message = t.pool.log().Debug, "attempt succeeded"
	case scheduler.Aborted, scheduler.ClientError:
		log, message = t.pool.log().Info, "attempt ended"
	}
	log(message, zap.String("request_id", t.requestID), zap.String("backend", string(b.id)), zap.Int("attempt", a.Number),
		zap.Stringer("result", outcome.Result), zap.String("detail", outcome.Detail), zap.Duration("took", took),
		zap.Stringer("why", a.Reason), zap.Duration("predicted", a.Predicted))
}

func (t *transcription) attempt(ctx context.Context, a dispatcher.Attempt, b *backend, kind upstream.Kind, way *way) (outcome scheduler.Outcome) {
	defer func() {
		if value := recover(); value != nil {
			outcome = t.crashed(b.id, value)
		}
	}()
	asked := t.request
	if asked.Model = a.Model; asked.Model == "" {
		asked.Model = asked.Params.Model // nobody has names for models here but the client
	}
	req, err := kind.Render(ctx, b.base, asked)
	if err != nil {
		return scheduler.Outcome{Result: scheduler.Failed, Detail: "rendering the request: " + err.Error()}
	}
	req.Header.Set(requestIDHeader, t.requestID)
	propagate(ctx, req.Header)
	began := time.Now()
	resp, err := b.roundTrip(req, way) //nolint:bodyclose // Read closes it
	var verdict upstream.Verdict
	if err == nil {
		verdict, err = kind.Read(resp, asked)
	}
	if err != nil {
		return t.broken(ctx, b, way.connected.Load(), err)
	}
	switch verdict.Class {
	case upstream.OK:
		if !t.trial && !a.Commit() {
			return scheduler.Outcome{Result: scheduler.Aborted}
		}
		if verdict.Answer.Stream != nil {
			return t.passOn(ctx, a, verdict, began)
		}
		t.answered(a, verdict, time.Since(began))
		return scheduler.Outcome{
			// A length that can't be the upload's makes a speed that can't be learned from.
			Result: scheduler.Success, AudioSeconds: verdict.Answer.AudioSeconds, Words: verdict.Answer.Words && !verdict.Answer.Doubtful,
			Detail: verdict.Detail,
		}
	case upstream.ClientFault:
		t.refused(verdict.Problem)
		return scheduler.Outcome{Result: scheduler.ClientError, Detail: verdict.Detail}
	case upstream.Busy:
		return scheduler.Outcome{Result: scheduler.Busy, RetryAfter: verdict.RetryAfter, Detail: verdict.Detail}
	case upstream.Loading:
		return scheduler.Outcome{Result: scheduler.Loading, Detail: verdict.Detail}
	default: // Broken, Misconfigured
		return scheduler.Outcome{Result: scheduler.Failed, Detail: verdict.Detail}
	}
}

// broken is the outcome of an attempt whose connection failed or was ended; reached says whether there
// was one.
func (t *transcription) broken(ctx context.Context, b *backend, reached bool, err error) scheduler.Outcome {
	var own *spoolError
	switch {
	case errors.Is(context.Cause(ctx), dispatcher.ErrGivenUp):
		return scheduler.Outcome{Result: scheduler.Failed, Detail: "given up: it took far longer than predicted"}
	case ctx.Err() != nil:
		return scheduler.Outcome{Result: scheduler.Aborted}
	case errors.As(err, &own):
		t.pool.log().Error("an upload can't be read back", zap.String("request_id", t.requestID), zap.Error(own))
		t.refused(internalProblem("the upload could not be read back from where it was spooled"))
		return scheduler.Outcome{Result: scheduler.ClientError, Detail: "spool: " + own.Error()} // not the backend's fault
	}
	if upstream.Garbled(err) { // the error quotes the answer, which is not logged
		return scheduler.Outcome{Result: scheduler.Failed, Detail: "its answer is no HTTP"}
	}
	if outOfFiles(err) {
		return t.withoutFiles()
	}
	t.pool.log().Debug("connection failed", zap.String("request_id", t.requestID), zap.String("backend", string(b.id)), zap.Error(err))
	return scheduler.Outcome{Result: scheduler.Died, Unreached: !reached, Detail: connectionFault(err)}
}

func internalProblem(message string) *transcript.Error {
	return &transcript.Error{Status: http.StatusInternalServerError, Type: "server_error", Code: "internal_error", Message: message}
}

// dress gives a request what Caddy's transports look for in its context, and the user's headers. The
// client's own headers never come here: kinds render requests from nothing.
func (b *backend) dress(req *http.Request) *http.Request {
	repl := caddy.NewReplacer()
	repl.Set("http.reverse_proxy.upstream.hostport", b.base.Host)
	repl.Set("http.reverse_proxy.upstream.host", b.base.Hostname())
	repl.Set("http.reverse_proxy.upstream.port", b.base.Port())
	ctx := context.WithValue(req.Context(), caddyhttp.VarsCtxKey, map[string]any{})
	req = req.WithContext(context.WithValue(ctx, caddy.ReplacerCtxKey, repl))
	if b.headers != nil {
		// Placeholders have been expanded, so what looks like one now is part of a secret.
		plain := req.WithContext(context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewEmptyReplacer()))
		b.headers.ApplyToRequest(plain)
		req.Host = plain.Host
	}
	return req
}

// way is how far an attempt's request has come. Zero: nowhere.
type way struct {
	connected, reused, whole, answered atomic.Bool
	written                            atomic.Pointer[time.Time]
}

// atWork: the backend has all of the request, and has not begun to answer it.
func (w *way) atWork() bool { return w.whole.Load() && !w.answered.Load() }

func (w *way) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn:              func(info httptrace.GotConnInfo) { w.connected.Store(true); w.reused.Store(info.Reused) },
		GotFirstResponseByte: func() { w.answered.Store(true) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			now := time.Now()
			w.written.Store(&now)
			w.whole.Store(info.Err == nil)
		},
	}
}

// roundTrip sends an attempt's request. A kept connection that turns out to have been closed before
// any byte came back is redialled once, and counts as nothing: the backend never saw the request.
// net/http does so for GET alone.
func (b *backend) roundTrip(req *http.Request, way *way) (*http.Response, error) {
	req = b.dress(req)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), way.trace()))
	resp, err := b.attempts.RoundTrip(req)
	if outOfFiles(err) && !way.connected.Load() && req.GetBody != nil { // idle connections are files
		if body, bodyErr := req.GetBody(); bodyErr == nil {
			closeIdle(b.attempts)
			req.Body = body
			resp, err = b.attempts.RoundTrip(req)
		}
	}
	if err == nil || !way.reused.Load() || way.answered.Load() || req.Context().Err() != nil || req.GetBody == nil {
		return resp, err
	}
	if at := way.written.Load(); at != nil && time.Since(*at) > staleWithin || !brokeOff(err) {
		return nil, err
	}
	body, bodyErr := req.GetBody()
	if bodyErr != nil {
		return nil, err
	}
	closeIdle(b.attempts) // the others are as old
	whole := way.whole.Load()
	way.connected.Store(false)
	way.whole.Store(false)
	req.Body = body
	resp, err = b.attempts.RoundTrip(req)
	if whole && !way.connected.Load() {
		way.connected.Store(true) // nobody is there any more, so it may well have died of the request
	}
	return resp, err
}

// brokeOff tells errors of a connection that the other side has closed from all others.
func brokeOff(err error) bool {
	var own *spoolError
	var slow net.Error
	return !errors.As(err, &own) && (!errors.As(err, &slow) || !slow.Timeout())
}

// faults are what goes wrong with connections, in words for clients.
var faults = []struct {
	cause error
	words string
}{
	{syscall.ECONNREFUSED, "connection refused"},
	{syscall.ECONNRESET, "connection reset"},
	{syscall.EPIPE, "connection reset"},
	{syscall.EHOSTUNREACH, "host unreachable"},
	{syscall.ENETUNREACH, "network unreachable"},
	{io.EOF, "connection closed before the answer was whole"},
	{io.ErrUnexpectedEOF, "connection closed before the answer was whole"},
	{os.ErrDeadlineExceeded, "timed out"},
}

// connectionFault says what went wrong with a connection, without addresses: the words reach the
// client.
func connectionFault(err error) string {
	var lookup *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var slow net.Error
	switch {
	case errors.As(err, &lookup):
		return "host not found"
	case errors.As(err, &certificate):
		return "its certificate is not accepted"
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.As(err, &slow) && slow.Timeout():
		return "timed out"
	}
	for _, f := range faults {
		// By its text too: Caddy's DialError does not unwrap.
		if errors.Is(err, f.cause) || strings.Contains(err.Error(), f.cause.Error()) {
			return f.words
		}
	}
	return "connection failed"
}
