package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// FaultPath is where faults are seen (GET), set (PUT) and cleared (DELETE).
const FaultPath = "/emulator/fault"

// Handler puts faults, and the path that switches them, before a server's own handler.
func (f *Faults) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == FaultPath {
			f.control(w, r)
			return
		}
		for _, a := range f.strike(false, requestKind(r)) {
			if f.happen(a, w, r, next) {
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// requestKind is the word for a request in [Fault.On].
func requestKind(r *http.Request) string {
	switch {
	case r.URL.Path == "/health":
		return onHealth
	case r.Method == http.MethodPost && r.URL.Path != "/load":
		return onTranscriptions
	}
	return onAll // none of those that have a word of their own
}

// control is the API of faults.
func (f *Faults) control(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		f.Set(nil)
	case http.MethodPut:
		const longest = 64 << 10 // bytes; twenty faults are far less
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longest))
		if err != nil {
			transcript.Invalid("", "unreadable_fault", "The body could not be read: %v.", err).WriteTo(w)
			return
		}
		faults, err := ParseFaults(text)
		if err != nil {
			transcript.Invalid("", "invalid_fault", "%v.", err).WriteTo(w)
			return
		}
		f.Set(faults)
		defer f.exitAtOnce(w, faults)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT, DELETE")
		refusal := transcript.Invalid("", "method_not_allowed", "Faults are seen with GET, set with PUT and cleared with DELETE.")
		refusal.Status = http.StatusMethodNotAllowed
		refusal.WriteTo(w)
		return
	}
	f.list(w)
}

// exitAtOnce dies, once the answer is on its way, where a fault says so.
func (f *Faults) exitAtOnce(w http.ResponseWriter, faults []Fault) {
	if slices.ContainsFunc(faults, Fault.AtOnce) {
		_ = http.NewResponseController(w).Flush()
		f.die()
	}
}

// listed is a fault as GET shows it.
type listed struct {
	Fault
	Struck int    `json:"struck"`            // requests so far
	EndsIn string `json:"ends_in,omitempty"` // where it has a time
	Over   bool   `json:"over"`              // it strikes no more
}

// list answers with the faults that were set, and with the kinds that there are.
func (f *Faults) list(w http.ResponseWriter) {
	set, about := []listed{}, map[Kind]string{}
	for _, k := range kinds {
		about[k.name] = k.about
	}
	f.mu.Lock()
	for _, a := range f.active {
		l := listed{Fault: a.Fault, Struck: a.struck, Over: a.ended()}
		if !a.ends.IsZero() && !l.Over {
			l.EndsIn = time.Until(a.ends).Round(time.Millisecond).String()
		}
		set = append(set, l)
	}
	f.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"faults": set, "kinds": about})
}

// answer writes JSON.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("emulator: an answer does not encode: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	write(w, status, append(body, '\n'))
}

// write answers with a whole body.
func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set(backend.EmulatorHeader, "true")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

// happen has a fault happen to a request. It reports whether that was all that the client gets.
func (f *Faults) happen(a *active, w http.ResponseWriter, r *http.Request, next http.Handler) (answered bool) {
	if a.Kind == Latency {
		return !pause(a, r)
	}
	switch a.Kind {
	case Cut, Loading, Reset:
	default:
		readUpload(r)
	}
	switch a.Kind {
	case Error:
		a.refuse(w)
	case Busy:
		refuse(w, transcript.Unavailable("queue_full", time.Duration(a.RetryAfter), "All slots are busy and the queue is full (emulated)."))
	case Unauthorized:
		if requestKind(r) == onHealth {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="whisper-backend"`)
		refuse(w, &transcript.Error{
			Status: http.StatusUnauthorized, Type: "invalid_request_error", Code: "invalid_api_key", Final: true,
			Message: "Incorrect API key provided (emulated).",
		})
	case Empty:
		w.Header().Set("Content-Type", "application/json")
		write(w, http.StatusOK, nil)
	case Exit:
		f.die()
		<-r.Context().Done() // a moment, until the signal is there
	case Loading:
		load(w, r, next)
	case Cut:
		whole := record(w, r, next)
		whole.copyHeader(w)
		write(w, whole.status, whole.body.Bytes()[:whole.body.Len()/2])
	case Reset:
		reset(a, w, r, next)
	}
	return true
}

// pause waits for a latency to be over. It reports whether the request is still there.
func pause(a *active, r *http.Request) bool {
	timer := time.NewTimer(time.Duration(a.Delay))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.over:
	case <-r.Context().Done():
		return false
	}
	return true
}

// readUpload reads a request to its end, without which a client might see a reset in place of the answer.
func readUpload(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a client that is gone needs no answer
}

// refuse answers with an error in OpenAI's shape.
func refuse(w http.ResponseWriter, e *transcript.Error) {
	w.Header().Set(backend.EmulatorHeader, "true")
	e.WriteTo(w)
}

// refuse answers with the error that was asked for.
func (a *active) refuse(w http.ResponseWriter) {
	if a.RetryAfter > 0 {
		seconds := (time.Duration(a.RetryAfter) + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	if a.Body == "" {
		refuse(w, &transcript.Error{Status: a.Status, Type: "server_error", Code: "emulated_fault", Message: "This failure is emulated."})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if json.Valid([]byte(a.Body)) {
		w.Header().Set("Content-Type", "application/json")
	}
	write(w, a.Status, []byte(a.Body))
}

// load answers as a server does whose model is not loaded yet.
func load(w http.ResponseWriter, r *http.Request, next http.Handler) {
	switch {
	case r.URL.Path == "/health":
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusServiceUnavailable, map[string]string{"status": "loading"})
	case r.URL.Path == "/load-report":
		var report backend.Report
		if json.Unmarshal(record(w, r, next).body.Bytes(), &report) != nil {
			panic(http.ErrAbortHandler) // a report that is none
		}
		report.Ready, report.Loading, report.Slots, report.Models = false, true, 0, []backend.ReportModel{}
		answer(w, http.StatusOK, report)
	case r.Method == http.MethodPost || strings.HasPrefix(r.URL.Path, "/v1/"):
		readUpload(r)
		refuse(w, transcript.Unavailable("loading", 2*time.Second, "The model is loading; try again in a moment."))
	default:
		next.ServeHTTP(w, r)
	}
}

// reset breaks the connection so that the client's side says "connection reset".
func reset(a *active, w http.ResponseWriter, r *http.Request, next http.Handler) {
	if a.Amid {
		whole := record(w, r, next)
		whole.copyHeader(w)
		w.Header().Set("Content-Length", strconv.Itoa(whole.body.Len()))
		w.WriteHeader(whole.status)
		_, _ = w.Write(whole.body.Bytes()[:whole.body.Len()/2])
		_ = http.NewResponseController(w).Flush()
	} else {
		readUpload(r)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // closes it, if less rudely
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // close sends a reset instead of what is left
	}
	_ = conn.Close()
}

// recorded holds what a handler answers.
type recorded struct {
	http.ResponseWriter // what it has besides an answer: deadlines
	header              http.Header
	status              int
	body                bytes.Buffer
}

// record has next answer a request into memory.
func record(w http.ResponseWriter, r *http.Request, next http.Handler) *recorded {
	rec := &recorded{ResponseWriter: w, header: http.Header{}, status: http.StatusOK}
	next.ServeHTTP(rec, r)
	return rec
}

func (r *recorded) Header() http.Header { return r.header }

func (r *recorded) WriteHeader(status int) { r.status = status }

func (r *recorded) Write(p []byte) (int, error) {
	const longest = 64 << 20 // bytes; a day's transcript is a few MB
	if r.body.Len()+len(p) > longest {
		return 0, errors.New("the answer is too long to be held")
	}
	return r.body.Write(p)
}

// Flush does nothing: nothing leaves before its time.
func (r *recorded) Flush() {}

// Unwrap lets [http.ResponseController] find the deadlines.
func (r *recorded) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// copyHeader takes over the recorded header but for the length.
func (r *recorded) copyHeader(w http.ResponseWriter) {
	for name, values := range r.header {
		if name != "Content-Length" {
			w.Header()[name] = values
		}
	}
}
