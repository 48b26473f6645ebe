package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// badRequest is a request that must be refused, by proxy and backend alike.
type badRequest struct {
	name   string
	path   string
	field  string // of the file; "file" where not given
	audio  []byte
	fields map[string]string
	status int
	says   string // in the message
}

func badRequests(t *testing.T) []badRequest {
	wav, err := os.ReadFile(jfk(t).path)
	if err != nil {
		t.Fatal(err)
	}
	with := func(name, value string) map[string]string { return map[string]string{name: value} }
	const inference = "/inference"
	// Larger than is taken, and small enough to be drained after the refusal (1 MB): beyond that a
	// client may see a reset instead of the answer.
	large := append(bytes.Clone(wav), make([]byte, 400<<10)...)
	return []badRequest{
		{name: "empty", audio: []byte{}, status: 400, says: "empty"},
		{name: "cut inside the header", audio: wav[:20], status: 400},
		{name: "text", audio: []byte(strings.Repeat("this is no audio\n", 50)), status: 400, says: "not audio"},
		{name: "an image", audio: append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 500)...), status: 400},
		{name: "wrong file field", field: "audio", audio: wav, status: 400, says: "file"},
		{name: "unknown format", audio: wav, fields: with("response_format", "docx"), status: 400, says: "docx"},
		{name: "diarized_json", audio: wav, fields: with("response_format", "diarized_json"), status: 400, says: "diarized_json"},
		{name: "unknown model", audio: wav, fields: with("model", "gigantic"), status: 404, says: "tiny.en"},
		{name: "oversize", audio: large, status: 413},
		{name: "temperature above 1", audio: wav, fields: with("temperature", "2"), status: 400, says: "temperature"},
		{name: "temperature NaN", audio: wav, fields: with("temperature", "nan"), status: 400, says: "temperature"},
		{name: "temperature abc", audio: wav, fields: with("temperature", "abc"), status: 400, says: "temperature"},
		{name: "unknown language", audio: wav, fields: with("language", "zz"), status: 400, says: "zz"},
		{name: "unknown granularity", audio: wav, fields: map[string]string{"timestamp_granularities[]": "letter", "response_format": "verbose_json"}, status: 400, says: "letter"},
		{name: "temperature_inc that never ends", path: inference, audio: wav, fields: with("temperature_inc", "1e-9"), status: 400, says: "temperature_inc"},
		{name: "negative offset", path: inference, audio: wav, fields: with("offset_t", "-1000"), status: 400, says: "offset_t"},
		{name: "too many beams", path: inference, audio: wav, fields: with("beam_size", "99"), status: 400, says: "beam_size"},
		{name: "too many candidates", path: inference, audio: wav, fields: with("best_of", "1000000"), status: 400, says: "best_of"},
		{name: "audio_ctx too large", path: inference, audio: wav, fields: with("audio_ctx", "3000"), status: 400, says: "audio_ctx"},
	}
}

func TestBadInputIsRefused(t *testing.T) {
	real(t)
	address, _ := startBackend(t, "tiny.en", "--max-upload", "512KiB")
	proxy := startProxy(t, "backend "+address+" CPU\nupload {\n\tmax_size 512KiB\n}")
	for where, url := range map[string]string{"proxy": proxy, "backend": "http://" + address} {
		for _, bad := range badRequests(t) {
			t.Run(where+"/"+bad.name, func(t *testing.T) { refused(t, url, bad) })
		}
		t.Run(where+"/no form", func(t *testing.T) {
			resp, err := http.Post(url+transcriptions, "application/json", strings.NewReader(`{"model":"base"}`))
			if err != nil {
				t.Fatal(err)
			}
			checkRefusal(t, resp, 400, "multipart/form-data")
		})
		t.Run(where+"/still serves", func(t *testing.T) {
			status, _, body, err := ask(t.Context(), url+transcriptions, jfk(t).path, "model=tiny.en")
			if err != nil || status != http.StatusOK {
				t.Errorf("after the bad requests: status %d, %v: %s", status, err, body)
			}
		})
	}
}

func refused(t *testing.T, url string, bad badRequest) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), askMax)
	defer cancel()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if bad.fields["model"] == "" {
		_ = form.WriteField("model", "tiny.en")
	}
	for name, value := range bad.fields {
		_ = form.WriteField(name, value)
	}
	field := bad.field
	if field == "" {
		field = "file"
	}
	part, _ := form.CreateFormFile(field, "jfk.wav")
	_, _ = part.Write(bad.audio)
	_ = form.Close()
	path := bad.path
	if path == "" {
		path = transcriptions
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	checkRefusal(t, resp, bad.status, bad.says)
}

// checkRefusal wants an error in OpenAI's shape: all four members there.
func checkRefusal(t *testing.T, resp *http.Response, status int, says string) {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Errorf("status %d, want %d: %s", resp.StatusCode, status, body)
	}
	var answer struct{ Error map[string]any }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	for _, member := range []string{"message", "type", "param", "code"} {
		if _, ok := answer.Error[member]; !ok {
			t.Errorf("no %q in %s", member, body)
		}
	}
	message, _ := answer.Error["message"].(string)
	if message == "" || !strings.Contains(message, says) {
		t.Errorf("the message should say %q: %s", says, body)
	}
}

func TestNoBackendUp(t *testing.T) {
	real(t)
	url := "http://127.0.0.1:" + freePort(t)
	config := t.TempDir() + "/Caddyfile"
	text := "{\n\tadmin off\n}\n" + url + " {\n\twhisper_pool {\n\t\tbackend 127.0.0.1:" + freePort(t) + " T4 {\n\t\t\tkind whisperpool\n\t\t\tmodels base\n\t\t}\n\t}\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, binary(t, "whisperpool"), "run", "--config", config).ready(t, url+"/health")
	began := time.Now()
	status, header, body, err := ask(t.Context(), url+transcriptions, jfk(t).path, "model=base")
	if err != nil || status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q, %v: %s", status, header.Get("Retry-After"), err, body)
	}
	if took := time.Since(began); took > 20*time.Second { // 5 s are waited for one to come back, not the four minutes of max_wait
		t.Errorf("the refusal took %v", took)
	}
}
