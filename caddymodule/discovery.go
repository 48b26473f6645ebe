package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

const (
	sourceNamespace = "http.reverse_proxy.upstreams"

	defaultRefresh = 10 * time.Second
	// lookupTimeout is how long a lookup may take.
	lookupTimeout = 10 * time.Second
	// foundMax is how many backends one source may name; more is a mistake, or somebody else's answer.
	foundMax = 10_000
)

// Discover is a source of backends that come and go, such as the SRV records of a name. Each address that it
// gives is a backend of its own, with the address as its name and the options here.
type Discover struct {
	// Where to ask: one of Caddy's dynamic upstream sources, `srv`, `a` or `multi`. Required.
	SourceRaw json.RawMessage `json:"source,omitempty" caddy:"namespace=http.reverse_proxy.upstreams inline_key=source"`

	// How often to ask. Default: 10s.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// The options of each backend, but for address and name.
	Backend Backend `json:"backend,omitzero"`
}

// discovery is a source as one generation has it.
type discovery struct {
	key      string // the same for sources that mean the same
	config   Discover
	source   reverseproxy.UpstreamSource
	template backend // of what it finds

	mu    sync.Mutex
	found map[string]*backend // by address
}

// newDiscovery loads a source and what its backends have in common.
func (g *generation) newDiscovery(ctx caddy.Context, repl *caddy.Replacer, config Discover) (*discovery, error) {
	key, err := canonical(config)
	if err != nil {
		return nil, err
	}
	if config.SourceRaw, err = refreshed(config.SourceRaw, config.Refresh/2); err != nil {
		return nil, err
	}
	module, err := ctx.LoadModule(&config, "SourceRaw")
	if err != nil {
		return nil, err
	}
	source, ok := module.(reverseproxy.UpstreamSource)
	if !ok {
		return nil, fmt.Errorf("%T finds no backends", module)
	}
	common := config.Backend
	common.Address = "discovered:1" // of no consequence: only the parts that are not the address's are used
	template, err := g.newBackend(ctx, repl, common)
	if err != nil {
		return nil, err
	}
	return &discovery{key: key, config: config, source: source, template: *template, found: map[string]*backend{}}, nil
}

// refreshed is a source that keeps no answer for longer than it is to be asked again, where it does not say itself.
func refreshed(raw json.RawMessage, refresh caddy.Duration) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	if inner, ok := fields["sources"]; ok { // multi has none of its own
		var sources []json.RawMessage
		if err := json.Unmarshal(inner, &sources); err != nil {
			return nil, err
		}
		for i := range sources {
			var err error
			if sources[i], err = refreshed(sources[i], refresh); err != nil {
				return nil, err
			}
		}
		var err error
		if fields["sources"], err = json.Marshal(sources); err != nil {
			return nil, err
		}
	} else if _, ok := fields["refresh"]; !ok {
		fields["refresh"] = json.RawMessage(strconv.FormatInt(int64(refresh), 10))
	}
	return json.Marshal(fields)
}

// lookup asks the source. Addresses are as a configuration would have them, each once.
func (d *discovery) lookup(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://discovery/", nil) // Caddy's sources take one
	if err != nil {
		return nil, err
	}
	upstreams, err := d.upstreams(req)
	if err != nil {
		return nil, err
	}
	if len(upstreams) > foundMax {
		return nil, fmt.Errorf("%d addresses; that many backends are none", len(upstreams))
	}
	var addresses []string
	for _, u := range upstreams {
		_, host, port, err := caddy.SplitNetworkAddress(u.Dial)
		if err != nil {
			return nil, err
		}
		address := net.JoinHostPort(strings.TrimSuffix(host, "."), port)
		if _, err := parseAddress(address); err != nil {
			return nil, fmt.Errorf("the address %s: %w", quoted(address), err)
		}
		addresses = append(addresses, address)
	}
	slices.Sort(addresses)
	return slices.Compact(addresses), nil
}

func (d *discovery) upstreams(req *http.Request) (all []*reverseproxy.Upstream, err error) {
	defer func() {
		if value := recover(); value != nil {
			d.template.generation.logger.Error("looking for backends ended in a panic; please report this", append(panicFields(value), zap.String("source", d.name()))...)
			err = errPanicked
		}
	}()
	return d.source.GetUpstreams(req)
}

// backend is what the source's generation has for an address; the same each time.
func (d *discovery) backend(address string) (*backend, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.found[address]; b != nil {
		return b, nil
	}
	b, err := d.template.at(address)
	if err != nil {
		return nil, err
	}
	d.found[address] = b
	return b, nil
}

// finder asks one source of a pool over its configurations, and keeps its last answer.
type finder struct {
	pool *Pool
	stop context.CancelFunc

	// Guarded by the pool's mu.
	discovery *discovery // as the newest configuration has it
	addresses []string
	asked     bool   // there was an answer
	failure   string // as last logged
}

// found are the backends of a generation with those that its sources gave last, but for what another pool has.
// Requires mu.
func (p *Pool) found(g *generation) []*backend {
	all := slices.Clone(g.backends)
	taken, wanted := map[string]bool{}, map[string]bool{}
	for _, b := range all {
		taken[b.key], taken[string(b.id)] = true, true
		wanted[b.key] = true
	}
	for _, d := range g.discoveries {
		f := p.finders[d.key]
		if f == nil {
			continue
		}
		for _, address := range f.addresses {
			b, err := d.backend(address)
			if err != nil || taken[b.key] || taken[string(b.id)] { // one that is configured, or found before
				continue
			}
			taken[b.key], taken[string(b.id)] = true, true
			wanted[b.key] = false
			all = append(all, b)
		}
	}
	return p.leaveOut(all, claimed.set(p, wanted))
}

// leaveOut takes those out of all backends that other pools have, and tells when that changes. Requires mu.
func (p *Pool) leaveOut(all []*backend, others map[string]string) []*backend {
	leftOut := map[string]string{}
	all = slices.DeleteFunc(all, func(b *backend) bool {
		other, has := others[b.key]
		_, before := p.leftOut[b.config.Address]
		switch {
		case has:
			leftOut[b.config.Address] = other
			if !before {
				p.log().Warn("a backend that was found is left out: another pool has it, and with two its slots would be counted twice",
					zap.String("backend", string(b.id)), zap.String("has it", other))
			}
		case before:
			p.log().Info("a backend that was left out is used: no other pool has it any more", zap.String("backend", string(b.id)))
		}
		return has
	})
	p.leftOut = leftOut
	return all
}

// find brings the finders into line with a generation. Requires mu.
func (p *Pool) find(g *generation) {
	wanted := map[string]bool{}
	for _, d := range g.discoveries {
		wanted[d.key] = true
		if f := p.finders[d.key]; f != nil {
			f.discovery = d
			continue
		}
		ctx, stop := context.WithCancel(p.life)
		f := &finder{pool: p, stop: stop, discovery: d}
		p.finders[d.key] = f
		p.workers.Go(func() { f.run(ctx) })
	}
	for key, f := range p.finders {
		if !wanted[key] {
			f.stop()
			delete(p.finders, key)
		}
	}
}

// run asks at once and then at every refresh.
func (f *finder) run(ctx context.Context) {
	for {
		f.ask(ctx)
		f.pool.mu.Lock()
		refresh := time.Duration(f.discovery.config.Refresh)
		f.pool.mu.Unlock()
		timer := time.NewTimer(jittered(refresh))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-f.pool.reclaim:
			timer.Stop()
			f.pool.reclaims()
		case <-timer.C:
		}
	}
}

// ask asks the source and has the pool follow. A source that fails, or has no answer, changes nothing.
func (f *finder) ask(ctx context.Context) {
	p := f.pool
	p.mu.Lock()
	d := f.discovery
	d.template.generation.hold() // the source is loaded as long
	p.mu.Unlock()
	defer d.template.generation.release()
	addresses, err := d.lookup(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil && len(addresses) == 0 {
		err = errors.New("it gives no address")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.discovery.key != d.key || p.finders[d.key] != f {
		return
	}
	if err != nil {
		if f.failure != err.Error() {
			p.log().Warn("looking for backends failed; those that were found before are kept", zap.String("source", d.name()),
				zap.Int("kept", len(f.addresses)), zap.Error(err))
		}
		f.failure = err.Error()
		p.recatalogue()
		return
	}
	if f.failure != "" {
		p.log().Info("looking for backends works again", zap.String("source", d.name()))
	}
	f.failure = ""
	if f.asked && slices.Equal(addresses, f.addresses) {
		p.recatalogue()
		return
	}
	p.log().Info("found backends", zap.String("source", d.name()), zap.Strings("addresses", addresses))
	f.addresses, f.asked = addresses, true
	p.refine()
	p.remember(p.current)
}

// name is the source for logs.
func (d *discovery) name() string {
	if s, ok := d.source.(fmt.Stringer); ok {
		return s.String()
	}
	return string(d.config.SourceRaw)
}

// sources are what the pool is told of backends, in the order of the configuration.
func (p *Pool) sources() []discoverStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []discoverStatus{}
	if p.current == nil {
		return all
	}
	for _, d := range p.current.discoveries {
		f := p.finders[d.key]
		if f == nil {
			continue
		}
		status := discoverStatus{Source: d.name(), Addresses: append([]string{}, f.addresses...), Failure: f.failure}
		for _, address := range f.addresses {
			if other, ok := p.leftOut[address]; ok {
				if status.LeftOut == nil {
					status.LeftOut = map[string]string{}
				}
				status.LeftOut[address] = other
			}
		}
		all = append(all, status)
	}
	return all
}
