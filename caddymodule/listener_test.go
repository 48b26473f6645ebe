package caddymodule

import (
	"bufio"
	"bytes"
	"crypto/tls"
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

// TestReloadsResetNothingWithTLS: with HTTP/2, which tells before it closes. With HTTP/1.1 it is not promised: what
// net/http has read of a request that it drops is not to be had again.
func TestReloadsResetNothingWithTLS(t *testing.T) {
	backend := newWhisper(t, func(s *whisper) { s.slots = 8 })
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	p := &proxy{t: t, url: "https://localhost:" + port, logs: t.TempDir() + "/caddy.log",
		more: ownListener + "\tskip_install_trust\n\tauto_https disable_redirects\n"}
	stopAfter(t)
	text := func(i int) string {
		return fmt.Sprintf("%s {\n\ttls internal\n\twhisper_pool {\n\t\tbackend %s {\n\t\t\tslots %d\n\t\t}\n\t}\n}\n", p.url, backend.address(), 1+i%8)
	}
	p.mustLoad(text(0))
	p.ready(1)
	eventually(t, "it has its certificate", func() bool {
		conn, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	body, contentType := form(wav(.01), "model=base")
	var wg sync.WaitGroup
	var served [3]atomic.Int32 // by HTTP's version
	var dropped atomic.Int32   // with HTTP/1.1
	stop := make(chan struct{})
	for i := range 6 {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: i%2 == 0, DisableKeepAlives: i%2 == 1}
		c := &http.Client{Transport: transport, Timeout: patience}
		wg.Go(func() {
			defer transport.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				// That HTTP/2 has not taken a request any more, it says, and the client sends it again.
				req, err := http.NewRequest(http.MethodPost, p.url+transcriptions, bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Content-Type", contentType)
				resp, err := c.Do(req)
				if err != nil && !transport.ForceAttemptHTTP2 {
					dropped.Add(1)
					continue
				}
				if err != nil {
					t.Errorf("HTTP/2: %v", err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("status %d", resp.StatusCode)
					return
				}
				served[resp.ProtoMajor].Add(1)
			}
		})
	}
	for i := range 5 {
		was := [3]int32{0, served[1].Load(), served[2].Load()}
		p.mustLoad(text(i + 1))
		eventually(t, "more is served under the new configuration", func() bool {
			return served[1].Load() > was[1]+3 && served[2].Load() > was[2]+3 || t.Failed()
		})
	}
	close(stop)
	wg.Wait()
	t.Logf("served %d with HTTP/1.1, which lost %d, and %d with HTTP/2", served[1].Load(), dropped.Load(), served[2].Load())
}
