package caddymodule

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/scheduler"
)

// A panic is a bug, of ours or of a Caddy module that a transport or a source is. It costs one request or one look
// at a backend, not the process with all others; and what it says is not logged, since that may quote an upload, a
// prompt or a transcript. Stacks have none of them in them.

// panicFields are what is logged of a panic. Requires that it is called in the function that recovered.
func panicFields(value any) []zap.Field {
	what := fmt.Sprintf("%T", value)
	if err, ok := value.(runtime.Error); ok { // which tells numbers and types alone
		what = err.Error()
	}
	return []zap.Field{zap.String("panic", what), zap.ByteString("stack", debug.Stack())}
}

// rescue is to be deferred first by what serves a request. The client gets 500, unless something was sent already:
// then it sees the connection break, so that it does not take a part for the whole.
func (t *transcription) rescue(w http.ResponseWriter, r *http.Request) {
	value := recover()
	if value == nil {
		return
	}
	if value == http.ErrAbortHandler {
		panic(value)
	}
	t.pool.log().Error("a request ended in a panic; please report this", append(panicFields(value), zap.String("request_id", t.requestID))...)
	problem := internalProblem("the request ran into a bug of the proxy, whose log has more")
	if t.replying.IsZero() {
		t.replying = time.Now()
	}
	t.count(problem.Code)
	t.countRefusal(problem)
	if t.writing || t.stream.end(nil) {
		panic(http.ErrAbortHandler)
	}
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close") // nobody knows how much of the upload was read
	}
	problem.WriteTo(w)
}

// crashed is the outcome of an attempt that panicked. It may be its backend's transport, or something in its
// answers: the job is tried elsewhere, and the backend counts as failing. When that ends the same way it is the job
// itself, of which backends are not to be blamed.
func (t *transcription) crashed(backend scheduler.BackendID, value any) scheduler.Outcome {
	t.pool.log().Error("an attempt ended in a panic; please report this",
		append(panicFields(value), zap.String("request_id", t.requestID), zap.String("backend", string(backend)))...)
	const detail = "a bug of the proxy, whose log has more"
	if t.crashes.Add(1) == 1 {
		return scheduler.Outcome{Result: scheduler.Failed, Detail: detail}
	}
	t.refused(internalProblem("every attempt ran into " + detail))
	return scheduler.Outcome{Result: scheduler.ClientError, Detail: detail}
}

// guardedWriter is the response to a stream, which is written from a goroutine of its own: there a panic of what
// others have put around the response would end the process. It becomes an error, and the client counts as gone.
type guardedWriter struct {
	http.ResponseWriter
	t *transcription
}

func (g guardedWriter) guard(err *error) {
	if value := recover(); value != nil {
		g.t.pool.log().Error("writing a stream ended in a panic; please report this", append(panicFields(value), zap.String("request_id", g.t.requestID))...)
		*err = errPanicked
	}
}

// WriteHeader sends the header.
func (g guardedWriter) WriteHeader(status int) {
	var lost error // the next Write tells
	defer g.guard(&lost)
	g.ResponseWriter.WriteHeader(status)
}

// Write sends events.
func (g guardedWriter) Write(b []byte) (n int, err error) {
	defer g.guard(&err)
	return g.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController calls to flush.
func (g guardedWriter) FlushError() (err error) {
	defer g.guard(&err)
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// Unwrap is for all else that http.ResponseController can do.
func (g guardedWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }
