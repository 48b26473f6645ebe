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
	keep    bool        // the connection, for as long as the server does
	secure  *tls.Config // nil: without TLS
	conn    net.Conn
	reader  *bufio.Reader
	header  http.Header // of the last answer
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
		if c.secure != nil {
			c.conn, err = tls.Dial("tcp", c.address, c.secure)
		} else {
			c.conn, err = net.Dial("tcp", c.address)
		}
		if err != nil {
			c.conn = nil
			return 0, err
		}
		c.adopt(c.conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		c.leave()
		return 0, err
	}
	return c.receive()
}

func (c *plainClient) adopt(conn net.Conn) { c.conn, c.reader = conn, bufio.NewReader(conn) }

func (c *plainClient) leave() {
	_ = c.conn.Close()
	c.conn = nil
}

func (c *plainClient) receive() (status int, err error) {
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		c.leave()
		return 0, err
	}
	defer resp.Body.Close()
	c.header = resp.Header
	if _, err = io.Copy(io.Discard, resp.Body); err != nil || resp.Close || !c.keep {
		c.leave()
	}
	return resp.StatusCode, err
}

const ownListener = "\tservers {\n\t\tlistener_wrappers {\n\t\t\twhisper_pool\n\t\t}\n\t}\n"

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

// TestReloadsResetNothingWithTLS: HTTP/1.1 by clients that do not send again, and HTTP/2, which tells before it closes,
// over twenty reloads. As the first wrapper it would see what is encrypted only; what that loses is told beside it.
func TestReloadsResetNothingWithTLS(t *testing.T) {
	for name, wrappers := range map[string]string{
		"after tls":  ownListener,
		"before tls": "\tservers {\n\t\tlistener_wrappers {\n\t\t\twhisper_pool\n\t\t\ttls\n\t\t}\n\t}\n",
	} {
		t.Run(name, func(t *testing.T) {
			served, lost := reloadUnderSecureClients(t, wrappers)
			t.Logf("%d served with HTTP/1.1, %d lost; %d with HTTP/2", served[1], lost, served[2])
			if wrappers == ownListener && lost > 0 {
				t.Errorf("%d of %d requests were lost", lost, lost+served[1])
			}
		})
	}
}

func reloadUnderSecureClients(t *testing.T, wrappers string) (served [3]int32, lost int32) {
	backend := newWhisper(t, func(s *whisper) { s.slots = 8 })
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	// Without HTTP/3, of which Caddy notes the server while its other one takes requests already: a race of its own.
	wrappers = strings.Replace(wrappers, "servers {\n", "servers {\n\t\tprotocols h1 h2\n", 1)
	p := &proxy{t: t, url: "https://localhost:" + port, logs: t.TempDir() + "/caddy.log",
		more: wrappers + "\tskip_install_trust\n\tauto_https disable_redirects\n"}
	stopAfter(t)
	text := func(i int) string {
		return fmt.Sprintf("%s {\n\ttls internal\n\twhisper_pool {\n\t\tbackend %s {\n\t\t\tslots %d\n\t\t}\n\t}\n}\n", p.url, backend.address(), 1+i%8)
	}
	p.mustLoad(text(0))
	p.ready(1)
	anyone := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}
	eventually(t, "it has its certificate", func() bool {
		conn, err := tls.Dial("tcp", "localhost:"+port, anyone)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	var wg sync.WaitGroup
	var ok [3]atomic.Int32 // by HTTP's version
	var failed atomic.Int32
	stop := make(chan struct{})
	again := func(send func() bool) { // until it is to stop
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !send() {
					return
				}
			}
		})
	}
	for i := range 8 {
		c := newPlainClient("http://localhost:"+port, i%2 == 0, wav(.01), "model=base")
		c.secure = anyone
		again(func() bool {
			first := c.conn == nil
			status, err := c.send()
			switch {
			case err != nil:
				failed.Add(1)
				t.Logf("kept %v, first %v: %v", c.keep, first, err)
			case status != http.StatusOK:
				t.Errorf("HTTP/1.1: status %d", status)
				return false
			default:
				ok[1].Add(1)
			}
			return true
		})
	}
	body, contentType := form(wav(.01), "model=base")
	for range 3 {
		transport := &http.Transport{TLSClientConfig: anyone.Clone(), ForceAttemptHTTP2: true}
		c := &http.Client{Transport: transport, Timeout: patience}
		defer transport.CloseIdleConnections()
		again(func() bool {
			// That HTTP/2 has not taken a request any more, it says, and the client sends it again.
			resp, err := c.Post(p.url+transcriptions, contentType, bytes.NewReader(body))
			if err != nil {
				t.Errorf("HTTP/2: %v", err)
				return false
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
				t.Errorf("HTTP/2: status %d with %s", resp.StatusCode, resp.Proto)
				return false
			}
			ok[2].Add(1)
			return true
		})
	}
	for i := range 20 {
		was := [3]int32{0, ok[1].Load(), ok[2].Load()}
		p.mustLoad(text(i + 1))
		eventually(t, "more is served under the new configuration", func() bool {
			return ok[1].Load() > was[1]+10 && ok[2].Load() > was[2]+3 || t.Failed()
		})
	}
	close(stop)
	wg.Wait()
	return [3]int32{0, ok[1].Load(), ok[2].Load()}, failed.Load()
}

// TestListenerKnowsTLS: what Caddy asks a connection that is encrypted it is told although ours is around it, and who
// speaks HTTP without TLS there is told so.
func TestListenerKnowsTLS(t *testing.T) {
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	p := &proxy{t: t, url: "https://localhost:" + port, logs: t.TempDir() + "/caddy.log",
		more: ownListener + "\tskip_install_trust\n\tauto_https disable_redirects\n"}
	stopAfter(t)
	p.mustLoad(p.url + " {\n\ttls internal\n\trespond \"{http.request.proto} {http.request.tls.version} {http.request.tls.server_name}\"\n}\n")
	anyone := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: anyone.Clone(), ForceAttemptHTTP2: h2}
		c := &http.Client{Transport: transport, Timeout: patience}
		want := map[bool]string{false: "HTTP/1.1 tls1.3 localhost", true: "HTTP/2.0 tls1.3 localhost"}[h2]
		eventually(t, want, func() bool {
			resp, err := c.Get(p.url)
			if err != nil {
				return false // no certificate yet
			}
			defer resp.Body.Close()
			got, _ := io.ReadAll(resp.Body)
			if string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
			return true
		})
		transport.CloseIdleConnections()
	}
	resp, err := http.Get("http://localhost:" + port)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: %s", resp.Status)
	}
}
