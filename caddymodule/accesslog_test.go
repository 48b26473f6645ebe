package caddymodule

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// accessLine is what the tests read of a line of Caddy's access log.
type accessLine struct {
	Duration    float64
	Status      int
	Whisperpool *struct {
		Pool      string
		RequestID string `json:"request_id"`
		Outcome   string
		Code      string
		Model     string
		Backend   string
		Class     string
		Reason    string
		Attempts  int
		Audio     float64  `json:"audio_s"`
		Upload    *float64 `json:"upload_ms"`
		Queue     float64  `json:"queue_ms"`
		Failed    float64  `json:"failed_attempt_ms"`
		Service   float64  `json:"service_ms"`
		Reply     float64  `json:"reply_ms"`
		Predicted float64  `json:"predicted_ms"`
		Tried     []struct {
			Backend, Result, Detail string
			Took                    float64 `json:"took_ms"`
		} `json:"failed"`
		Candidates []struct {
			Backend string
			Service float64 `json:"service_ms"`
			Finish  float64 `json:"finish_ms"`
		}
		Absent []struct{ Backend, Why string }   `json:"could_not_take_it"`
		Found  []struct{ Backend, Lacks string } `json:"backends"`
	}
}

// loggedSite is a site with Caddy's access log in a file.
func loggedSite(url, pool, file string) string {
	return strings.Replace(site(url, pool), "{\n", fmt.Sprintf("{\n\tlog {\n\t\toutput file %s\n\t}\n", file), 1)
}

// keysOf are the names of all fields of a JSON value.
func keysOf(value json.RawMessage) map[string]bool {
	keys := map[string]bool{}
	var fields map[string]json.RawMessage
	var list []json.RawMessage
	if json.Unmarshal(value, &fields) == nil {
		for key, inner := range fields {
			keys[key] = true
			maps.Copy(keys, keysOf(inner))
		}
	} else if json.Unmarshal(value, &list) == nil {
		for _, inner := range list {
			maps.Copy(keys, keysOf(inner))
		}
	}
	return keys
}

// logged waits for the access log's line of a request.
func logged(t *testing.T, file, id string) (line accessLine, object string) {
	t.Helper()
	eventually(t, "the access log has "+id, func() bool {
		text, _ := os.ReadFile(file) // it is not there before the first request
		for one := range strings.Lines(string(text)) {
			var parts struct{ Whisperpool json.RawMessage }
			line = accessLine{}
			if json.Unmarshal([]byte(one), &line) == nil && json.Unmarshal([]byte(one), &parts) == nil &&
				line.Whisperpool != nil && line.Whisperpool.RequestID == id {
				object = string(parts.Whisperpool)
				return true
			}
		}
		return false
	})
	return line, object
}

// TestAccessLog: the line of a request has what explain says of it: where it went, why, how long each part took, and
// what failed before. Nothing that its client wrote is added.
func TestAccessLog(t *testing.T) {
	var asked atomic.Int32
	answer := func(w http.ResponseWriter, r *http.Request, got sent) {
		if asked.Add(1) == 1 {
			http.Error(w, canary, http.StatusInternalServerError)
			return
		}
		speak(w, r, got)
	}
	a, b := newWhisper(t, func(s *whisper) { s.answer = answer }), newWhisper(t, func(s *whisper) { s.answer = answer })
	c := newWhisper(t, func(s *whisper) { s.models = []string{"large-v3"} })
	pool := fmt.Sprintf("backend %s H100 {\n\tname a\n}\nbackend %s T4 {\n\tname b\n}\nbackend %s {\n\tname c\n}", a.address(), b.address(), c.address())
	p := newProxy(t, pool)
	file := filepath.Join(t.TempDir(), "caddy.log") // Caddy leaves it open when it stops
	p.mustLoad(loggedSite(p.url, pool, file))
	p.ready(3)
	if r := p.postAs("a-1", canaryWAV(2), "model=base", "prompt="+canary); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	line, object := logged(t, file, "a-1")
	got := line.Whisperpool
	if got.Pool != "default" || got.Outcome != "served" || got.Code != "" || got.Model != "base" || got.Attempts != 2 || got.Audio < 1.9 || got.Audio > 2.1 ||
		got.Reason == "" || got.Predicted <= 0 || got.Service <= 0 || got.Failed <= 0 || got.Upload == nil {
		t.Errorf("%s", object)
	}
	if len(got.Tried) != 1 || got.Tried[0].Result != "failed" || !strings.Contains(got.Tried[0].Detail, "500") || got.Tried[0].Backend == got.Backend || got.Tried[0].Took <= 0 {
		t.Errorf("failed: %s", object)
	}
	if len(got.Candidates) == 0 || got.Candidates[0].Backend != got.Backend || math.Abs(got.Candidates[0].Service-got.Predicted) > .2 ||
		len(got.Absent) != 1 || got.Absent[0].Backend != "c" || got.Absent[0].Why != "does not serve the model" {
		t.Errorf("candidates: %s", object)
	}
	documented, err := os.ReadFile("../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	for key := range keysOf(json.RawMessage(object)) {
		if !strings.Contains(string(documented), "`"+key+"`") {
			t.Errorf("docs/logs.md does not tell what %s is", key)
		}
	}
	// The phases are rounded to a tenth each, and Caddy's duration is longer by what it does before and after.
	if sum := *got.Upload + got.Queue + got.Failed + got.Service + got.Reply; sum > 1000*line.Duration+.5 || sum <= 0 {
		t.Errorf("the phases add up to %v ms of %v s", sum, line.Duration)
	}
	if strings.Contains(object, canary) || strings.Contains(object, "secret-name") {
		t.Errorf("what the client or a backend wrote is told: %s", object)
	}
}

// TestAccessLogOfRefusals: who was turned away, and what each backend lacked; who was not let in; what a client did
// wrong; and what is not a transcription has no such object.
func TestAccessLogOfRefusals(t *testing.T) {
	backend := newWhisper(t, func(s *whisper) { s.models = []string{"base", "tiny"} })
	other := newWhisper(t, func(s *whisper) { s.models = []string{"tiny"} })
	t.Setenv("KEYS_OF_THE_TEST", "customer key-of-the-customer")
	pool := fmt.Sprintf("backend %s {\n\tname a\n}\nbackend %s {\n\tname b\n}\napi_keys {env.KEYS_OF_THE_TEST}\nqueue {\n\tmax_wait 1s\n}", backend.address(), other.address())
	p, admin := adminProxy(t, pool)
	file := filepath.Join(t.TempDir(), "caddy.log") // Caddy leaves it open when it stops
	p.mustLoad(loggedSite(p.url, pool, file))
	p.ready(2)
	if r := admin.adminPost("/whisper_pool/pools/default/backends/a/drain"); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	post := func(id, key string, clip []byte, want int) {
		t.Helper()
		r, err := p.postWith(t.Context(), transcriptions, http.Header{"X-Request-Id": {id}, "Authorization": {"Bearer " + key}}, clip, "model=base")
		if err != nil || r.status != want || r.header.Get("X-Request-Id") != id {
			t.Fatalf("%v, status %d, %v: %s", err, r.status, r.header, r.body)
		}
	}
	post("turned-away", "key-of-the-customer", wav(1), http.StatusServiceUnavailable)
	line, object := logged(t, file, "turned-away")
	lacks := map[string]string{}
	for _, found := range line.Whisperpool.Found {
		lacks[found.Backend] = found.Lacks
	}
	if line.Whisperpool.Outcome == "served" || line.Whisperpool.Code == "" || lacks["a"] != "drained by an operator" || lacks["b"] != "does not serve the model" {
		t.Errorf("%s", object)
	}
	post("not-let-in", "guessed", wav(1), http.StatusUnauthorized)
	if line, object := logged(t, file, "not-let-in"); line.Whisperpool.Outcome != "unauthorized" || line.Whisperpool.Code != "invalid_api_key" || line.Whisperpool.Upload != nil {
		t.Errorf("%s", object)
	}
	post("wrong", "key-of-the-customer", []byte("no audio"), http.StatusBadRequest)
	if line, object := logged(t, file, "wrong"); line.Whisperpool.Outcome != "invalid" || line.Whisperpool.Code != "invalid_file" || line.Whisperpool.Upload == nil {
		t.Errorf("%s", object)
	}
	if r := p.get("/elsewhere"); r.status != 203 || r.header.Get("X-Request-Id") != "" {
		t.Errorf("status %d, %v", r.status, r.header)
	}
	eventually(t, "the access log has the other", func() bool {
		text, _ := os.ReadFile(file)
		for one := range strings.Lines(string(text)) {
			if line := (accessLine{}); json.Unmarshal([]byte(one), &line) == nil && line.Status == 203 {
				return line.Whisperpool == nil
			}
		}
		return false
	})
}

// TestRequestIDInEveryAnswer: OpenAI's clients show it with each error, whatever it is about.
func TestRequestIDInEveryAnswer(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	for path, method := range map[string]string{
		"/v1/models": http.MethodGet, "/v1/models/none": http.MethodGet, "/health": http.MethodGet, "/v1/audio/translations": http.MethodGet,
		transcriptions: http.MethodPost,
	} {
		for given, kept := range map[string]bool{"mine-1": true, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false, "a b": false, "": false} {
			header := http.Header{"X-Request-Id": {given}}
			r, err := persistent(func() (response, error) { return send(t.Context(), method, p.url+path, header.Clone(), nil) })
			if err != nil {
				t.Fatal(err)
			}
			if id := r.header.Get("X-Request-Id"); (id == given) != kept || id == "" {
				t.Errorf("%s %s: %q became %q", method, path, given, id)
			}
		}
	}
}
