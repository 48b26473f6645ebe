package backend_test

import (
	"bytes"
	"context"
	"log/slog"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// A word in everything that a client sends or hears: it must not be in the log, at any level, by any
// route.
func TestNothingOfClientsIsLogged(t *testing.T) {
	const canary = "Xylophon"
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "keys")
	if err := os.WriteFile(keyFile, []byte("Key"+canary), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	e := engineFunc{
		info: backend.EngineInfo{Engine: "test", Model: "base", Multilingual: true, Slots: 2, SlotsMax: 2, Device: "CPU"},
		run: func(_ context.Context, _ []float32, p transcript.Params) (transcript.Transcript, error) {
			if p.Prompt != "" && p.Temperature == 1 {
				panic(canary) // as a careless engine might
			}
			return transcript.Transcript{
				Task: p.Task, Language: "en",
				Segments: []transcript.Segment{{Text: " " + canary, End: 0.1}}, Words: []transcript.Word{{Word: canary, End: 0.1}},
			}, nil
		},
	}
	r := run(t, backend.Config{
		KeyFile: keyFile, ModelsDir: dir, TempDir: dir, UploadMax: 1 << 20,
		Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug - 10})),
	}, func() (backend.Transcriber, error) { return e, nil })
	until(t, "it is ready", func() bool { status, _ := health(t, r.base); return status == http.StatusOK })

	ask := func(method, path, contentType, key string, body []byte) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, r.base+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("User-Agent", canary)
		req.Header.Set("Origin", "https://"+canary+".example.com")
		req.Header.Set("X-Request-Id", "id of "+canary)
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		return do(t, req)
	}
	upload := func(name string, file []byte, fields ...string) (contentType string, body []byte) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for i := 0; i < len(fields); i += 2 {
			_ = w.WriteField(fields[i], fields[i+1])
		}
		part, _ := w.CreateFormFile(name, canary+".wav")
		_, _ = part.Write(file)
		_ = w.Close()
		return w.FormDataContentType(), b.Bytes()
	}
	tone := wav(0.1)
	var uploads [][2]string
	add := func(contentType string, body []byte) {
		uploads = append(uploads, [2]string{contentType, string(body)})
	}
	for _, name := range []string{"file", "audio_file"} {
		for _, format := range []string{"json", "text", "verbose_json", canary} {
			add(upload(name, tone, "model", "base", "prompt", canary, "initial_prompt", canary, "response_format", format))
		}
		add(upload(name, tone, "model", "base", "prompt", canary, "stream", "true"))
		add(upload(name, tone, "model", canary, "prompt", canary))
		add(upload(name, tone, "model", "base", "language", canary, "temperature", canary))
		add(upload(name, tone, "model", "base", "prompt", canary, "temperature", "1"))
		add(upload(name, []byte(canary), "model", "base"))
		add(upload(name, append([]byte(canary), make([]byte, 2<<20)...), "model", "base"))
		add(upload(canary, tone, canary, canary))
	}
	add("multipart/form-data; boundary="+canary, []byte("--"+canary+"\r\n"+canary))
	add("application/"+strings.ToLower(canary), []byte(canary))
	add("", []byte(canary))

	// Every route there is, as the refusal of an unknown one lists them.
	list := ask(http.MethodGet, "/"+canary, "", "Key"+canary, nil).problem(t).message
	routes := regexp.MustCompile(`(GET|POST) (/[^ ,]*[^ ,.])|(GET|POST) (/)`).FindAllStringSubmatch(list, -1)
	if len(routes) < 12 {
		t.Fatalf("only %d routes in %q", len(routes), list)
	}
	served := map[int]int{}
	for _, route := range routes {
		method, path := route[1]+route[3], strings.Replace(route[2]+route[4], "{id}", canary, 1)
		for _, u := range uploads {
			for _, path := range []string{path, path + "?language=" + canary + "&output=" + canary, path + "/" + canary} {
				served[ask(method, path, u[0], "Key"+canary, []byte(u[1])).status]++
			}
		}
		for _, key := range []string{"", canary, "Key" + canary} {
			served[ask(method, path, "", key, nil).status]++
		}
		ask("BREW"+canary, path, "", "Key"+canary, nil)
	}
	for _, status := range []int{200, 400, 401, 404, 413, 500} {
		if served[status] == 0 {
			t.Errorf("nothing was answered with %d, so the test has missed something: %v", status, served)
		}
	}
	r.stop()
	if err := await(t, r.done, "the end"); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(strings.ToLower(line), strings.ToLower(canary)) {
			t.Errorf("in the log: %s", line)
		}
	}
	if !strings.Contains(log.String(), "request") {
		t.Error("nothing was logged at all")
	}
}
