package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// listener is a listener that can be shut and opened again on the same port while a server serves it,
// and whose connections can be reset.
type listener struct {
	address  string
	accepted chan net.Conn
	done     chan struct{} // closed for good
	once     sync.Once

	mu    sync.Mutex
	inner net.Listener // nil while it is shut
	conns map[net.Conn]bool
}

func newListener(address string) *listener {
	return &listener{address: address, accepted: make(chan net.Conn), done: make(chan struct{}), conns: map[net.Conn]bool{}}
}

// open listens; the port may be in the hands of a connection that is closing, for a moment.
func (l *listener) open(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inner != nil {
		return errors.New("it is open")
	}
	var config net.ListenConfig
	for {
		inner, err := config.Listen(ctx, "tcp", l.address)
		if err == nil {
			l.inner = inner
			go l.accept(inner)
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (l *listener) accept(inner net.Listener) {
	for {
		conn, err := inner.Accept()
		if err != nil {
			return
		}
		t := &tracked{Conn: conn, of: l}
		l.mu.Lock()
		shut := l.inner != inner
		if !shut {
			l.conns[t] = true
		}
		l.mu.Unlock()
		if shut {
			conn.Close()
			return
		}
		select {
		case l.accepted <- t:
		case <-l.done:
			conn.Close()
			return
		}
	}
}

// shut refuses connections from now on and ends those that there are, by a reset or not.
func (l *listener) shut(byReset bool) {
	l.mu.Lock()
	inner := l.inner
	l.inner = nil
	all := l.conns
	l.conns = map[net.Conn]bool{}
	l.mu.Unlock()
	if inner != nil {
		inner.Close()
	}
	for conn := range all {
		if byReset {
			reset(conn)
		}
		conn.Close()
	}
}

// resetIdle resets the connections on which something has come in, and nothing for a while; one that is new belongs to
// a request that was just sent.
func (l *listener) resetIdle() {
	l.mu.Lock()
	var idle []net.Conn
	for conn := range l.conns {
		t, ok := conn.(*tracked)
		if !ok {
			continue
		}
		if used := t.used.Load(); used != 0 && time.Since(time.Unix(0, used)) > 20*time.Millisecond {
			idle = append(idle, conn)
			delete(l.conns, conn)
		}
	}
	l.mu.Unlock()
	for _, conn := range idle {
		reset(conn)
		conn.Close()
	}
}

// Accept waits for a connection over all lives of the listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accepted:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends it for good.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	l.shut(true)
	return nil
}

// Addr is where it listens.
func (l *listener) Addr() net.Addr {
	addr, err := net.ResolveTCPAddr("tcp", l.address)
	if err != nil {
		return &net.TCPAddr{}
	}
	return addr
}

// tracked is a connection that its listener can end.
type tracked struct {
	net.Conn
	of   *listener
	used atomic.Int64 // when something was read or written, in Unix nanoseconds
}

// Read reads, and notes that the connection is in use.
func (t *tracked) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.used.Store(time.Now().UnixNano())
	return n, err
}

// Write writes, and notes that the connection is in use.
func (t *tracked) Write(p []byte) (int, error) {
	t.used.Store(time.Now().UnixNano())
	return t.Conn.Write(p)
}

// Close closes it.
func (t *tracked) Close() error {
	t.of.mu.Lock()
	delete(t.of.conns, t)
	t.of.mu.Unlock()
	return t.Conn.Close()
}
