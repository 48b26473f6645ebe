// Package caddymodule puts the pool into Caddy: the app whisper_pool, which applies the
// configurations of pools, and the handler http.handlers.whisper_pool, which takes uploads in, has
// them placed by the dispatcher, runs the attempts on Caddy's transports, and answers. It also has
// the prober of the backends, the Caddyfile syntax and the metrics.
//
// It is thin: what decides is in scheduler and policies, what differs between kinds of server in
// upstream, what an upload is in audio, and what an answer is in transcript.
package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

func init() {
	caddy.RegisterModule(App{})
	caddy.RegisterModule(Handler{})
}

// App applies the configurations of the pools. It has none of its own: each handler carries that of
// its pool and stages it here when it is provisioned, and the app starts and stops them with the
// Caddy configuration they belong to. It is loaded by the handlers and need not be configured.
type App struct {
	staged []*staged // Caddy provisions, starts and stops one thing at a time
}

// staged is one pool of this Caddy configuration.
type staged struct {
	pool       *Pool
	generation *generation
	addresses  map[string]string // by key, as written
	started    bool
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "whisper_pool", New: func() caddy.Module { return new(App) }}
}

// Provision makes the metrics known to this configuration's registry, and has a second signal noticed.
func (a *App) Provision(ctx caddy.Context) error {
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	if err := events.(*caddyevents.App).On("stopping", stopping{}); err != nil {
		return err
	}
	if err := events.(*caddyevents.App).On("started", allStarted{a}); err != nil {
		return err
	}
	return registerMetrics(ctx.GetMetricsRegistry())
}

// stage takes in the configuration that a handler carries. Handlers that name the same pool must
// agree on what governs its backends, and no backend may be in two pools, since each would count
// its slots alone.
func (a *App) stage(ctx caddy.Context, h *Handler, pool *Pool) error {
	watchShutdown(ctx, pool)
	text, err := canonical(h.governs())
	if err != nil {
		return err
	}
	addresses := map[string]string{}
	for _, b := range h.Backends {
		addr, err := parseAddress(b.Address)
		if err != nil {
			return err
		}
		addresses[addr.key()] = b.Address
	}
	for _, s := range a.staged {
		if s.pool.name != pool.name {
			for _, key := range slices.Sorted(maps.Keys(addresses)) {
				if other, ok := s.addresses[key]; ok {
					return fmt.Errorf("backend %s is also in pool %s (as %s); one pool must have it alone, or its slots are counted twice",
						addresses[key], s.pool.name, other)
				}
			}
			continue
		}
		if s.generation.text != text {
			return errors.New("another site has a pool of this name with other backends, discover, policy, queue, breaker, attempts, retry_budget, hedge or record; " +
				"these must be equal (write them once in a snippet and import it), or give one of the pools another name")
		}
		s.generation.include(h)
		return nil
	}
	g, err := newGeneration(ctx, h, text)
	if err != nil {
		return err
	}
	a.staged = append(a.staged, &staged{pool: pool, generation: g, addresses: addresses})
	return nil
}

// Start has the pools take in what was staged; those that have a configuration already go on with it until all apps
// have started. When one pool fails, those before it are put back.
func (a *App) Start() error {
	for _, s := range a.staged {
		if err := s.start(); err != nil {
			for _, other := range a.staged {
				other.stop()
			}
			return fmt.Errorf("pool %s: %w", s.pool.name, err)
		}
	}
	return nil
}

// allStarted is told when all apps have.
type allStarted struct{ app *App }

// Handle applies this configuration, which cannot fail any more.
func (s allStarted) Handle(context.Context, caddy.Event) error {
	for _, one := range s.app.staged {
		one.pool.commit()
	}
	return nil
}

// Stop takes this configuration's part away; a pool that an older or a newer configuration also has
// goes on with that one's.
func (a *App) Stop() error {
	for _, s := range a.staged {
		s.stop()
	}
	return nil
}

// Cleanup lets go of the transports. Requests that run may still hold them.
func (a *App) Cleanup() error {
	for _, s := range a.staged {
		s.stop()
		s.generation.release()
	}
	a.staged = nil
	return nil
}

func (s *staged) start() error {
	for _, dir := range slices.Sorted(maps.Keys(s.generation.spools)) {
		if err := checkSpoolFolder(dir); err != nil {
			return err
		}
	}
	if r := s.generation.config.Record; r != nil {
		if err := checkRecordFolder(r.Folder); err != nil {
			return err
		}
	}
	if err := s.pool.start(s.generation); err != nil {
		return err
	}
	s.started = true
	return nil
}

func (s *staged) stop() {
	if s.started {
		s.started = false
		s.pool.stop(s.generation)
	}
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)

	_ caddyevents.Handler = allStarted{}
)
