package caddymodule

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// plainClient sends each request once, and never again: HTTP/1.1 as it comes off the wire.
type plainClient struct {
	address string
	request []byte
	keep    bool // the connection, for as long as the server does
	conn    net.Conn
	reader  *bufio.Reader
}

func newPlainClient(url string, keep bool, file []byte, fields ...string) *plainClient {
	body, contentType := form(file, fields...)
	address := strings.TrimPrefix(url, "http://")
	var request bytes.Buffer
	fmt.Fprintf(&request, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n", transcriptions, address, contentType, len(body))
	if !keep {
		request.WriteString("Connection: close\r\n")
	}
	request.WriteString("\r\n")
	request.Write(body)
	return &plainClient{address: address, request: request.Bytes(), keep: keep}
}

func (c *plainClient) send() (status int, err error) {
	if c.conn == nil {
		if c.conn, err = net.Dial("tcp", c.address); err != nil {
			return 0, err
		}
		c.reader = bufio.NewReader(c.conn)
	}
	done := func() {
		_ = c.conn.Close()
		c.conn = nil
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		done()
		return 0, err
	}
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		done()
		return 0, err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err != nil || resp.Close || !c.keep {
		done()
	}
	return resp.StatusCode, err
}

const ownListener = "\tservers {\n\t\tlistener_wrappers {\n\t\t\twhisper_pool\n\t\t\ttls\n\t\t}\n\t}\n"

// TestReloadsResetNothing: clients that do not send again get all their answers over twenty reloads that add,
// remove and resize backends. That Caddy alone resets some is measured beside it.
func TestReloadsResetNothing(t *testing.T) {
	for name, wrapped := range map[string]bool{"with the wrapper": true, "as Caddy does it": false} {
		t.Run(name, func(t *testing.T) {
			served, lost := reloadUnderPlainClients(t, wrapped)
			t.Logf("%d served, %d lost", served, lost)
			if wrapped && lost > 0 {
				t.Errorf("%d of %d requests were lost", lost, lost+served)
			}
		})
	}
}

func reloadUnderPlainClients(t *testing.T, wrapped bool) (served, lost int32) {
	backends := []*whisper{newWhisper(t), newWhisper(t), newWhisper(t)}
	pool := func(i int) string {
		var text strings.Builder
		for n, b := range backends {
			if n > 0 && (i+n)%3 == 0 {
				continue // taken out this time
			}
			fmt.Fprintf(&text, "backend %s T4 {\n\tname b%d\n\tslots %d\n}\n", b.address(), n, 1+i%3)
		}
		return text.String()
	}
	p := newProxyWith(t, wrapped, pool(0))
	p.ready(3)
	before := runtime.NumGoroutine()

	var wg sync.WaitGroup
	var ok, failed atomic.Int32
	var errs sync.Map // how often, by what
	stop := make(chan struct{})
	for i := range 16 {
		c := newPlainClient(p.url, i%2 == 0, wav(.01), "model=base")
		wg.Go(func() {
			for {
				select {
				case <-stop:
					if c.conn != nil {
						_ = c.conn.Close()
					}
					return
				default:
				}
				first := c.conn == nil
				status, err := c.send()
				switch {
				case err != nil:
					failed.Add(1)
					cause := err // without the addresses
					for next := errors.Unwrap(cause); next != nil; next = errors.Unwrap(cause) {
						cause = next
					}
					what := fmt.Sprintf("kept %v, first %v: %v", c.keep, first, cause)
					n, _ := errs.LoadOrStore(what, new(atomic.Int32))
					n.(*atomic.Int32).Add(1)
				case status != http.StatusOK:
					t.Errorf("status %d", status)
					return
				default:
					ok.Add(1)
				}
			}
		})
	}
	for i := range 20 {
		was := ok.Load()
		p.mustLoad(site(p.url, pool(i)))
		eventually(t, "more is served under the new configuration", func() bool { return ok.Load() > was+20 || t.Failed() })
	}
	close(stop)
	wg.Wait()
	errs.Range(func(what, n any) bool {
		t.Logf("%d times: %s", n.(*atomic.Int32).Load(), what)
		return true
	})
	if wrapped {
		eventually(t, "the sockets of old configurations are closed", func() bool {
			gates.mu.Lock()
			defer gates.mu.Unlock()
			sockets := 0
			for _, all := range gates.gates {
				sockets += len(all)
			}
			return sockets == 1
		})
		eventually(t, "no more goroutines than before", func() bool { return runtime.NumGoroutine() <= before+20 })
	}
	return ok.Load(), failed.Load()
}
