package calibrate

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/emulator"
	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/transcript"
)

// emulated starts a server on a listener; stop ends it.
func emulated(t *testing.T, ln net.Listener, cfg emulator.Config, keys string) (stop func()) {
	t.Helper()
	engine, err := emulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := backend.New(backend.Config{KeyFile: keys}, engine)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln, nil) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// What is measured of an emulated card is its law: in virtual time, so that only the law and its
// chance decide.
func TestCalibratingGivesBackTheLaw(t *testing.T) {
	for _, c := range []struct{ class, model string }{{"T4", "large-v3"}, {"H100", "base"}, {"H100", "large-v3"}, {"A10G", "turbo"}} {
		synctest.Test(t, func(t *testing.T) {
			engine, err := emulator.New(emulator.Config{Class: c.class, Model: c.model, Slots: 4, Seed: 5})
			if err != nil {
				t.Fatal(err)
			}
			progress := 0
			m := &measurement{
				o: Options{
					Lengths: []float64{3, 9, 18, 27, 45, 75}, Streams: []int{4, 2, 8, 2}, Repeat: 20, Note: func(string) {},
					Progress: func(done, total int) {
						if progress++; done != progress || total != 240 {
							t.Errorf("progress %d of %d, want %d of 240", done, total, progress)
						}
					},
				},
				server: &server{model: c.model, class: c.class, slots: 4, emulator: true},
				rng:    rand.New(rand.NewPCG(1, 1)),
				clip: func(ctx context.Context, seconds float64) (answer, error) {
					began := time.Now()
					_, err := engine.Transcribe(ctx, backend.Job{
						Samples: make([]float32, int(16000*seconds)), Params: transcript.Params{Language: "en"},
					})
					return answer{took: time.Since(began), end: time.Now()}, err
				},
			}
			got, err := m.run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			pr := got.Profile
			if pr.Class != c.class || pr.Model != c.model || pr.Slots != 4 || pr.Speech != 1 || pr.Measured.Tokens != "assumed" || pr.Measured.Jobs != 240 {
				t.Errorf("%+v", pr)
			}
			want, _ := gpu.LawOf(c.class, c.model)
			law := pr.Law.Law()
			for _, seconds := range []float64{2, 10, 28, 60, 300} {
				j := gpu.Job{Seconds: seconds, Speech: 1}
				if off := law.Typical(j).Seconds()/want.Typical(j).Seconds() - 1; math.Abs(off) > 0.12 {
					t.Errorf("%s on %s: %v s take %v, want %v", c.model, c.class, seconds, law.Typical(j), want.Typical(j))
				}
			}
			for _, k := range []int{2, 4} {
				if off := law.Gain(k)/want.Gain(k) - 1; math.Abs(off) > 0.12 {
					t.Errorf("%s on %s: %d at once gain %.2f, want %.2f", c.model, c.class, k, law.Gain(k), want.Gain(k))
				}
			}
		})
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// The whole command over sockets. A busy machine makes jobs longer, never shorter than they are.
func TestTheCommandWritesAProfile(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte("# ours\nsecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	const speedUp = 40
	stop := emulated(t, ln, emulator.Config{Class: "T4", Model: "large-v3", Slots: 2, SpeedUp: speedUp}, keys)
	defer stop()
	url, out := "http://"+ln.Addr().String(), filepath.Join(dir, "t4.json")
	var stdout, stderr bytes.Buffer
	command := func(args ...string) int {
		stdout.Reset()
		stderr.Reset()
		return Command(t.Context(), append([]string{"--url", url, "--lengths", "2,10,31", "--streams", "1,2,3", "--repeat", "2", "-o", out}, args...), &stdout, &stderr)
	}
	if code := command(); code != exitFailed || !strings.Contains(stderr.String(), "--key-file") {
		t.Fatalf("without a key: exit %d, %s", code, &stderr)
	}
	if code := command("--key-file", keys, "--class", "our T4"); code != exitMeasured {
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	for _, part := range []string{"3 streams are not measured", "10 of 10 clips"} {
		if !strings.Contains(stderr.String(), part) {
			t.Errorf("%q is not in %s", part, &stderr)
		}
	}
	p, err := gpu.ReadProfile(out)
	if err != nil {
		t.Fatal(err)
	}
	j := gpu.Job{Seconds: 30, Speech: 1}
	want, _ := gpu.LawOf("T4", "large-v3")
	least := want.Typical(j).Seconds() / speedUp * 0.6 // chance in so few jobs
	if got := p.Law.Law().Typical(j).Seconds(); got < least || p.Class != "our T4" || p.Model != "large-v3" || p.Slots != 2 {
		t.Errorf("30 s take %v s, at least %v expected: %+v", got, least, p)
	}
	for _, part := range []string{"large-v3 on our T4", "at once", `"class":"our T4"`, "--profile " + out} {
		if !strings.Contains(stdout.String(), part) {
			t.Errorf("%q is not in %s", part, &stdout)
		}
	}
	// Again into the same file, but never into one that is something else.
	if code := command("--key-file", keys, "--repeat", "1", "--streams", "1", "--lengths", "1"); code != exitMeasured {
		t.Errorf("exit %d: %s", code, &stderr)
	}
	if code := command("--key-file", keys, "-o", keys); code != exitFailed || !strings.Contains(stderr.String(), "no profile") {
		t.Errorf("over another file: exit %d: %s", code, &stderr)
	}
}

// A server as whisper.cpp's: one job at a time, /inference alone, tokens in its answers.
func TestCalibratingWhisperServer(t *testing.T) {
	var mu sync.Mutex
	requests := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/inference" {
			http.NotFound(w, r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		requests++
		file, header, err := r.FormFile("file")
		if err != nil || r.FormValue("temperature_inc") != "0" || r.FormValue("language") != "de" {
			t.Errorf("%v, %v", r.Form, err)
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		defer file.Close()
		seconds := float64(header.Size-44) / 32000
		<-time.After(time.Duration(seconds * float64(4*time.Millisecond))) // the work
		_ = json.NewEncoder(w).Encode(map[string]any{"text": "Wort", "segments": []any{map[string]any{"tokens": make([]int, int(2*seconds))}}})
	}))
	defer s.Close()
	speech := filepath.Join(t.TempDir(), "speech.wav")
	if err := os.WriteFile(speech, wav(make([]float32, 16000*3)), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{URL: s.URL + "/", API: "auto", Language: "de", Lengths: []float64{5, 12, 31}, Streams: []int{1, 2}, Repeat: 2, Timeout: time.Minute}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--model") {
		t.Errorf("without a model: %v", err)
	}
	o.Model = "tiny"
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--recording") {
		t.Errorf("without recordings: %v", err)
	}
	var err error
	if o.Speech, err = Recordings(t.Context(), []string{filepath.Dir(speech)}, ""); err != nil || len(o.Speech) != 52000 {
		t.Fatalf("%d samples, %v", len(o.Speech), err)
	}
	got, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	p := got.Profile
	// 60 tokens in 30 s, of 110; two at once take twice as long.
	if p.Measured.Tokens != "counted" || math.Abs(p.Speech-60.0/110) > 0.05 || requests != 1+6+4 || p.Law.GainMax > 1.5 {
		t.Errorf("%d requests, %+v %+v", requests, p, p.Measured)
	}
}

func TestWhatCannotBeMeasured(t *testing.T) {
	answering := func(status int, header map[string]string, body string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				http.NotFound(w, r)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			for name, value := range header {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s
	}
	closed := answering(200, nil, "")
	closed.Close()
	for _, c := range []struct {
		url, says string
	}{
		{"localhost:8000", "http://host:port"},
		{closed.URL, "no server"},
		{answering(200, map[string]string{"X-Whisperpool-Backend": "a"}, `{"text":"a"}`).URL, "proxy"},
		{answering(503, nil, `{"error":"full"}`).URL, "503"},
		{answering(500, nil, "broken").URL, "broken"},
		{answering(200, nil, "<html>").URL, "verbose_json"},
		{answering(200, nil, `{"text":" "}`).URL, "no words"},
	} {
		_, err := Run(t.Context(), Options{
			URL: c.url, API: "auto", Model: "m", Speech: make([]float32, 100), Lengths: []float64{1}, Repeat: 1, Timeout: time.Minute,
		})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want something about %q", c.url, err, c.says)
		}
	}
}

// A model that is still loading is waited for.
func TestLoadingIsWaitedFor(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		if asked++; asked == 1 {
			http.Error(w, `{"error":{"code":"loading"}}`, http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, `{"text":"a"}`)
	}))
	defer s.Close()
	noted := ""
	_, err := Run(t.Context(), Options{
		URL: s.URL, API: "openai", Model: "m", Speech: make([]float32, 100), Lengths: []float64{1}, Repeat: 2, Timeout: time.Minute,
		Note: func(text string) { noted += text },
	})
	if err != nil || asked != 4 || !strings.Contains(noted, "loading") {
		t.Errorf("asked %d times, noted %q, %v", asked, noted, err)
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	for args, want := range map[string]string{
		"":                        "-o",
		"-o p extra":              `"extra"`,
		"-o p --nope":             "unknown flag --nope",
		"-o p --lengths 3,x":      "--lengths",
		"-o p --streams 0":        "--streams",
		"-o p --streams 1.5":      "whole",
		"-o p --repeat 0":         "--repeat",
		"-o p --api soap":         "openai and inference",
		"-o p --timeout -1s":      "--timeout",
		"-o p --timeout tomorrow": "timeout",
	} {
		var stderr bytes.Buffer
		if code := Command(t.Context(), strings.Fields(args), io.Discard, &stderr); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: exit %d, %q, want something about %q", args, code, &stderr, want)
		}
	}
	var stdout bytes.Buffer
	if code := Command(t.Context(), []string{"--help"}, &stdout, io.Discard); code != exitMeasured || !strings.Contains(stdout.String(), "--recording") {
		t.Errorf("--help: exit %d, %q", code, &stdout)
	}
	var stderr bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := Command(ctx, []string{"-o", filepath.Join(t.TempDir(), "p")}, io.Discard, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("interrupted: exit %d, %q", code, &stderr)
	}
	for args, want := range map[string]string{
		"-o /no/such/folder/p.json":                            "cannot be written",
		"-o p.json --key-file /no/such/key":                    "/no/such/key",
		"-o p.json --recording /no/such/speech.wav":            "/no/such/speech.wav",
		"-o p.json --recording calibrate_test.go --url nobody": "calibrate_test.go",
	} {
		stderr.Reset()
		if code := Command(t.Context(), strings.Fields(args), io.Discard, &stderr); code != exitFailed || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: exit %d, %q, want something about %q", args, code, &stderr, want)
		}
	}
}
