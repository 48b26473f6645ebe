package main

import (
	"context"
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
)

// A service of Type=notify: systemd is told when the model is loaded and when the end begins, and a
// reload reads the API keys again.
func TestTheProgramAsAService(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	told := func(want string) {
		t.Helper()
		_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
		buf := make([]byte, 100)
		n, err := socket.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("told %q, %v, want %q", buf[:n], err, want)
		}
	}
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := newOutput()
	args := "--engine emulator --emulate-model base --emulate-model large-v3 --speed-up 1000 --listen 127.0.0.1:0 --log-format json --api-key-file " + keys
	cmd := exec.CommandContext(t.Context(), os.Args[0], strings.Fields(args)...) //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), asProgram+"=1", "NOTIFY_SOCKET="+socket.LocalAddr().String())
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if first := <-log.lines; first["msg"] != "emulating a GPU: texts are made up" {
		t.Errorf("the first line is %v", first)
	}
	address, _ := log.until(t, "listening")["address"].(string)
	told("READY=1")

	status := func(path, key string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for _, c := range []struct {
		path, key string
		want      int
	}{
		{"/health", "", 200}, {"/metrics", "", 401}, {"/metrics", "old", 200}, {"/load-report", "wrong", 401},
		{"/load-report", "old", 200}, {"/v1/models/large-v3", "old", 200}, {"/nowhere", "", 401},
	} {
		if got := status(c.path, c.key); got != c.want {
			t.Errorf("%s with key %q: %d, want %d", c.path, c.key, got, c.want)
		}
	}
	if err := os.WriteFile(keys, []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	log.until(t, "read the API keys again")
	if a, b := status("/metrics", "old"), status("/metrics", "new"); a != 401 || b != 200 {
		t.Errorf("after the reload the old key gets %d and the new one %d", a, b)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}

// Who opens the server to everybody is told so, and nobody else is.
func TestAnOpenAddressIsToldOf(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]bool{
		"--listen 127.0.0.1:0": false, "--listen [::1]:0": false,
		"--listen :0": true, "--listen 0.0.0.0:0 --api-key-file " + keys: false,
	} {
		log := newOutput()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		go func() {
			ended <- run(ctx, strings.Fields("--engine emulator --speed-up 1000 --log-format json "+args), io.Discard, log)
			_ = log.Close()
		}()
		warned, listening := false, false
		for line := range log.lines {
			listening = listening || line["msg"] == "listening"
			text, _ := line["msg"].(string)
			warned = warned || strings.Contains(text, "--api-key-file")
			if line["msg"] == "ready" || !listening && line["level"] == "ERROR" {
				stop()
			}
		}
		stop()
		if code := <-ended; code != exitOK && !strings.Contains(args, "::1") { // there may be no IPv6 here
			t.Errorf("%s: exit %d", args, code)
		}
		if warned != want {
			t.Errorf("%s: warned: %v", args, warned)
		}
	}
}
