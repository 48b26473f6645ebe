package transcript

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Error is a refusal in the shape of OpenAI's API, which both proxy and backend answer with.
type Error struct {
	Status     int           // HTTP status
	Message    string        // one sentence that says what is wrong and, where that helps, what to do
	Type       string        // "invalid_request_error", "server_error", ...
	Param      string        // the field it is about; "" renders as null
	Code       string        // machine-readable; "" renders as null
	RetryAfter time.Duration // > 0: sent as Retry-After, rounded up to seconds and kept in 1..60
	Final      bool          // sends x-should-retry: false, which stops the SDKs' own retries
}

// retryAfterMax is the longest wait that all OpenAI SDKs honour.
const retryAfterMax = 60 * time.Second

// Invalid is a refusal of something the client wrote: status 400, and no use in trying again.
func Invalid(param, code, format string, args ...any) *Error {
	return &Error{
		Status: http.StatusBadRequest, Type: "invalid_request_error",
		Param: param, Code: code, Message: fmt.Sprintf(format, args...), Final: true,
	}
}

// Unavailable is a refusal for now: status 503 with the time after which to try again.
func Unavailable(code string, retryAfter time.Duration, format string, args ...any) *Error {
	return &Error{
		Status: http.StatusServiceUnavailable, Type: "server_error",
		Code: code, Message: fmt.Sprintf(format, args...), RetryAfter: max(retryAfter, time.Second),
	}
}

func (e *Error) Error() string { return e.Message }

// Body is the JSON that OpenAI's clients parse: an object under "error" with all four members.
func (e *Error) Body() []byte {
	null := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	body, _ := json.Marshal(map[string]any{"error": map[string]any{ // only strings: cannot fail
		"message": e.Message, "type": e.Type, "param": null(e.Param), "code": null(e.Code),
	}})
	return append(body, '\n')
}

// WriteTo answers a request with the error.
func (e *Error) WriteTo(w http.ResponseWriter) {
	h := w.Header()
	body := e.Body()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body))) // so that the client knows the end before the handler returns
	if e.RetryAfter > 0 {
		seconds := int(math.Ceil(min(e.RetryAfter, retryAfterMax).Seconds()))
		h.Set("Retry-After", strconv.Itoa(max(seconds, 1)))
	}
	if e.Final {
		h.Set("X-Should-Retry", "false")
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // the client may be gone, which is no error of ours
}
