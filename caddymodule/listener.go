package caddymodule

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() { caddy.RegisterModule(ListenerWrapper{}) }

const (
	// lingerReloaded is how long a socket that a newer one has replaced is still listened on: connections whose
	// handshake had begun there come in within their round trip.
	lingerReloaded = 2 * time.Second
	// lingerLast is the same for a socket that nothing replaces, where only those that wait already count.
	lingerLast = 20 * time.Millisecond
	// socketsMax is how many sockets of an address are kept while one reload follows the other.
	socketsMax = 32
)

// ListenerWrapper has a reload lose no connection. When it reloads, Caddy opens a second socket at each address
// and closes the first, and the kernel resets what waits there to be accepted; so does closing an idle
// connection on which the next request is already under way. With this wrapper the new socket gets all new
// connections (on Linux), and the old server's connections that wait, or are between two requests, go over to the
// new server. Put it after `tls`: before it, nobody can say where a request ends within what is encrypted, and
// connections of HTTP/1.1 with TLS are closed as they are without it.
type ListenerWrapper struct {
	handshake time.Duration // how long one may take, 0: as long as it likes
}

// CaddyModule returns the Caddy module information.
func (ListenerWrapper) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.listeners.whisper_pool", New: func() caddy.Module { return new(ListenerWrapper) }}
}

// UnmarshalCaddyfile sets up the wrapper from Caddyfile tokens. Syntax:
//
//	whisper_pool
func (*ListenerWrapper) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // its name
	if d.NextArg() || d.NextBlock(0) {
		return d.Err("the listener wrapper whisper_pool has no options")
	}
	return nil
}

// Provision has the server tell when its connections are idle.
func (w *ListenerWrapper) Provision(ctx caddy.Context) error {
	gates.touch()
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		w.handshake = handshakeLimit(server)
		server.RegisterConnState(func(c net.Conn, state http.ConnState) {
			if c := keptOf(c); c != nil {
				c.changed(state)
			}
		})
	}
	return nil
}

// handshakeLimit is how long net/http gives a handshake.
func handshakeLimit(server *caddyhttp.Server) time.Duration {
	limit := caddy.Duration(0)
	for _, d := range []caddy.Duration{server.ReadHeaderTimeout, server.ReadTimeout, server.WriteTimeout} {
		if d > 0 && (limit == 0 || d < limit) {
			limit = d
		}
	}
	if limit == 0 { // Caddy fills in its own later
		return time.Minute
	}
	return time.Duration(limit)
}

// WrapListener takes a socket that was opened. What is no TCP socket, or has a wrapper of this kind already, stays
// as it is.
func (w *ListenerWrapper) WrapListener(inner net.Listener) net.Listener {
	socket := socketOf(inner)
	if socket == nil {
		return inner
	}
	g := &gate{Listener: inner, socket: socket, handshake: w.handshake, key: inner.Addr().String(), arrivals: make(chan arrival), ended: make(chan struct{})}
	gates.open(g)
	go g.run()
	return g
}

// socketOf finds the TCP socket below what Caddy and other wrappers have put around it, nil for none, and for one
// that has a gate. Caddy has no way to ask for it.
func socketOf(l net.Listener) *net.TCPListener {
	for range 10 {
		switch l := l.(type) {
		case *net.TCPListener:
			return l
		case *gate:
			return nil
		}
		v := reflect.Indirect(reflect.ValueOf(l))
		if v.Kind() != reflect.Struct {
			return nil
		}
		inner := v.FieldByName("Listener") // as an embedded net.Listener is called
		if !inner.IsValid() || !inner.CanInterface() {
			return nil
		}
		next, ok := inner.Interface().(net.Listener)
		if !ok {
			return nil
		}
		l = next
	}
	return nil
}

// gate is a socket of one Caddy configuration, and what its server accepts from.
type gate struct {
	net.Listener
	socket    *net.TCPListener
	handshake time.Duration
	key       string       // its address
	arrivals  chan arrival // of its own socket, and of those that it replaces
	ended     chan struct{}
	end       sync.Once
	closing   bool // guarded by gates.mu
}

type arrival struct {
	conn   net.Conn
	err    error
	replay []byte // what was read of it
}

// Accept returns the next connection.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case a := <-g.arrivals:
		return a.conn, a.err
	case <-g.ended:
		return nil, net.ErrClosed
	}
}

// Close lets the server go and has the socket closed when nothing comes in there any more. It returns at once:
// net/http calls it with a lock that accepting needs.
func (g *gate) Close() error {
	replaced, first := gates.close(g)
	if !first {
		return nil
	}
	linger := lingerLast
	if replaced {
		linger = lingerReloaded
		g.end.Do(func() { close(g.ended) })
	}
	return g.socket.SetDeadline(time.Now().Add(linger))
}

// run accepts until the socket is closed.
func (g *gate) run() {
	for {
		conn, err := g.Listener.Accept()
		if err != nil && gates.closed(g) && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed)) {
			if gates.unsettled(g) && g.socket.SetDeadline(time.Now().Add(lingerReloaded)) == nil {
				continue
			}
			break
		}
		if outOfFiles(err) {
			tellOutOfFiles(caddy.Log().Named("whisper_pool"), "accepting connections") // which wait
		}
		if secure, ok := conn.(*tls.Conn); ok {
			go g.greet(secure)
		} else {
			g.deliver(arrival{conn: conn, err: err}, gates.newest)
		}
		if passing := net.Error(nil); err != nil && !(errors.As(err, &passing) && passing.Temporary()) { //nolint:staticcheck // as net/http
			break // the server accepts no more
		}
	}
	gates.remove(g)
	g.end.Do(func() { close(g.ended) })
}

// greet shakes hands before the connection is any server's, for one that is shutting down would drop what comes in
// with it. If that fails, the server finds out by itself, and says why.
func (g *gate) greet(conn *tls.Conn) {
	if g.handshake > 0 {
		_ = conn.SetDeadline(time.Now().Add(g.handshake))
	}
	if err := conn.HandshakeContext(context.Background()); err == nil && g.handshake > 0 {
		_ = conn.SetDeadline(time.Time{})
	}
	g.deliver(arrival{conn: conn}, gates.newest)
}

// deliver gives a connection to the server that accepts at the address now, as choose finds it for the gate.
func (g *gate) deliver(a arrival, choose func(*gate) *gate) {
	for {
		to := choose(g)
		arrived := a
		if a.conn != nil {
			arrived.conn = keep(a.conn, to, a.replay)
		}
		select {
		case to.arrivals <- arrived:
			return
		case <-to.ended:
		}
		if choose(g) == to { // nobody accepts any more
			if a.conn != nil {
				_ = a.conn.Close()
			}
			return
		}
	}
}

// register has the gates of this process by address.
type register struct {
	mu      sync.Mutex
	gates   map[string][]*gate // in the kernel's order, those that close included
	touched time.Time          // when the last reload began, or opened a socket
}

var gates = register{gates: map[string][]*gate{}}

func (r *register) open(g *gate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gates[g.key] = append(r.gates[g.key], g)
	r.touched = time.Now()
	r.steer(g.key)
}

func (r *register) touch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touched = time.Now()
}

// unsettled tells whether another reload may just be opening its socket: if one were closed then, nobody could
// say which place in the kernel's order the new one has.
func (r *register) unsettled(g *gate) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.touched) < lingerReloaded && len(r.gates[g.key]) <= socketsMax && r.current(g.key) != nil
}

// close marks a gate; replaced tells whether another one is open at the address.
func (r *register) close(g *gate) (replaced, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.closing {
		return false, false
	}
	g.closing = true
	r.steer(g.key)
	return r.current(g.key) != nil, true
}

func (r *register) closed(g *gate) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return g.closing
}

// remove closes a gate's socket and forgets it. The kernel puts the last one in its place, and so do we.
func (r *register) remove(g *gate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = g.Listener.Close() // the connections are what matters
	all := r.gates[g.key]
	if i := slices.Index(all, g); i >= 0 {
		all[i] = all[len(all)-1]
		r.gates[g.key] = all[:len(all)-1]
	}
	if len(r.gates[g.key]) == 0 {
		delete(r.gates, g.key)
	}
	r.steer(g.key)
}

// current is the gate that was opened last of those that are open, nil for none. Requires mu.
func (r *register) current(key string) *gate {
	all := r.gates[key]
	for i := len(all) - 1; i >= 0; i-- {
		if !all[i].closing {
			return all[i]
		}
	}
	return nil
}

// newest is where what comes to g goes: g itself while it is open, and when there is no other.
func (r *register) newest(g *gate) *gate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !g.closing {
		return g
	}
	if other := r.current(g.key); other != nil {
		return other
	}
	return g
}

// successor is where what g's server closes goes: to the gate that was opened last, even while g is open, since net/http
// drops connections from the moment that it shuts down, which is before it closes its listeners. It is g itself when
// there is no other.
func (r *register) successor(g *gate) *gate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if other := r.current(g.key); other != nil {
		return other
	}
	return g
}

// steer has the kernel send new connections to the current gate, while there is another one. Requires mu.
func (r *register) steer(key string) {
	all := r.gates[key]
	switch current := r.current(key); {
	case current == nil:
	case len(all) > 1:
		steer(current.socket, slices.Index(all, current))
	default:
		unsteer(current.socket)
	}
}

var (
	_ caddy.ListenerWrapper = (*ListenerWrapper)(nil)
	_ caddy.Provisioner     = (*ListenerWrapper)(nil)
	_ caddyfile.Unmarshaler = (*ListenerWrapper)(nil)
)
