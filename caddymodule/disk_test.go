package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSpoolFolder: made for us alone; leftovers of a killed process go, all else stays; what anybody may
// write to is refused.
func TestSpoolFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "spool")
	if err := checkSpoolFolder(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	outside := filepath.Join(t.TempDir(), "upload-7")
	keep := map[string]bool{"notes.txt": true, "upload-": true, "upload-12.wav": true, "upload-link": true, "upload-5": true, "upload-6": true}
	for _, name := range []string{"upload-123", "upload-4", "notes.txt", "upload-", "upload-12.wav"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(outside, []byte("x"), 0o600), os.Mkdir(filepath.Join(dir, "upload-6"), 0o700),
		os.Symlink(outside, filepath.Join(dir, "upload-5")), os.Symlink(outside, filepath.Join(dir, "upload-link"))); err != nil {
		t.Fatal(err)
	}
	if err := checkSpoolFolder(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(keep) {
		t.Errorf("%v, %v", entries, err)
	}
	for _, entry := range entries {
		if !keep[entry.Name()] {
			t.Errorf("%s was left", entry.Name())
		}
	}
	if text, err := os.ReadFile(outside); err != nil || string(text) != "x" {
		t.Errorf("a link was followed: %q, %v", text, err)
	}

	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := checkSpoolFolder(dir); err == nil || !strings.Contains(err.Error(), "by everybody") {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := checkSpoolFolder(dir); err != nil {
		t.Errorf("as /tmp is: %v", err)
	}
}

// smallDisk is a file system of so many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=700"); err != nil {
		t.Skipf("a small file system can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestDiskFull: an upload that fills the disk is refused for now, in words, whether its room was looked for
// beforehand or the disk fills up while it is written. What was spooled before is served, what comes after is
// served as well, and nothing stays behind.
func TestDiskFull(t *testing.T) {
	dir := smallDisk(t, "8m")
	gate := make(chan struct{})
	backend := newWhisper(t)
	backend.answer = held(gate)
	p := newProxy(t, "backend "+backend.address()+"\nqueue {\n\tmax_bytes 1GiB\n}\nupload {\n\tmemory 256KiB\n\tspool "+dir+"\n}")
	p.ready(1)
	first := make(chan response, 1)
	go func() {
		r, err := p.postWith(context.Background(), transcriptions, nil, wav(150), "model=base") // 4.6 MiB
		if err != nil {
			t.Error(err)
		}
		first <- r
	}()
	eventually(t, "the first runs", func() bool { return backend.running.Load() == 1 })
	refused := func(seconds float64) {
		t.Helper()
		r := p.post(transcriptions, wav(seconds), "model=base")
		if message, code := r.problem(t); r.status != http.StatusServiceUnavailable || code != "spool_full" || r.header.Get("Retry-After") == "" ||
			!strings.Contains(message, "try again") || strings.Contains(r.body, dir) {
			t.Errorf("%v s: status %d, %v: %s", seconds, r.status, r.header, r.body)
		}
	}
	refused(200) // the disk fills up
	if err := os.WriteFile(filepath.Join(dir, "others"), make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(20) // it is looked at before
	if !strings.Contains(p.log(), "no space left on device") {
		t.Error("the log does not tell why")
	}
	second := make(chan response, 1)
	go func() {
		r, err := p.postWith(context.Background(), transcriptions, nil, wav(1), "model=base") // in memory
		if err != nil {
			t.Error(err)
		}
		second <- r
	}()
	eventually(t, "a small one waits", func() bool { return p.pool().dispatcher.Snapshot().Queued == 1 })
	close(gate)
	for _, r := range []response{<-first, <-second} {
		if r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
	if got := backend.requests(); len(got) != 2 || got[0].fileHash != digest(wav(150)) {
		t.Errorf("%d requests, or another file than was sent", len(got))
	}
	if err := os.Remove(filepath.Join(dir, "others")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is held", func() bool {
		free, total, _ := diskState(dir)
		return p.pool().uploads.held.Load() == 0 && p.pool().uploads.memory.Load() == 0 && free == total
	})
	if r := p.post(transcriptions, wav(200), "model=base"); r.status != http.StatusOK {
		t.Errorf("once there is room: %d, %s", r.status, r.body)
	}
}

// TestFullDiskIsNoReasonNotToStart: uploads that fit into memory can be served still.
func TestFullDiskIsNoReasonNotToStart(t *testing.T) {
	dir := smallDisk(t, "1m")
	_ = os.WriteFile(filepath.Join(dir, "others"), make([]byte, 2<<20), 0o600)
	if err := checkSpoolFolder(dir); err != nil {
		t.Error(err)
	}
	s := &spool{account: new(account), memory: 1, dir: dir}
	defer s.Close()
	if _, err := s.ReadFrom(io.LimitReader(bytes.NewReader(noise(1000)), 1000)); !diskFull(err) {
		t.Errorf("%v", err)
	}
}
