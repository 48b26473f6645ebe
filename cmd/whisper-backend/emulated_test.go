package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The fault exit ends the process as kill -9 does.
func TestTheFaultExitKillsTheProgram(t *testing.T) {
	log := newOutput()
	args := []string{"--engine", "emulator", "--listen", "127.0.0.1:0", "--log-format", "json", "--fault", `{"fault":"busy","requests":1}`}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...) //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address, _ := log.until(t, "listening")["address"].(string)
	log.until(t, "ready")
	if status, body := post(t, "http://"+address, "base"); status != http.StatusServiceUnavailable || !strings.Contains(body, "queue_full") {
		t.Errorf("the fault of the command line: %d %s", status, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+address+"/emulator/fault", strings.NewReader(`{"fault":"exit"}`))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil { // it may be dead before the answer is out
		_ = resp.Body.Close()
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
}

func TestProfilesAreEmulated(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	desk := write("desk.json", `{"whisperpool_profile":1,"class":"desk","model":"base.en","slots":3,"law":{"fixed_ms":1,"window_ms":2}}`)
	other := write("other.json", `{"whisperpool_profile":1,"class":"desk","model":"large-v3","law":{"fixed_ms":1,"window_ms":2}}`)
	log := newOutput()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--engine", "emulator", "--profile", desk, "--profile", other, "--listen", "127.0.0.1:0", "--log-format", "json"}, io.Discard, log)
		_ = log.Close()
	}()
	address, _ := log.until(t, "listening")["address"].(string)
	if ready := log.until(t, "ready"); ready["gpu_class"] != "desk" || ready["slots"] != 3.0 || ready["model"] != "base.en" {
		t.Errorf("%v", ready)
	}
	for _, model := range []string{"base.en", "large-v3"} {
		if status, body := post(t, "http://"+address, model); status != http.StatusOK || !strings.Contains(body, "[emulated desk] 1 seconds of audio.") {
			t.Errorf("%s: %d %s", model, status, body)
		}
	}
	stop()
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// A model that takes long to load is told of as loading, and does not keep the program from ending.
func TestLoadingTakesItsTime(t *testing.T) {
	log := newOutput()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, strings.Fields("--engine emulator --emulate-load 1h --listen 127.0.0.1:0 --log-format json"), io.Discard, log)
		_ = log.Close()
	}()
	address, _ := log.until(t, "listening")["address"].(string)
	if status, body := post(t, "http://"+address, "base"); status != http.StatusServiceUnavailable || !strings.Contains(body, "loading") {
		t.Errorf("%d %s", status, body)
	}
	stop()
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d", code)
	}
}
