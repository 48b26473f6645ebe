package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/whisperpool/whisperpool/transcript"
)

// realThings are where the tests against a real whisper-server find it, its models and speech;
// `make test` says where. Without them the tests are skipped, with them what is missing fails.
type realThings struct{ program, models, recordings string }

func findRealThings(t *testing.T) realThings {
	t.Helper()
	r := realThings{os.Getenv("WHISPERPOOL_WHISPER_SERVER"), os.Getenv("WHISPERPOOL_TEST_MODEL_DIR"), os.Getenv("WHISPERPOOL_RECORDINGS")}
	if r.program == "" || r.models == "" || r.recordings == "" {
		t.Skip("needs a real whisper-server, models and recordings: run `make test`, or set WHISPERPOOL_WHISPER_SERVER, WHISPERPOOL_TEST_MODEL_DIR and WHISPERPOOL_RECORDINGS")
	}
	return r
}

// startWhisperServer starts the program on a model and waits until it is ready.
func startWhisperServer(t *testing.T, r realThings, model string) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	cmd := exec.Command(r.program, "--model", filepath.Join(r.models, model), "--host", "127.0.0.1", "--port", port, "--threads", "1") // more would wait for each other while other tests run
	var output bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", r.program, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	base := &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		report, err := whisperServer{}.Probe(ctx, base, prober{})
		if err == nil && report.Ready {
			return base
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("%s ended: %v\n%s", r.program, err, output.String())
		case <-ctx.Done():
			t.Fatalf("%s is not ready: %+v, %v", r.program, report, err)
		case <-poll.C:
		}
	}
}

// jfk is eleven seconds of speech.
func jfk(t *testing.T, r realThings) File {
	t.Helper()
	var path string
	err := filepath.WalkDir(r.recordings, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "jfk.wav" {
			path = p
			return filepath.SkipAll
		}
		return err
	})
	if err != nil || path == "" {
		t.Fatalf("no jfk.wav under %s (%v)", r.recordings, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return File{Name: "jfk.wav", ContentType: "audio/wav", Size: info.Size(), Open: func() io.ReadCloser {
		f, err := os.Open(path)
		if err != nil {
			return io.NopCloser(failing{err})
		}
		return f
	}}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

const kennedy = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"

// plainWords is text without case, punctuation and what else transcripts may set as they like.
func plainWords(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }), " ")
}

var cueLines = regexp.MustCompile(`(?m)^(WEBVTT|\d+|\d\d:\d\d:\d\d[.,]\d\d\d --> \d\d:\d\d:\d\d[.,]\d\d\d)$`)

func TestRealWhisperServer(t *testing.T) {
	r := findRealThings(t)
	base := startWhisperServer(t, r, "ggml-tiny.en.bin")
	file := jfk(t, r)
	if k, err := Identify(context.Background(), base, prober{}); err != nil || k.Name() != "whisper_server" {
		t.Errorf("Identify: %v, %v", k, err)
	}
	textOf := map[transcript.Format]func(t *testing.T, body []byte) string{
		transcript.JSON: realJSON, transcript.VerboseJSON: realJSON,
		transcript.Text: func(_ *testing.T, body []byte) string { return string(body) },
		transcript.SRT:  realCues, transcript.VTT: realCues,
	}
	for api, wanted := range map[transcript.API][]transcript.Format{
		transcript.OpenAI:        formats,
		transcript.WhisperServer: {transcript.VerboseJSON}, // passed through
	} {
		for _, format := range wanted {
			t.Run(fmt.Sprintf("%s %s", api, format), func(t *testing.T) {
				wish := Request{Params: params(t, api, "response_format", string(format)), Model: "tiny.en", File: file, AudioSeconds: 11}
				v := mustExchange(t, whisperServer{}, base, wish)
				if v.Class != OK || !v.Answer.Words {
					t.Fatalf("class %d, words %v: %s", v.Class, v.Answer.Words, v.Detail)
				}
				if got := plainWords(textOf[format](t, v.Answer.Body)); got != kennedy {
					t.Errorf("words %q in\n%s", got, v.Answer.Body)
				}
				if s := v.Answer.AudioSeconds; s != 0 && s != 11 {
					t.Errorf("%v s of audio", s)
				}
			})
		}
	}
}

func realJSON(t *testing.T, body []byte) string {
	t.Helper()
	var v struct{ Text string }
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v.Text
}

func realCues(t *testing.T, body []byte) string {
	t.Helper()
	if n := strings.Count(string(body), " --> "); n == 0 {
		t.Errorf("no times in %s", body)
	}
	return cueLines.ReplaceAllString(string(body), "")
}

// Words of a language that was detected, on a multilingual model.
func TestRealWhisperServerWords(t *testing.T) {
	r := findRealThings(t)
	base := startWhisperServer(t, r, "ggml-base.bin")
	wish := Request{
		Params: params(t, transcript.OpenAI, "response_format", "verbose_json", "timestamp_granularities[]", "word"),
		Model:  "base", File: jfk(t, r),
	}
	v := mustExchange(t, whisperServer{}, base, wish)
	if v.Class != OK || v.Answer.AudioSeconds != 11 {
		t.Fatalf("class %d, %v s: %s", v.Class, v.Answer.AudioSeconds, v.Detail)
	}
	var got struct {
		Language string
		Words    []struct {
			Word       string
			Start, End float64
		}
		Segments []struct {
			Text       string
			Start, End float64
		}
	}
	if err := json.Unmarshal(v.Answer.Body, &got); err != nil {
		t.Fatal(err)
	}
	var words []string
	at := 0.0
	for _, w := range got.Words {
		words = append(words, w.Word)
		if w.Start < at || w.End < w.Start || w.End > 11.1 {
			t.Errorf("%q from %v to %v, after %v", w.Word, w.Start, w.End, at)
		}
		at = w.Start
	}
	if text := plainWords(strings.Join(words, " ")); text != kennedy || len(words) != len(strings.Fields(kennedy)) {
		t.Errorf("words %q", words)
	}
	if got.Language != "english" {
		t.Errorf("language %q", got.Language)
	}
	for _, s := range got.Segments { // 60 characters are the server's own limit, which cuts words
		if !strings.HasPrefix(s.Text, " ") {
			t.Errorf("a segment starts within a word: %q", s.Text)
		}
	}

	t.Run("not audio", func(t *testing.T) {
		bad := request(params(t, transcript.OpenAI))
		if v := mustExchange(t, whisperServer{}, base, bad); v.Class != ClientFault || v.Problem.Status != http.StatusBadRequest || v.Problem.Param != "file" {
			t.Errorf("class %d, problem %+v", v.Class, v.Problem)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { cancel() }})
		known := wish
		known.Params.Language = "en" // to detect it is a run of the encoder that nothing interrupts
		req, err := whisperServer{}.Render(ctx, base, known)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transport.RoundTrip(req); !errors.Is(err, context.Canceled) {
			t.Fatalf("a canceled request: %v", err)
		}
		if v := mustExchange(t, whisperServer{}, base, request(wish.Params)); v.Class != ClientFault {
			t.Errorf("after a canceled request: class %d: %s", v.Class, v.Detail)
		}
	})
}
