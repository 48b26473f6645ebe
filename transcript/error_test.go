package transcript

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"
)

// OpenAI's clients need an object under "error" with all four members, null where there is nothing.
func TestErrorBody(t *testing.T) {
	for want, e := range map[string]*Error{
		`{"code":"invalid_value","message":"a \"b\" <c>","param":"language","type":"invalid_request_error"}`: Invalid("language", "invalid_value", "a %q <c>", "b"),
		`{"code":"queue_full","message":"full","param":null,"type":"server_error"}`:                          Unavailable("queue_full", 0, "full"),
	} {
		var body struct{ Error json.RawMessage }
		if err := json.Unmarshal(e.Body(), &body); err != nil {
			t.Fatal(err)
		}
		var got, expected any
		if json.Unmarshal(body.Error, &got) != nil || json.Unmarshal([]byte(want), &expected) != nil {
			t.Fatalf("body %s", e.Body())
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(expected)
		if string(a) != string(b) {
			t.Errorf("got %s, want %s", a, b)
		}
	}
}

func TestErrorWriteTo(t *testing.T) {
	for name, c := range map[string]struct {
		err                     *Error
		status                  int
		retryAfter, shouldRetry string
	}{
		"the client's mistake":     {Invalid("", "", "no"), 400, "", "false"},
		"for now":                  {Unavailable("", 1500*time.Millisecond, "no"), 503, "2", ""},
		"at once is a second":      {Unavailable("", 0, "no"), 503, "1", ""},
		"no longer than SDKs wait": {Unavailable("", time.Hour, "no"), 503, "60", ""},
	} {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Length", "99999")
		c.err.WriteTo(w)
		h := w.Result().Header
		if w.Code != c.status || h.Get("Retry-After") != c.retryAfter || h.Get("X-Should-Retry") != c.shouldRetry ||
			h.Get("Content-Type") != jsonType || h.Get("Content-Length") == "99999" || w.Body.String() != string(c.err.Body()) {
			t.Errorf("%s: status %d, headers %v, body %s", name, w.Code, h, w.Body)
		}
	}
}
