package caddymodule

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/upstream"
)

// generation is a pool's configuration as one Caddy configuration has it, with its transports
// loaded. Attempts and probes that run hold it, so that its transports outlive a reload as long as
// somebody uses them; Caddy's own clean-up would end them under running transcriptions.
type generation struct {
	config      governing
	text        string          // canonical form of config
	models      map[string]bool // that the sites name as defaults or by aliases
	tenants     tenantLimit
	spools      map[string]bool
	backends    []*backend   // those that it names
	discoveries []*discovery // where it finds others
	logger      *zap.Logger
	storage     storage

	end  context.CancelFunc // ends the transports
	refs atomic.Int32
}

// backend is one backend as one generation has it.
type backend struct {
	generation *generation
	id         scheduler.BackendID
	config     Backend
	base       *url.URL
	kind       upstream.Kind // nil: to be found out
	headers    *headers.HeaderOps
	attempts   http.RoundTripper
	probes     http.RoundTripper
	// identity is the same as long as what a probe found out still holds.
	identity string
	key      string // of the address
}

// newGeneration loads the transports and expands the secrets of a handler's configuration. The
// caller has one reference.
func newGeneration(ctx caddy.Context, h *Handler, text string) (*generation, error) {
	// Modules loaded with a context of their own are not cleaned up with the Caddy configuration.
	parent := ctx
	parent.Context = context.WithoutCancel(ctx.Context)
	own, end := caddy.NewContext(parent)
	g := &generation{
		config: h.governs(), text: text, models: map[string]bool{}, spools: map[string]bool{}, logger: ctx.Logger(),
		storage: ctx.Storage(), end: end,
	}
	g.include(h)
	g.refs.Store(1)
	repl := caddy.NewReplacer()
	for _, config := range h.Backends {
		b, err := g.newBackend(own, repl, config)
		if err != nil {
			g.release()
			return nil, fmt.Errorf("backend %s: %w", config.Name, err)
		}
		g.backends = append(g.backends, b)
	}
	for _, config := range h.Discover {
		d, err := g.newDiscovery(own, repl, config)
		if err != nil {
			g.release()
			return nil, fmt.Errorf("discover: %w", err)
		}
		g.discoveries = append(g.discoveries, d)
	}
	return g, nil
}

// include takes in how a site reads requests, as far as it matters to the pool.
func (g *generation) include(h *Handler) {
	g.spools[h.Upload.Spool] = true
	g.tenants.include(h.Tenant)
	if h.DefaultModel != "" {
		g.models[h.DefaultModel] = true
	}
	for _, model := range h.Aliases {
		g.models[model] = true
	}
}

func (g *generation) newBackend(ctx caddy.Context, repl *caddy.Replacer, config Backend) (*backend, error) {
	addr, err := parseAddress(config.Address)
	if err != nil {
		return nil, err
	}
	b := &backend{generation: g, id: scheduler.BackendID(config.Name), config: config, base: addr.base}
	if config.Kind != "" {
		b.kind, _ = upstream.ByName(config.Kind) // validated
	}
	if b.headers, err = expandHeaders(config.HeaderUp, repl); err != nil {
		return nil, err
	}
	if err := b.headers.Provision(ctx); err != nil {
		return nil, fmt.Errorf("header_up: %w", err)
	}
	if b.attempts, b.probes, err = transports(ctx, config.TransportRaw, addr.base.Scheme == "https"); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	if secure, ok := b.attempts.(interface{ TLSEnabled() bool }); ok && secure.TLSEnabled() && addr.base.Scheme == "http" {
		if addr.schemeGiven {
			return nil, fmt.Errorf("the address says http, its transport says TLS")
		}
		addr.base.Scheme = "https"
	}
	return b, b.identify(addr)
}

// identify makes up what the backend is known by.
func (b *backend) identify(a address) (err error) {
	b.key = a.key()
	b.identity, err = canonical([]any{b.key, b.config.Kind, b.config.HealthURI})
	return err
}

// at is the same backend at another address, which is its name.
func (b *backend) at(text string) (*backend, error) {
	addr, err := parseAddress(text)
	if err != nil {
		return nil, err
	}
	addr.base.Scheme = b.base.Scheme // as its transport has it
	other := *b
	other.id, other.base = scheduler.BackendID(text), addr.base
	other.config.Address, other.config.Name = text, text
	return &other, other.identify(addr)
}

// hold takes a reference. Requires that somebody has one.
func (g *generation) hold() { g.refs.Add(1) }

// release gives a reference back; the last one ends the transports.
func (g *generation) release() {
	if g.refs.Add(-1) == 0 {
		g.end()
	}
}

// schedulerConfig is the generation as the scheduler is told it, with its backends and what is known of them.
func (g *generation) schedulerConfig(seed uint64, bytesMax int64, backends []*backend, known func(*backend) known) scheduler.Config {
	config := scheduler.Config{
		Policy: g.config.Policy,
		Queue: scheduler.Queue{
			MaxRequests: g.config.Queue.MaxRequests, MaxBytes: bytesMax, MaxWait: time.Duration(g.config.Queue.MaxWait),
			MaxPerTenant: g.tenants.value(), Order: scheduler.Order(g.config.Queue.Order),
		},
		Breaker: scheduler.Breaker{
			Failures: g.config.Breaker.Failures,
			OpenFor:  time.Duration(g.config.Breaker.OpenFor), MaxOpenFor: time.Duration(g.config.Breaker.MaxOpenFor),
			SlowFactor: g.config.Breaker.SlowFactor,
		},
		Attempts: g.config.Attempts, RetryBudget: g.config.RetryBudget, Hedge: g.config.Hedge, Trials: true,
		Seed: seed,
	}
	for _, b := range backends {
		k := known(b)
		config.Backends = append(config.Backends, scheduler.Backend{
			ID: b.id, Address: b.config.Address, Class: b.config.Class, Models: b.config.Models, Slots: b.config.Slots,
			Discover: k.kind != nil && discovers(k.kind), Priors: b.priors(k.models), Checked: true, Drained: k.drained,
		})
	}
	return config
}

// known is what a pool has found out of a backend that matters to the scheduler's configuration.
type known struct {
	kind   upstream.Kind
	models []string // reported
	// drained: an operator wants it left alone.
	drained bool
}

// discovers tells whether the scheduler is to find out how many jobs side by side are useful on a kind of
// server that does not tell. whisper.cpp's works on one and lets the others wait, unseen.
func discovers(kind upstream.Kind) bool { return kind.Name() != "whisper_server" }

// priors are the speeds to expect of the backend's class with the models that it serves, or that it may
// be asked for where it does not tell.
func (b *backend) priors(reported []string) map[string]scheduler.Law {
	models := b.config.Models
	if models == nil {
		models = reported
	}
	if models == nil {
		models = slices.Collect(maps.Keys(b.generation.models))
	}
	var priors map[string]scheduler.Law
	for _, model := range models {
		if fixed, perSecond, ok := gpu.Prior(b.config.Class, model); ok {
			if priors == nil {
				priors = map[string]scheduler.Law{}
			}
			priors[model] = scheduler.Law{Fixed: fixed, PerSecond: perSecond}
		}
	}
	return priors
}
