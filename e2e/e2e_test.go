// Package e2e tests the product as its users meet it: the real binaries, real whisper.cpp with real
// weights, real recordings, a real whisper-server and OpenAI's own client, over loopback. It runs
// under `make test`, which says by the environment where the real things are; without that the
// tests are skipped, with it a missing thing is a failure.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// askMax is how long an answer may take where whisper.cpp shares a core with many others.
const askMax = 10 * time.Minute

// startMax is how long a process may take to be ready: the machine may be busy with other tests.
const startMax = 2 * time.Minute

// real skips the test where the environment of `make test` is missing.
func real(t *testing.T) {
	t.Helper()
	if os.Getenv("WHISPERPOOL_E2E") == "" {
		t.Skip("needs the binaries, models and recordings: run `make test`")
	}
}

func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set; run `make test`", name)
	}
	return value
}

// binary is one of the programs that the tree makes, as the tree is now.
func binary(t *testing.T, name string) string {
	t.Helper()
	if err := built(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join("..", "bin", name)
}

// built has the programs built, which takes a few seconds where nothing has changed since the last time: what
// lies in bin may be older than the tree. Their sources are looked at, for `go test` would take a result from its
// cache otherwise as long as the tests themselves are as they were.
var built = sync.OnceValue(func() error {
	out, err := exec.Command("make", "-C", "..", "--no-print-directory", "whisperpool", "whisper-backend").CombinedOutput()
	if err != nil {
		return fmt.Errorf("the programs to test can't be built: %w\n%s", err, out)
	}
	return filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && path == "..":
			return err
		case err != nil: // another test's file that has just gone
			return nil
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "run", "docs"}, entry.Name()):
			return filepath.SkipDir
		}
		return nil
	})
})

// threads is how many a backend gets that should be faster than others: whisper.cpp's threads wait for each
// other at every step, and where there are more than cores that takes longer than the work.
func threads() string { return strconv.Itoa(min(2, runtime.NumCPU())) }

func model(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(env(t, "WHISPERPOOL_TEST_MODEL_DIR"), "ggml-"+name+".bin")
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// tail keeps the end of what a process prints.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.buf.Bytes()[max(0, w.buf.Len()-4000):])
}

// process is a running program of the test's; it is ended with the test.
type process struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{} // closed when it has ended
}

func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), out: &tail{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	home := t.TempDir() // Caddy writes its autosave there
	p.cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(40 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
			t.Errorf("%s did not end on SIGTERM", filepath.Base(name))
		}
		if t.Failed() {
			t.Logf("the end of what %s %s printed:\n%s", filepath.Base(name), strings.Join(args, " "), p.out)
		}
	})
	return p
}

// ready waits until url answers 200.
func (p *process) ready(t *testing.T, url string) {
	t.Helper()
	deadline := time.After(startMax)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		cancel()
		if err == nil && resp.StatusCode == http.StatusOK {
			return
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended before it was ready", p.cmd.Path)
		case <-deadline:
			t.Fatalf("%s was not ready within %v", p.cmd.Path, startMax)
		case <-again.C:
		}
	}
}

// startBackend runs our own backend and returns its address.
func startBackend(t *testing.T, modelName string, more ...string) (string, *process) {
	t.Helper()
	address := "127.0.0.1:" + freePort(t)
	args := append([]string{"--model", model(t, modelName), "--listen", address, "--gpu", "off", "--threads", "1", "--slots", "1"}, more...)
	p := start(t, binary(t, "whisper-backend"), args...)
	p.ready(t, "http://"+address+"/health")
	return address, p
}

// startWhisperServer runs whisper.cpp's own server.
func startWhisperServer(t *testing.T, modelName string) string {
	t.Helper()
	port := freePort(t)
	p := start(t, env(t, "WHISPERPOOL_WHISPER_SERVER"), "-m", model(t, modelName), "-vm", model(t, "silero-v6.2.0"), "--host", "127.0.0.1", "--port", port, "-t", "1", "-ng")
	p.ready(t, "http://127.0.0.1:"+port+"/health")
	return "127.0.0.1:" + port
}

// backendBlock is a backend of the Caddyfile with one option.
func backendBlock(address, option string) string {
	return "backend " + address + " CPU {\n" + option + "\n}\n"
}

// startProxy runs the proxy over a pool and returns its URL.
func startProxy(t *testing.T, pool string) string {
	t.Helper()
	url := "http://127.0.0.1:" + freePort(t)
	config := filepath.Join(t.TempDir(), "Caddyfile")
	text := fmt.Sprintf("{\n\tadmin off\n}\n%s {\n\twhisper_pool {\n%s\n\t}\n}\n", url, pool)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, binary(t, "whisperpool"), "run", "--config", config)
	p.ready(t, url+"/health?pool")
	return url
}

// ask posts a recording with form fields ("name=value") and returns the answer.
func ask(ctx context.Context, url, file string, fields ...string) (status int, header http.Header, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	pr, pw := io.Pipe()
	form, contentType := multipartForm(pw, file, fields)
	go func() { _ = pw.CloseWithError(form()) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, pr)
	if err != nil {
		return 0, nil, "", err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(answer), err
}
