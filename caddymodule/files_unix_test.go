//go:build unix

package caddymodule

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// hoard is of file descriptors that the process can't have then.
type hoard struct {
	t     *testing.T
	was   syscall.Rlimit
	files []*os.File
}

func newHoard(t *testing.T) *hoard {
	t.Helper()
	h := &hoard{t: t}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &h.was); err != nil {
		t.Fatal(err)
	}
	next, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	low := h.was
	low.Cur = uint64(next.Fd()) + 8
	_ = next.Close()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.free)
	h.fill()
	return h
}

// fill takes all that are left, those included that others have given back since.
func (h *hoard) fill() {
	h.t.Helper()
	for {
		file, err := os.Open(os.DevNull)
		if outOfFiles(err) {
			return
		}
		if err != nil {
			h.t.Fatal(err)
		}
		h.files = append(h.files, file)
	}
}

// spare gives one back.
func (h *hoard) spare() {
	_ = h.files[0].Close()
	h.files = h.files[1:]
}

// free gives all back.
func (h *hoard) free() {
	for len(h.files) > 0 {
		h.spare()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &h.was); err != nil {
		h.t.Error(err)
	}
}

// elsewhere, when set, has this process be a backend of the test's alone.
const elsewhere = "WHISPERPOOL_TEST_BACKEND"

// newWhisperElsewhere is newWhisper in a process of its own, which has file descriptors of its own.
func newWhisperElsewhere(t *testing.T) (address string) {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	command.Env = append(os.Environ(), elsewhere+"=1")
	stay, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stay.Close()
		_ = command.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestOutOfFiles: that the proxy has no file descriptor left is the fault of no backend: clients come again, health
// checks say nothing, connections wait to be accepted, and the log says once what to do.
func TestOutOfFiles(t *testing.T) {
	if os.Getenv(elsewhere) != "" {
		backend := newWhisper(t)
		backend.Config.SetKeepAlivesEnabled(false) // each request opens a connection
		fmt.Println(backend.address())
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	address := newWhisperElsewhere(t)
	p := newProxy(t, "backend "+address+" {\n\tname gpu\n}")
	p.ready(1)
	c := newPlainClient(p.url, true, wav(.1), "model=base")
	if status, err := c.send(); status != http.StatusOK {
		t.Fatal(status, err)
	}
	filesTold.Store(0)
	m := p.pool().member("gpu")
	file, err := os.Open(p.logs)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	logged := func() string {
		text, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<30))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}

	h := newHoard(t)
	refused := 0
	eventually(t, "six are refused", func() bool { // five failures would open its breaker
		h.fill() // what others, such as Caddy's cleaning, have closed since
		switch status, err := c.send(); {
		case status == http.StatusServiceUnavailable && c.header.Get("Retry-After") == "2":
			refused++
		case status != http.StatusOK:
			t.Fatalf("without a file: %d %v %v", status, c.header, err)
		}
		return refused == 6
	})
	for range 4 {
		h.fill()
		m.probe(t.Context())
	}
	if b := p.pool().dispatcher.Snapshot().Backends[0]; b.State != "up" || !b.Usable || b.Failed != 0 {
		t.Errorf("the backend is held to be %+v", b)
	}
	if log := logged(); strings.Count(log, "LimitNOFILE") != 1 {
		t.Errorf("the log says so %d times", strings.Count(log, "LimitNOFILE"))
	}

	h.fill()
	h.spare() // which the client takes that comes now
	late := newPlainClient(p.url, true, wav(.1), "model=base")
	conn, err := net.Dial("tcp", late.address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(late.request); err != nil {
		t.Fatal(err)
	}
	eventually(t, "accepting fails", func() bool { return strings.Contains(logged(), "Accept error") })
	h.free()
	late.adopt(conn)
	if status, err := late.receive(); status != http.StatusOK {
		t.Errorf("one that waited to be accepted: %d %v", status, err)
	}
	if status, err := c.send(); status != http.StatusOK {
		t.Errorf("afterwards: %d %v", status, err)
	}
}
