package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// runAsCaddy in its environment has the test's program be Caddy with our modules.
const runAsCaddy = "CADDYMODULE_TEST_RUN_AS_CADDY"

// process is a proxy in a process of its own, for what ends one.
type process struct {
	*proxy
	cmd *exec.Cmd
	out *bytes.Buffer
}

// startProcess starts a proxy with global options and a pool.
func startProcess(t *testing.T, global, pool string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{proxy: &proxy{t: t, url: "http://" + freeAddress(t)}, out: new(bytes.Buffer)}
	file := filepath.Join(dir, "Caddyfile")
	text := "{\n\tadmin off\n" + global + ownListener + "}\n" + site(p.url, pool)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0], "run", "--config", file, "--adapter", "caddyfile")
	p.cmd.Env = append(os.Environ(), runAsCaddy+"=1", "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended, unless the test failed
		_ = p.cmd.Wait()
		client.CloseIdleConnections()
		if t.Failed() {
			t.Log(p.out.String())
		}
	})
	eventually(t, "the pool can be used", func() bool {
		r, err := send(t.Context(), http.MethodGet, p.url+"/health?pool", nil, nil)
		return err == nil && r.status == http.StatusOK
	})
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit is the code that the process ends with.
func (p *process) exit() int {
	p.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		var code *exec.ExitError
		if err != nil && !errors.As(err, &code) {
			p.t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatal("it did not end")
		return 0
	}
}

type answered struct {
	response
	err error
}

func (p *proxy) postLater(fields ...string) chan answered {
	c := make(chan answered, 1)
	go func() {
		r, err := p.postWith(context.Background(), transcriptions, nil, wav(1), fields...)
		c <- answered{r, err}
	}()
	return c
}

// TestSIGTERM: /health fails at once, requests are served during the delay, what runs and waits is finished in
// the grace period, and what is left then is answered and not cut off.
func TestSIGTERM(t *testing.T) {
	gate := make(chan struct{})
	quick := newWhisper(t)
	solo := newWhisper(t, func(s *whisper) { s.models = []string{"solo"} })
	stuck := newWhisper(t, func(s *whisper) { s.models = []string{"stuck"} })
	solo.answer, stuck.answer = held(gate), held(nil)
	const delay, grace = 8 * time.Second, 8 * time.Second // much is to happen in each on a machine that is busy
	p := startProcess(t, fmt.Sprintf("\tshutdown_delay %v\n\tgrace_period %v\n", delay, grace), fmt.Sprintf("backend %s\nbackend %s\nbackend %s", quick.address(), solo.address(), stuck.address()))
	eventually(t, "all models are known", func() bool {
		return strings.Contains(p.get("/v1/models/stuck").body, `"id"`) && strings.Contains(p.get("/v1/models/solo").body, `"id"`)
	})
	runs, waits := p.postLater("model=solo"), p.postLater("model=solo")
	hopeless, queued := p.postLater("model=stuck"), p.postLater("model=stuck")
	uploading := p.uploadForEver()
	eventually(t, "both run", func() bool { return backendRuns(solo) && backendRuns(stuck) })

	p.signal(syscall.SIGTERM)
	began := time.Now()
	eventually(t, "/health fails", func() bool {
		r := p.get("/health")
		return r.status == http.StatusServiceUnavailable && r.header.Get("Retry-After") != ""
	})
	t.Logf("/health failed after %v", time.Since(began))
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Errorf("during the delay: status %d: %s", r.status, r.body)
	}
	if since := time.Since(began); since > delay {
		t.Errorf("all this took %v, so the delay was over", since)
	}
	eventually(t, "the grace period has begun", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	close(gate)
	for what, c := range map[string]chan answered{"what ran": runs, "what waited": waits} {
		if a := <-c; a.err != nil || a.status != http.StatusOK {
			t.Errorf("%s: %v, status %d: %s", what, a.err, a.status, a.body)
		}
	}
	for what, c := range map[string]chan answered{"what ran too long": hopeless, "what waited too long": queued, "an upload": uploading} {
		a := <-c
		if a.err != nil || a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %v, status %d: %s", what, a.err, a.status, a.body)
			continue
		}
		if _, code := a.problem(t); code != "shutting_down" {
			t.Errorf("%s: %s", what, a.body)
		}
	}
	if code := p.exit(); code != caddy.ExitCodeSuccess {
		t.Errorf("it ended with %d", code)
	}
	t.Logf("it ended after %v", time.Since(began))
	if took := time.Since(began); took > delay+grace+patience/2 { // without end, if what is stuck were waited for
		t.Errorf("it ended after %v", took)
	}
}

// uploadForEver sends the beginning of a request, and reads what comes back.
func (p *proxy) uploadForEver() chan answered {
	c := make(chan answered, 1)
	body, contentType := form(wav(1), "model=base")
	reader, writer := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, p.url+transcriptions, reader)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.ContentLength = int64(len(body))
	go func() { _, _ = writer.Write(body[:len(body)/2]) }()
	go func() {
		defer writer.Close()
		resp, err := client.Do(req)
		if err != nil {
			c <- answered{err: err}
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		c <- answered{response{resp.StatusCode, resp.Header, string(text)}, err}
	}()
	return c
}

// TestSecondSignalEndsAtOnce: whoever asks twice has no time.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	for _, second := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(second.String(), func(t *testing.T) {
			stuck := newWhisper(t)
			stuck.answer = held(nil)
			p := startProcess(t, "", "backend "+stuck.address())
			job := p.postLater("model=base")
			eventually(t, "it runs", func() bool { return backendRuns(stuck) })
			p.signal(syscall.SIGTERM)
			eventually(t, "it is shutting down", func() bool {
				r, err := send(t.Context(), http.MethodGet, p.url+"/health", nil, nil)
				return err != nil || r.status == http.StatusServiceUnavailable
			})
			began := time.Now()
			p.signal(second)
			if code := p.exit(); code != caddy.ExitCodeForceQuit {
				t.Errorf("it ended with %d", code)
			}
			t.Logf("ended after %v", time.Since(began))
			if a := <-job; a.err == nil {
				t.Errorf("status %d", a.status)
			}
		})
	}
}
