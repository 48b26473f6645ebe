package caddymodule

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/upstream"
)

const (
	// probeInterval is the mean time between two probes of a backend, which are spread by probeJitter
	// so that many backends are not asked in step.
	probeInterval = 5 * time.Second
	probeJitter   = 0.2
	// probeTimeout is how long a backend may take to say how it is.
	probeTimeout = 5 * time.Second
	// firstProbeWait is how long a request that came before anything is known waits for the first
	// probes to end.
	firstProbeWait = probeTimeout + time.Second
)

// member is a backend's place in the pool, which stays over configurations: its prober and what that
// found out.
type member struct {
	pool *Pool
	id   scheduler.BackendID

	running atomic.Int32  // attempts
	wake    chan struct{} // holds one: probe now
	stop    context.CancelFunc

	// Guarded by the pool's mu.
	target *backend         // as the newest configuration has it
	kind   upstream.Kind    // configured or found out; nil: not known yet
	report *upstream.Report // the last one of a backend that was ready; nil: none yet
	probed bool             // the first probe has ended
	state  string           // as last logged
}

// newMember starts the prober of a backend that is new in the pool. Requires the pool's mu.
func (p *Pool) newMember(b *backend) *member {
	ctx, stop := context.WithCancel(p.life)
	m := &member{pool: p, id: b.id, wake: make(chan struct{}, 1), stop: stop, target: b, kind: b.kind}
	p.workers.Go(func() { m.run(ctx) })
	return m
}

// retarget gives the member the backend as a newer configuration has it. What was found out holds
// unless it is another server. Requires the pool's mu.
func (m *member) retarget(b *backend) {
	same := m.target.identity == b.identity
	m.target = b
	if !same {
		m.kind, m.report, m.probed = b.kind, nil, false
		m.pool.dispatcher.Probed(m.id, false, false)
		m.probeSoon()
	}
}

func (m *member) probeSoon() {
	select {
	case m.wake <- struct{}{}:
	default: // one is due already
	}
}

// probeSoon has a backend probed now. The dispatcher calls it. One that is new in a configuration
// that is being applied is not found here, and probed because it is new.
func (p *Pool) probeSoon(id scheduler.BackendID) {
	if m := p.member(id); m != nil {
		m.probeSoon()
	}
}

// run probes at once, at every interval, and when it is asked to.
func (m *member) run(ctx context.Context) {
	for {
		m.probe(ctx)
		pause := time.NewTimer(jittered(probeInterval))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-m.wake:
			pause.Stop()
		case <-pause.C:
		}
	}
}

// jittered is a time somewhat shorter or longer.
func jittered(d time.Duration) time.Duration {
	return time.Duration((1 + probeJitter*(2*rand.Float64()-1)) * float64(d))
}

// probe asks the backend how it is and tells the dispatcher.
func (m *member) probe(ctx context.Context) {
	b, kind := m.pool.hold(m)
	defer b.generation.release()

	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	found := b.probe(limited, kind)
	if ctx.Err() != nil {
		return // the pool or the backend's place in it has ended
	}
	if outOfFiles(found.err) {
		tellOutOfFiles(m.pool.log(), "checking a backend's health")
		return // which says nothing of it
	}
	var slow net.Error
	if m.running.Load() > 0 && errors.As(found.err, &slow) && slow.Timeout() {
		// Some servers answer nothing while they work (whisper-server with its threads busy): that
		// says nothing. What it works on has its own limit of time.
		return
	}
	m.learn(b, found)
}

var errPanicked = errors.New("a bug of the proxy, whose log has more")

// finding is what a probe found.
type finding struct {
	kind   upstream.Kind // nil: not found out
	report upstream.Report
	err    error
}

// probe finds out the kind when it is not known, and asks.
func (b *backend) probe(ctx context.Context, kind upstream.Kind) (found finding) {
	defer func() {
		if value := recover(); value != nil {
			b.generation.logger.Error("looking at a backend ended in a panic; please report this", append(panicFields(value), zap.String("backend", string(b.id)))...)
			found = finding{err: errPanicked}
		}
	}()
	p := prober{b}
	if kind == nil {
		var err error
		if kind, err = upstream.Identify(ctx, b.base, p); err != nil {
			return finding{err: err}
		}
	}
	report, err := kind.Probe(ctx, b.base, p)
	return finding{kind, report, err}
}

// state is the finding in a word, and why where it is not up.
func (f finding) state() (state, detail string) {
	var unknown *upstream.UnknownKindError
	switch {
	case errors.As(f.err, &unknown):
		return "down", unknown.Error()
	case f.err != nil:
		return "down", connectionFault(f.err)
	case f.report.Loading:
		return "loading", f.report.Detail
	case f.report.Ready:
		return "up", ""
	}
	return "down", f.report.Detail
}

// learn takes in what a probe of b found, unless b is not where the member is any more.
func (m *member) learn(b *backend, found finding) {
	p := m.pool
	p.mu.Lock()
	if m.target.identity != b.identity {
		p.mu.Unlock()
		return
	}
	state, _ := found.state()
	before := p.known(b)
	switch {
	case state == "up":
		m.kind, m.report = found.kind, &found.report
	case b.kind == nil:
		m.kind = nil // another server may come up there; ask again
	}
	m.probed = true
	p.recatalogue()
	if now := p.known(b); state == "up" && (now.kind != before.kind || !slices.Equal(now.models, before.models)) {
		p.refine()
	}
	m.logChange(found)
	load := m.load(found)
	p.mu.Unlock()

	if state == "up" {
		p.dispatcher.Reported(m.id, load)
	}
	p.dispatcher.Probed(m.id, state == "up", state == "loading")
}

// load is a finding as the scheduler takes it. Requires the pool's mu.
func (m *member) load(found finding) scheduler.Load {
	load := scheduler.Load{Instance: found.report.Instance, Slots: found.report.Slots, Models: found.report.Models}
	load.Can = map[string]scheduler.Capability{}
	for _, model := range slices.Concat(m.target.config.Models, found.report.Models) {
		load.Can[model] = (&entry{can: found.report.Can, lacks: lacks(found.kind)}).able(model)
	}
	if lacking := lacks(found.kind); lacking != 0 { // of others everything is assumed that is not told
		load.Can[""] = (&entry{lacks: lacking}).able("")
	}
	return load
}

// logChange logs a backend's state when it is another than before. Requires the pool's mu.
func (m *member) logChange(found finding) {
	state, detail := found.state()
	now := state + ": " + detail
	if now == m.state {
		return
	}
	m.state = now
	log := m.pool.log().With(zap.String("backend", string(m.id)), zap.String("state", state))
	if state != "up" {
		log.Warn("backend is "+state, zap.String("detail", detail), zap.Error(found.err))
		return
	}
	log.Info("backend is up", zap.String("kind", found.kind.Name()), zap.Strings("models", found.report.Models),
		zap.Int("slots", found.report.Slots), zap.String("class", found.report.GPUClass))
}

// prober sends a probe's requests, with the backend's headers and over its transport.
type prober struct{ *backend }

// Do sends one request.
func (p prober) Do(req *http.Request) (*http.Response, error) {
	return p.probes.RoundTrip(p.dress(req))
}

// HealthURI is the configured path, "" for the kind's own.
func (p prober) HealthURI() string { return p.config.HealthURI }

var _ upstream.Prober = prober{}
