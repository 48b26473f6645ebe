package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram in the environment makes the test binary be the program.
const asProgram = "WHISPER_BACKEND_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestHelpExplainsEveryFlag(t *testing.T) {
	var help bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &help, io.Discard); code != exitOK {
		t.Fatalf("exit %d", code)
	}
	grouped := map[string]int{}
	for _, g := range groups {
		for _, name := range g.flags {
			grouped[name]++
		}
	}
	lines := strings.Split(help.String(), "\n")
	newOptions().flags.VisitAll(func(f *flag.Flag) {
		if grouped[f.Name] != 1 {
			t.Errorf("--%s is in %d groups of the help", f.Name, grouped[f.Name])
		}
		at := slices.IndexFunc(lines, func(l string) bool {
			return l == "  --"+f.Name || strings.HasPrefix(l, "  --"+f.Name+" ")
		})
		if at < 0 || len(strings.TrimSpace(lines[at+1])) < 10 {
			t.Errorf("--%s is not explained", f.Name)
		}
		if name, _ := flag.UnquoteUsage(f); name != "" && lines[at] != "  --"+f.Name+" "+name {
			t.Errorf("--%s does not show its value: %q", f.Name, lines[at])
		}
	})
	unwrapped := strings.Join(strings.Fields(help.String()), " ")
	for _, part := range []string{"(default 127.0.0.1:8000)", "(default 16)", "(default 1GiB)", "(default 4h)", "(default 30s)", "convert DIR OUT"} {
		if !strings.Contains(unwrapped, part) {
			t.Errorf("%q is not in the help", part)
		}
	}
	for _, line := range lines {
		if len(line) > helpWidth {
			t.Errorf("%d characters wide: %s", len(line), line)
		}
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"", "--model"},
		{"--nope", "unknown flag --nope"},
		{"--model", "--model"},
		{"--model x extra", `unexpected argument "extra"`},
		{"--model x --slots two", "--slots"},
		{"--model x --slots -1", "--slots is -1"},
		{"--model x --slots 65", "0 to 64"},
		{"--model x --beam-size-max 9", "1 to 8"},
		{"--model x --queue -1", "--queue"},
		{"--model x --gpu maybe", "auto, required, off"},
		{"--model x --gpu -1", "number of a GPU"},
		{"--model x --gpu 65", "number of a GPU"},
		{"--models-dir x --model-id y", "--model-id"},
		{"--model x --slots 2 --max-slots 4", "--slots"},
		{"--model x --min-slots 4", "--max-slots"},
		{"--model x --min-slots 4 --max-slots 2", "--max-slots"},
		{"--model x --max-slots 65", "0 to 64"},
		{"--model x --max-slots 2 --target-ongoing-requests 0", "--target-ongoing-requests"},
		{"--model x --max-slots 2 --upscale-delay -1s", "--upscale-delay"},
		{"--model x --short-clips maybe", "auto, on, off"},
		{"--model x --emulate-model base", "--engine emulator"},
		{"--model x --profile p.json", "--engine emulator"},
		{"--model x --fault {}", "--engine emulator"},
		{"--engine emulator --emulate-load -1s", "--emulate-load"},
		{"--engine emulator --profile p.json --emulate-model base", "--emulate-model"},
		{"--engine emulator --profile p.json --emulate-class H100", "--emulate-class"},
		{"--engine emulator --models-dir x", "--models-dir"},
		{"--model x --vad", "--vad-model"},
		{"--engine emulator --vad-model x", "--vad-model"},
		{"--model x --memory-max lots", "1GiB"},
		{"--model x --engine torch", "whispercpp, emulator"},
		{"--model x --engine emulator", "--model"},
		{"--model x --max-upload huge", "1GiB"},
		{"--model x --max-upload 0", "1GiB"},
		{"--model x --max-audio 4", "--max-audio"},
		{"--model x --max-audio 10ms", "--max-audio"},
		{"--model x --grace -1s", "--grace"},
		{"--model x --log-level loud", "debug, info, warn, error"},
		{"--model x --log-format xml", "console, json"},
		{"convert", "convert"},
		{"calibrate", "calibrate"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(c.args), &stdout, &stderr)
		first, _, _ := strings.Cut(stderr.String(), "\n")
		if code != exitUsage || !strings.HasPrefix(first, "whisper-backend") || !strings.Contains(first, c.says) {
			t.Errorf("%q: exit %d, %q, want something about %q", c.args, code, first, c.says)
		}
	}
}

func TestStartErrorsAreOneSentence(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	noModel := t.TempDir() + "/notes.txt"
	if err := os.WriteFile(noModel, []byte("these are notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		says string
	}{
		{"--engine emulator --listen " + taken.Addr().String(), "cannot listen on " + taken.Addr().String()},
		{"--engine emulator --listen nonsense", "cannot listen on nonsense"},
		{"--engine emulator --emulate-class L4", "T4, A10G, H100"},
		{"--engine emulator --emulate-model gpt", "gpt"},
		{"--engine emulator --emulate-model base --emulate-model base", "twice"},
		{"--engine emulator --profile /no/such/profile", "/no/such/profile"},
		{"--engine emulator --emulate-model large-v3 --emulate-memory 3GB --listen 127.0.0.1:0", "out of memory"},
		{`--engine emulator --fault {"fault":"melt"}`, "slow, hang"},
		{`--engine emulator --fault {"fault":"exit"}`, "at the start"},
		{"--engine emulator --api-key-file /no/such/keys", "/no/such/keys"},
		{"--models-dir /no/such/folder", "/no/such/folder"},
		{"--engine emulator --speed-up 0.0 --speed-up -3", "speed-up"},
		{"--engine emulator --ffmpeg /no/such/ffmpeg", "/no/such/ffmpeg"},
		{"--listen 127.0.0.1:0 --gpu off --model /no/such/model.bin", "/no/such/model.bin"},
		{"--listen 127.0.0.1:0 --gpu off --model " + noModel, noModel},
	} {
		var stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(c.args), io.Discard, &stderr)
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		last := lines[len(lines)-1]
		if code != exitFailed || !strings.HasPrefix(last, "whisper-backend: ") || !strings.Contains(last, c.says) {
			t.Errorf("%q: exit %d, %q", c.args, code, last)
		}
		if strings.Contains(stderr.String(), "goroutine") {
			t.Errorf("%q: a stack: %s", c.args, stderr.String())
		}
	}
}

// output is where a running program writes its log, line by line.
type output struct {
	lines chan map[string]any
	*io.PipeWriter
}

func newOutput() output {
	r, w := io.Pipe()
	o := output{make(chan map[string]any, 100), w}
	go func() {
		for scan := bufio.NewScanner(r); scan.Scan(); {
			line := map[string]any{}
			_ = json.Unmarshal(scan.Bytes(), &line)
			o.lines <- line
		}
		close(o.lines)
	}()
	return o
}

// until waits for a line of the log.
func (o output) until(t *testing.T, msg string) map[string]any {
	t.Helper()
	patience := time.After(time.Minute)
	for {
		select {
		case line, ok := <-o.lines:
			if !ok {
				t.Fatalf("the program ended before it logged %q", msg)
			}
			if line["msg"] == msg {
				return line
			}
		case <-patience:
			t.Fatalf("%q was not logged", msg)
		}
	}
}

func post(t *testing.T, base, model string) (status int, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.WriteField("model", model)
	part, _ := w.CreateFormFile("file", "a.wav")
	// A second of silence: RIFF, 16 kHz, 16 bits, mono.
	_, _ = part.Write([]byte("RIFF\x24\x7d\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x00\x7d\x00\x00\x02\x00\x10\x00data\x00\x7d\x00\x00"))
	_, _ = part.Write(make([]byte, 32000))
	_ = w.Close()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, base+"/v1/audio/transcriptions", &b)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func TestTheEmulatorServes(t *testing.T) {
	log := newOutput()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, strings.Fields("--engine emulator --speed-up 1000 --emulate-class h100 --slots 2 --listen 127.0.0.1:0 --log-format json"), io.Discard, log)
		_ = log.Close()
	}()
	address, _ := log.until(t, "listening")["address"].(string)
	ready := log.until(t, "ready")
	if ready["gpu_class"] != "H100" || ready["engine"] != "emulator" || ready["slots"] != 2.0 {
		t.Errorf("%v", ready)
	}
	if status, body := post(t, "http://"+address, "base"); status != http.StatusOK || !strings.Contains(body, "[emulated H100] 1 seconds of audio.") {
		t.Errorf("%d %s", status, body)
	}
	stop()
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// The real program: SIGTERM lets a running job finish, and the exit code is 0.
func TestSIGTERMFinishesTheRunningJob(t *testing.T) {
	log := newOutput()
	// large on a T4 takes about 0.4 s for a second of audio.
	cmd := exec.CommandContext(t.Context(), os.Args[0], strings.Fields("--engine emulator --emulate-model large --slots 1 --listen 127.0.0.1:0 --log-format json")...) //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address, _ := log.until(t, "listening")["address"].(string)
	log.until(t, "ready")
	base := "http://" + address
	answered := make(chan int, 1)
	go func() {
		status, _ := post(t, base, "large")
		answered <- status
	}()
	for busy := false; !busy; {
		resp, err := http.Get(base + "/load-report")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		busy = bytes.Contains(text, []byte(`"busy":1`))
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	log.until(t, "shutting down")
	if status := <-answered; status != http.StatusOK {
		t.Errorf("the running job got %d", status)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}
