package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const topPatienceOfTests = time.Minute

// openTerminal is a terminal of Linux, and its other end.
func openTerminal(t *testing.T) (terminal, keyboard *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	fd := int(keyboard.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: 60})
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(number)), os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return terminal, keyboard
}

// TestTopInATerminal: it draws again and again, goes on while the proxy is away, and gives the terminal back when q
// is pressed.
func TestTopInATerminal(t *testing.T) {
	terminal, keyboard := openTerminal(t)
	asked := make(chan bool, 1000)
	var times atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if times.Add(1) == 2 {
			http.Error(w, "away", http.StatusBadGateway)
		} else {
			adminEndpoint(w, r)
		}
		asked <- true
	}))
	defer server.Close()
	before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		part := make([]byte, 4096)
		for !bytes.HasSuffix(all.Bytes(), []byte(leaveScreen)) {
			n, err := keyboard.Read(part)
			if err != nil {
				break
			}
			all.Write(part[:n])
		}
		seen <- all.String()
	}()
	ended := make(chan error, 1)
	o := topOptions{address: strings.TrimPrefix(server.URL, "http://")}
	ctx, cancel := context.WithTimeout(t.Context(), topPatienceOfTests)
	defer cancel()
	go func() { ended <- o.run(ctx, terminal, terminal) }()
	for range 3 {
		select {
		case <-asked:
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		}
	}
	if _, err := keyboard.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
	text := <-seen
	for _, want := range []string{enterScreen, "h100", "no answer: ", leaveScreen} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("%v: the terminal is left as %+v, it was %+v", err, after, before)
	}
}
