package caddymodule

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// canary is in everything that is a client's: it must not turn up where operators look.
const canary = "canary7f3a"

// canaryWAV is audio with the word in it, in a chunk of text and in the samples.
func canaryWAV(seconds float64) []byte {
	sound := wav(seconds)
	copy(sound[100:], canary)
	return append(sound, "LIST\x12\x00\x00\x00INFO"+canary+"\x00\x00\x00\x00"...)
}

// canaryAnswers are what backends say, good and bad, each with the word in it.
var canaryAnswers = map[string]func(http.ResponseWriter){
	"transcript": func(w http.ResponseWriter) { reply(w, map[string]any{"text": "they said " + canary}) },
	"error": func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"error":{"message":"failed on `+canary+`","type":"`+canary+`","param":"`+canary+`","code":"`+canary+`"}}`)
	},
	"refusal": func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":{"message":"can't decode `+canary+`","type":"`+canary+`","param":"`+canary+`","code":"`+canary+`"}}`)
	},
	"web page": func(w http.ResponseWriter) {
		http.Error(w, "<html><title>"+canary+"</title></html>", http.StatusBadGateway)
	},
	"not found": func(w http.ResponseWriter) { http.Error(w, canary, http.StatusNotFound) },
	"busy": func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", canary)
		http.Error(w, canary, http.StatusServiceUnavailable)
	},
	"no JSON":      func(w http.ResponseWriter) { _, _ = io.WriteString(w, canary) },
	"error as 200": func(w http.ResponseWriter) { reply(w, map[string]any{"error": canary}) },
	"cut short": func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"text":"`+canary)
	},
	"no HTTP": func(w http.ResponseWriter) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = io.WriteString(conn, canary+"\r\n\r\n")
			_ = conn.Close()
		}
	},
	"bad header": func(w http.ResponseWriter) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+canary+" x\r\n\r\n")
			_ = conn.Close()
		}
	},
	"died": func(w http.ResponseWriter) { panic(http.ErrAbortHandler) },
}

// TestNothingOfClientsIsLogged: at DEBUG, with recording on, neither audio nor names nor prompts nor what was
// said is in the log, the recording or the metrics, whatever becomes of the request.
func TestNothingOfClientsIsLogged(t *testing.T) {
	for name, answer := range canaryAnswers {
		t.Run(name, func(t *testing.T) {
			backend := newWhisper(t)
			backend.answer = func(w http.ResponseWriter, _ *http.Request, _ sent) { answer(w) }
			record := filepath.Join(t.TempDir(), "record")
			p := newProxy(t, "backend "+backend.address())
			p.mustLoad(strings.Replace(site(p.url, fmt.Sprintf("backend %s\nrecord %s\nattempts 2\ntenant {header.X-Tenant}\nupload {\n\tmax_size 1MiB\n}",
				backend.address(), record)), "\trespond", "\tmetrics /metrics-of-the-test\n\trespond", 1))
			p.ready(1)
			header := http.Header{"X-Tenant": {canary}, "Authorization": {"Bearer " + canary}, "X-Deadline-Ms": {"3000"}}
			if name == "transcript" {
				header.Set("X-Deadline-Ms", "60000") // it is to be served, on a busy machine too
			}
			ask := func(file []byte, fields ...string) response {
				t.Helper()
				ctx, stop := context.WithTimeout(t.Context(), patience)
				defer stop()
				r, err := p.postNamed(ctx, canary+".wav", header, file, fields...)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			r := ask(canaryWAV(1), "model=base", "prompt="+canary, "response_format=json")
			if name == "transcript" && (r.status != http.StatusOK || !strings.Contains(r.body, canary)) {
				t.Errorf("status %d: %s", r.status, r.body)
			}
			if name == "transcript" { // the client's own mistakes, once
				for _, status := range []int{
					ask(canaryWAV(1), "model=base", "prompt="+canary, "language="+canary).status,
					ask([]byte(canary), "model=base").status,
					ask(canaryWAV(1), "model=base", canary+"="+canary, "response_format="+canary).status,
					ask(append(canaryWAV(1), make([]byte, 2<<20)...), "model=base").status,
				} {
					if status < 400 || status >= 500 {
						t.Errorf("status %d", status)
					}
				}
				conn := p.dialRaw(1 << 20) // and one that leaves
				_, _ = io.WriteString(conn, filePart+canary)
				eventually(t, "some of it is there", func() bool { return p.pool().uploads.held.Load() > 0 })
				_ = conn.Close()
				eventually(t, "it is gone", func() bool { return p.pool().uploads.held.Load() == 0 })
			}
			metrics := p.get("/metrics-of-the-test")
			if metrics.status != http.StatusOK || !strings.Contains(metrics.body, "whisperpool_requests_total") {
				t.Fatalf("metrics: %d", metrics.status)
			}
			p.mustLoad(site(p.url, "backend "+backend.address())) // ends the recording
			p.ready(1)
			log := p.log()
			if !strings.Contains(log, `"level":"debug"`) || name == "transcript" && !strings.Contains(log, "attempt succeeded") {
				t.Error("the log is not that of DEBUG")
			}
			recorded := readAll(t, record)
			if len(recorded) == 0 {
				t.Error("nothing was recorded")
			}
			for where, text := range map[string]string{"log": log, "recording": recorded, "metrics": metrics.body} {
				for line := range strings.Lines(text) {
					if strings.Contains(line, canary) {
						t.Errorf("in the %s: %s", where, line)
					}
				}
			}
		})
	}
}

// postNamed is postWith for a file of a name.
func (p *proxy) postNamed(ctx context.Context, name string, header http.Header, file []byte, fields ...string) (response, error) {
	body, contentType := form(file, fields...)
	body = bytes.Replace(body, []byte("secret-name.wav"), []byte(name), 1)
	h := header.Clone()
	h.Set("Content-Type", contentType)
	return send(ctx, http.MethodPost, p.url+transcriptions, h, body)
}

func readAll(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
