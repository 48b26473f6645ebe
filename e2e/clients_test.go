package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// curl runs one of the command lines that the READMEs of servers show.
func curl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--max-time", "300"}, args...)...).Output()
	if err != nil {
		t.Fatalf("curl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// bazarr asks as Bazarr's provider does: samples without a header, in a part named after its field.
func bazarr(t *testing.T, url string, samples []byte) string {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile("audio_file", "audio_file")
	_, _ = part.Write(samples)
	_ = w.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, &b)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s, %v", url, resp.StatusCode, body, err)
	}
	return string(body)
}

// TestClientsOfOtherServers: those that were written for whisper-asr-webservice and for whisper.cpp's server
// find in our backend and in the proxy what they know.
func TestClientsOfOtherServers(t *testing.T) {
	real(t)
	clip := jfk(t).path
	file, err := os.ReadFile(clip)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(file, []byte("data"))
	samples := file[at+8:] // 16 kHz, mono, 16 bits
	backend, _ := startBackend(t, "tiny.en", "--threads", threads())
	proxy := startProxy(t, "backend "+backend+" CPU\ndefault_model tiny.en")
	const known = "ask not what your country can do for you"
	said := func(body string) bool { return strings.Contains(strings.Join(strings.Fields(body), " "), known) }
	for name, url := range map[string]string{"backend": "http://" + backend, "proxy": proxy} {
		t.Run(name, func(t *testing.T) {
			srt := bazarr(t, url+"/asr?task=transcribe&language=en&output=srt&encode=false", samples)
			if !strings.HasPrefix(srt, "1\n00:00:00,") || strings.Count(srt, " --> ") == 0 || !said(plainText(srt)) {
				t.Errorf("subtitles: %s", srt)
			}
			var language struct {
				Name string `json:"detected_language"`
				Code string `json:"language_code"`
			}
			if body := bazarr(t, url+"/detect-language?encode=false", samples); json.Unmarshal([]byte(body), &language) != nil || language.Code != "en" || language.Name != "english" {
				t.Errorf("language: %s", body)
			}
			var version struct{ Version string }
			if body := curl(t, url+"/status"); json.Unmarshal([]byte(body), &version) != nil || !strings.HasPrefix(version.Version, "whisperpool") {
				t.Errorf("/status: %s", body)
			}
			// The command line of whisper.cpp's examples/server/README.md.
			body := curl(t, url+"/inference", "-H", "Content-Type: multipart/form-data", "-F", "file=@"+clip, "-F", "temperature=0.0",
				"-F", "temperature_inc=0.2", "-F", "prompt=A speech.", "-F", "carry_initial_prompt=true", "-F", "response_format=json")
			var answer struct{ Text string }
			if json.Unmarshal([]byte(body), &answer) != nil || !said(answer.Text) || !strings.HasSuffix(answer.Text, "\n") {
				t.Errorf("/inference: %s", body)
			}
			if text := curl(t, url+"/inference", "-F", "file=@"+clip, "-F", "diarize=true", "-F", "response_format=text"); !strings.HasPrefix(text, "(speaker ?)") {
				t.Errorf("diarize, of one channel: %s", text)
			}
		})
	}
}

// plainText is the text of subtitles.
func plainText(srt string) string {
	var text []string
	for cue := range strings.SplitSeq(srt, "\n\n") {
		if lines := strings.SplitN(cue, "\n", 3); len(lines) == 3 {
			text = append(text, lines[2])
		}
	}
	return strings.Join(text, " ")
}
