package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// endpoint is a transcription endpoint on a real socket that remembers what it was asked.
type endpoint struct {
	url   string
	mu    sync.Mutex
	forms []map[string]string
	auth  string
}

func newEndpoint(t *testing.T, status int) *endpoint {
	e := &endpoint{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1 << 20); err != nil {
			t.Error(err)
		}
		form := map[string]string{"path": r.URL.Path, "file": r.MultipartForm.File["file"][0].Filename}
		for name, values := range r.MultipartForm.Value {
			form[name] = values[0]
		}
		e.mu.Lock()
		e.forms, e.auth = append(e.forms, form), r.Header.Get("Authorization")
		e.mu.Unlock()
		w.Header().Set("X-Whisperpool-Backend", "t4")
		w.WriteHeader(status)
		if form["response_format"] == "text" {
			_, _ = io.WriteString(w, "hello\n")
			return
		}
		fmt.Fprint(w, `{"text":"hello"}`)
	}))
	t.Cleanup(s.Close)
	e.url = s.URL
	return e
}

// command runs `whisperpool bench` with arguments, as far as it is ours.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	o := &benchOptions{}
	if err := o.flags().Parse(args); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := o.run(t.Context(), &out, nil)
	return out.String(), err
}

func TestBenchLoadsAnEndpoint(t *testing.T) {
	t.Setenv("BENCH_KEY", "secret")
	e := newEndpoint(t, 200)
	dir := t.TempDir()
	out, err := command(t, "--url", e.url, "--clients", "3", "--requests", "20", "--length", "0.5", "--model", "base", "--api-key-env", "BENCH_KEY",
		"--field", "language=en", "--warm-up", "2", "--json", filepath.Join(dir, "out.json"), "--svg", filepath.Join(dir, "out.svg"))
	if err != nil || !strings.Contains(out, "served 20 of 20") || !strings.Contains(out, "t4") {
		t.Errorf("%v in\n%s", err, out)
	}
	if strings.Contains(out, "secret") {
		t.Error("the key is in the report")
	}
	if len(e.forms) != 22 || e.auth != "Bearer secret" {
		t.Errorf("%d requests, %q", len(e.forms), e.auth)
	}
	if f := e.forms[0]; f["model"] != "base" || f["language"] != "en" || f["response_format"] != "json" || f["path"] != "/v1/audio/transcriptions" {
		t.Errorf("%v", f)
	}
	var report struct{ Summary struct{ OK int } }
	text, _ := os.ReadFile(filepath.Join(dir, "out.json"))
	if err := json.Unmarshal(text, &report); err != nil || report.Summary.OK != 20 || strings.Contains(string(text), "secret") {
		t.Errorf("%v of %s", err, text)
	}
	if svg, _ := os.ReadFile(filepath.Join(dir, "out.svg")); !strings.Contains(string(svg), "</svg>") {
		t.Errorf("%s", svg)
	}
}

func TestBenchSendsRecordingsAndTakesText(t *testing.T) {
	e := newEndpoint(t, 200)
	out, err := command(t, "--url", e.url+"/v1", "--rate", "200", "--duration", "100ms", "--file", "../../audio/testdata/missing.wav")
	if err == nil || !strings.Contains(err.Error(), "missing.wav") {
		t.Errorf("%v, %s", err, out)
	}
	file := filepath.Join(t.TempDir(), "a.wav")
	header := "RIFF\x24\x3e\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x00\x7d\x00\x00\x02\x00\x10\x00data\x00\x3e\x00\x00"
	if err := os.WriteFile(file, append([]byte(header), make([]byte, 0x3e00)...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = command(t, "--url", e.url+"/v1", "--burst", "4", "--file", file, "--field", "response_format=text", "--json", "-")
	var report struct{ Audio string }
	if err != nil || json.Unmarshal([]byte(out), &report) != nil || report.Audio != "a.wav, 0.496 s" {
		t.Errorf("%v: %s", err, out)
	}
	if e.forms[0]["file"] != "a.wav" || e.forms[0]["response_format"] != "text" {
		t.Errorf("%v", e.forms[0])
	}
}

func TestBenchPrintsTheTable(t *testing.T) {
	e := newEndpoint(t, 200)
	pool := filepath.Join(t.TempDir(), "pool.json")
	if err := os.WriteFile(pool, []byte(`{"pool": [{"name": "a", "law": {"fixed_s": 0.001}, "slots": 100}], "load": {"burst": 1}, "audio": {"fixed_s": 1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := command(t, "--url", e.url, "--table", "--length", "0.1", "--pool", pool)
	if err != nil || len(e.forms) != 1212 || !strings.Contains(out, "bound_mean_s") {
		t.Errorf("%v after %d requests:\n%s", err, len(e.forms), out)
	}
	out, err = command(t, "--url", e.url, "--table", "--length", "0.1", "--csv")
	if lines := strings.Split(out, "\n"); err != nil || len(lines) != 11 || lines[0] != "concurrency,mean_s,p95_s,error_pct" || !strings.HasPrefix(lines[9], "512,") {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestBenchSaysWhenNothingIsServed(t *testing.T) {
	e := newEndpoint(t, 503)
	for _, args := range [][]string{{"--burst", "2"}, {"--burst", "2", "--warm-up", "1"}} {
		out, err := command(t, append(args, "--url", e.url, "--length", "0.1")...)
		if err == nil || !strings.Contains(err.Error(), "nothing was served") {
			t.Errorf("%v: %v, %s", args, err, out)
		}
		if len(args) == 2 && !strings.Contains(out, "2 refused (429, 503), 0 failed") {
			t.Errorf("%s", out)
		}
	}
}

func TestBenchSaysWhatIsWrong(t *testing.T) {
	const url = "--url=http://127.0.0.1:1"
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "--url"},
		{[]string{"--url", "host:80", "--burst", "1"}, "no address"},
		{[]string{url}, "what load"},
		{[]string{url, "--burst", "1", "--clients", "1"}, "choose one"},
		{[]string{url, "--clients", "1"}, "how many requests"},
		{[]string{url, "--table", "--burst", "1"}, "--table"},
		{[]string{url, "--burst", "1", "--csv"}, "--csv"},
		{[]string{url, "--burst", "4000000"}, "ulimit"},
		{[]string{url, "--burst", "1", "--length", "x"}, "--length"},
		{[]string{url, "--burst", "1", "--file", "a", "--dir", "b"}, "--file and --dir"},
		{[]string{url, "--burst", "1", "--dir", "/nonexistent"}, "nonexistent"},
		{[]string{url, "--burst", "1", "--pool", "/nonexistent"}, "nonexistent"},
		{[]string{url, "--burst", "1", "--field", "x"}, "--field"},
		{[]string{url, "--burst", "1", "--header", "x"}, "--header"},
		{[]string{url, "--burst", "1", "--api-key-env", "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"},
		{[]string{url, "--burst", "1", "--timeout", "0s"}, "--timeout"},
		{[]string{url, "--burst", "1", "--speed-up", "0"}, "--speed-up"},
	} {
		if _, err := command(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want something about %q", c.args, err, c.want)
		}
	}
}
