package caddymodule

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestPacer: over a real connection, an upload that stands still or trickles is ended, one that is fast
// enough is not, and no deadline is left behind.
func TestPacer(t *testing.T) {
	// Long enough for a machine that stands still for a second; the three go on side by side.
	quick := pace{idle: 2 * time.Second, grace: 3 * time.Second, rate: 10000}
	results := map[string]chan error{"/stands": make(chan error, 1), "/trickles": make(chan error, 1), "/flows": make(chan error, 1)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, newPacer(context.Background(), w, r.Body, quick))
		if err == nil { // longer than any deadline from before, with net/http reading on in the background
			timer := time.NewTimer(2 * quick.idle)
			defer timer.Stop()
			select {
			case <-r.Context().Done():
				err = errors.New("the request ended while it was served")
			case <-timer.C:
			}
		}
		results[r.URL.Path] <- err
	}))
	t.Cleanup(server.Close) // when all three have ended
	for _, c := range []struct {
		name   string
		path   string
		every  time.Duration
		bytes  int
		pieces int
		cut    bool
		least  time.Duration
	}{
		{"stands still", "/stands", 0, 100, 1, true, 1900 * time.Millisecond},
		{"trickles", "/trickles", 50 * time.Millisecond, 10, 10000, true, 2900 * time.Millisecond},
		{"fast enough", "/flows", 50 * time.Millisecond, 3000, 80, false, 3900 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			length := c.bytes * c.pieces
			if c.every == 0 {
				length++
			}
			began := time.Now()
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", c.path, length)
			go func() {
				piece := []byte(strings.Repeat("x", c.bytes))
				_, _ = conn.Write(piece)
				if c.every == 0 {
					return
				}
				tick := time.NewTicker(c.every)
				defer tick.Stop()
				for range c.pieces - 1 {
					<-tick.C
					if _, err := conn.Write(piece); err != nil {
						return
					}
				}
			}()
			select {
			case err = <-results[c.path]:
			case <-time.After(2 * patience): // the one that trickles would take eight minutes
				t.Fatal("it was not ended")
			}
			took := time.Since(began)
			if errors.Is(err, os.ErrDeadlineExceeded) != c.cut || !c.cut && err != nil || took < c.least {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}

// TestIdleUploadIsAnswered: through Caddy, whose own limit for idle ones is set low here, the client is
// told, and what was held is free.
func TestIdleUploadIsAnswered(t *testing.T) {
	backend := newWhisper(t)
	p := &proxy{t: t, url: "http://" + freeAddress(t), logs: t.TempDir() + "/caddy.log"}
	options := strings.TrimSuffix(globalOptions(p.logs), "}\n") + "\tservers {\n\t\ttimeouts {\n\t\t\tread_body_idle 300ms\n\t\t}\n\t}\n}\n"
	if err := loadText(options + site(p.url, "backend "+backend.address())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	conn := p.dialRaw(1 << 20)
	_, _ = io.WriteString(conn, filePart+strings.Repeat("x", 100<<10))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(text), `"upload_timeout"`) {
		t.Errorf("%v, status %d: %s", err, resp.StatusCode, text)
	}
	eventually(t, "nothing is held", func() bool { return p.pool().uploads.held.Load() == 0 && p.pool().uploads.memory.Load() == 0 })
}
