package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
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
	config       governing
	text         string // canonical form of config
	defaultModel string // of the first site that has one; only for the prior of speeds
	tenants      tenantLimit
	spools       map[string]bool
	backends     []*backend
	logger       *zap.Logger

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
}

// newGeneration loads the transports and expands the secrets of a handler's configuration. The
// caller has one reference.
func newGeneration(ctx caddy.Context, h *Handler, text string) (*generation, error) {
	// Modules loaded with a context of their own are not cleaned up with the Caddy configuration.
	parent := ctx
	parent.Context = context.WithoutCancel(ctx.Context)
	own, end := caddy.NewContext(parent)
	g := &generation{
		config: h.governs(), text: text, defaultModel: h.DefaultModel,
		spools: map[string]bool{h.Upload.Spool: true}, logger: ctx.Logger(), end: end,
	}
	g.tenants.include(h.Tenant)
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
	return g, nil
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
	b.identity, err = canonical([]any{addr.key(), config.Kind, config.HealthURI})
	return b, err
}

// hold takes a reference. Requires that somebody has one.
func (g *generation) hold() { g.refs.Add(1) }

// release gives a reference back; the last one ends the transports.
func (g *generation) release() {
	if g.refs.Add(-1) == 0 {
		g.end()
	}
}

// schedulerConfig is the generation as the scheduler is told it.
func (g *generation) schedulerConfig(seed uint64, bytesMax int64) scheduler.Config {
	config := scheduler.Config{
		Policy: g.config.Policy,
		Queue: scheduler.Queue{
			MaxRequests: g.config.Queue.MaxRequests, MaxBytes: bytesMax, MaxWait: time.Duration(g.config.Queue.MaxWait),
			MaxPerTenant: g.tenants.value(), Order: scheduler.Order(g.config.Queue.Order),
		},
		Breaker: scheduler.Breaker{
			Failures: g.config.Breaker.Failures,
			OpenFor:  time.Duration(g.config.Breaker.OpenFor), MaxOpenFor: time.Duration(g.config.Breaker.MaxOpenFor),
		},
		Attempts: g.config.Attempts,
		Seed:     seed,
	}
	for _, b := range g.backends {
		config.Backends = append(config.Backends, scheduler.Backend{
			ID: b.id, Address: b.config.Address, Class: b.config.Class, Models: b.config.Models,
			Slots: b.config.Slots, Discover: b.kind == nil || discovers(b.kind), Prior: b.prior(), Checked: true,
		})
	}
	return config
}

// prior is the speed to expect of the backend's class. A backend has one prior for all its models,
// so it is that of the model it most likely gets.
func (b *backend) prior() scheduler.Law {
	model := b.generation.defaultModel
	if len(b.config.Models) > 0 {
		model = b.config.Models[0]
	}
	fixed, perSecond, ok := gpu.Prior(b.config.Class, model)
	if !ok {
		return scheduler.Law{}
	}
	return scheduler.Law{Fixed: fixed, PerSecond: perSecond}
}
