package caddymodule

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"
)

// keptConn is a connection of a client that goes over to the new server when the old one closes it between two
// requests, for the client may have sent the next one. net/http drops two kinds of requests when it shuts down:
// those on connections that it takes for idle, and those whose header it has just read; the latter go over with
// what was read of them.
type keptConn struct {
	net.Conn
	gate   *gate
	replay []byte // what a server before this has read of the first request

	mu      sync.Mutex
	header  bool   // a request's header is read, or waited for
	active  bool   // it was read, and what is read or written next is for its handler
	request []byte // what was read of the request, until its handler begins
	ahead   []byte // what was read of the next one while the handler was at work
	begun   bool   // something was read
	pinned  bool   // it is not to go over: it is no HTTP/1, or its server has given it away
	reading bool   // a Read is in the kernel
	moving  bool   // it goes over when that Read has come back with nothing
	gone    bool   // closed, or gone over
	told    bool   // the server tells of its states
	asked   bool   // to be closed, once the server says whether it was idle
}

// requestKept is the most that is kept of a request before its handler begins. Caddy reads 16 KiB of header and
// a buffer more.
const requestKept = 64 << 10

// past ends reads at once.
var past = time.Unix(1, 0)

// secureConn is a keptConn with TLS.
type secureConn struct{ *keptConn }

// ConnectionState tells Caddy that there is TLS, and which.
func (c secureConn) ConnectionState() tls.ConnectionState {
	return c.Conn.(*tls.Conn).ConnectionState()
}

// keep makes a keptConn of a connection. HTTP/2 with TLS is left as it is: its server says which requests it has not
// taken, and tells what it is from the type.
func keep(conn net.Conn, g *gate, replay []byte) net.Conn {
	kept := &keptConn{Conn: conn, gate: g, replay: replay, header: true}
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return kept
	}
	state := secure.ConnectionState()
	if !state.HandshakeComplete || state.NegotiatedProtocol != "" && state.NegotiatedProtocol != "http/1.1" {
		return conn
	}
	return secureConn{kept}
}

// keptOf finds the keptConn below what Caddy has put around it, nil for none.
func keptOf(conn net.Conn) *keptConn {
	for range 5 {
		switch c := conn.(type) {
		case *keptConn:
			return c
		case secureConn:
			return c.keptConn
		case *net.TCPConn, *tls.Conn:
			return nil
		}
		v := reflect.Indirect(reflect.ValueOf(conn))
		if v.Kind() != reflect.Struct {
			return nil
		}
		inner := v.FieldByName("Conn") // as an embedded net.Conn is called
		if !inner.IsValid() || !inner.CanInterface() {
			return nil
		}
		next, ok := inner.Interface().(net.Conn)
		if !ok {
			return nil
		}
		conn = next
	}
	return nil
}

// changed is told by the server.
func (c *keptConn) changed(state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = true
	switch state {
	case http.StateIdle: // the server's next call is Close, if it is shutting down
		c.header, c.active, c.request, c.ahead = true, false, c.ahead, nil
	case http.StateActive:
		c.active = true
	case http.StateHijacked:
		c.pinned, c.request = true, nil
	case http.StateClosed:
		switch {
		case !c.asked || c.gone || c.moving:
		case c.header: // nobody has answered what was read
			c.move()
		default:
			_ = c.shut()
		}
	}
}

// handled notes that a handler has begun. Requires mu.
func (c *keptConn) handled() {
	if c.active {
		c.header, c.request = false, nil
	}
}

// note takes in what was read; asked is for how many bytes. net/http asks for one alone, while a handler is at work,
// to see whether the client has left. What it gets then belongs to the next request. Requires mu.
func (c *keptConn) note(p []byte, asked int) {
	if !c.header && asked == 1 {
		c.ahead = append(c.ahead, p...)
	}
	c.pinned = c.pinned || !c.begun && bytes.HasPrefix(p, []byte("PRI")) // HTTP/2's first word
	c.begun = true
	if !c.header || c.pinned || !c.told {
		return
	}
	if len(c.request)+len(p) > requestKept {
		c.pinned, c.request = true, nil
		return
	}
	c.request = append(c.request, p...)
}

// Read reads for the server.
func (c *keptConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	c.handled()
	if c.gone {
		c.mu.Unlock()
		return 0, io.EOF
	}
	if len(c.replay) > 0 {
		defer c.mu.Unlock()
		n := copy(p, c.replay)
		c.note(c.replay[:n], len(p))
		c.replay = c.replay[n:]
		return n, nil
	}
	c.reading = true
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if n > 0 {
		c.note(p[:n], len(p))
	}
	if !c.moving {
		return n, err
	}
	c.moving = false
	switch {
	case n > 0:
		c.asked = true // the server reads on, and closes it when it has the header
		_ = c.Conn.SetReadDeadline(time.Time{})
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.move()
		return 0, io.EOF
	}
	_ = c.shut()
	return n, err
}

// Write writes for the server.
func (c *keptConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.handled()
	gone := c.gone
	c.mu.Unlock()
	if gone {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// Close closes the connection, unless it goes over. It does not wait: net/http calls it with a lock. It does so
// from two sides: where the server's shutting down finds a connection idle before we are told that it is, or in the
// middle of a header, the connection's own goroutine closes it next; and where that one calls first, StateClosed
// follows.
func (c *keptConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	between := c.header && len(c.request) == 0 && len(c.replay) == 0 // two requests
	unhandled := c.header && c.active                                // it was read for nothing
	switch {
	case c.gone || c.moving:
	case c.pinned || c.begun && !c.told || gates.successor(c.gate) == c.gate: // below TLS nobody tells
		return c.shut()
	case between && c.reading:
		c.moving = true
		return c.Conn.SetReadDeadline(past)
	case between || unhandled:
		c.move()
	case c.told && !c.asked:
		c.asked = true
	default:
		return c.shut()
	}
	return nil
}

// shut closes it for good. Requires mu.
func (c *keptConn) shut() error {
	c.gone, c.request, c.ahead, c.replay = true, nil, nil, nil
	return c.Conn.Close()
}

// move gives the connection to the server that accepts at the address now. Requires mu.
func (c *keptConn) move() {
	c.gone = true
	if err := c.Conn.SetDeadline(time.Time{}); err != nil {
		_ = c.Conn.Close()
		return
	}
	replay := slices.Concat(c.request, c.replay)
	c.request, c.replay = nil, nil
	go c.gate.deliver(arrival{conn: c.Conn, replay: replay}, gates.successor)
}

// CloseWrite is for a server that has refused a request and lets the client read why.
func (c *keptConn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return nil // the server waits a while before it closes
}

// ReadFrom has files sent by the kernel.
func (c *keptConn) ReadFrom(r io.Reader) (int64, error) {
	c.mu.Lock()
	c.handled()
	c.mu.Unlock()
	if conn, ok := c.Conn.(io.ReaderFrom); ok {
		return conn.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// The deadlines of a server that has let the connection go are not the next one's.

// SetDeadline sets both deadlines.
func (c *keptConn) SetDeadline(t time.Time) error { return c.limit(c.Conn.SetDeadline, t) }

// SetReadDeadline sets the deadline of reads.
func (c *keptConn) SetReadDeadline(t time.Time) error { return c.limit(c.Conn.SetReadDeadline, t) }

// SetWriteDeadline sets the deadline of writes.
func (c *keptConn) SetWriteDeadline(t time.Time) error { return c.limit(c.Conn.SetWriteDeadline, t) }

func (c *keptConn) limit(set func(time.Time) error, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.moving {
		return nil
	}
	return set(t)
}
