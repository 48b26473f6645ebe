package caddymodule

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/upstream"
)

// pools holds the pools of this process by name. Handlers have a reference from Provision to
// Cleanup, and each request has its own, so that a pool lives until its last job has settled.
var pools = caddy.NewUsagePool()

// Pool is one pool of backends: the dispatcher with its queue, speeds and breakers, the probers, and
// what is held of uploads. There is one per name and process. Caddy configurations come and go
// above it: it keeps those that were started, and applies the newest.
type Pool struct {
	name       string
	dispatcher *dispatcher.Dispatcher
	uploads    account
	tenants    *tenants
	admissions admissions
	poisons    poisons
	memory     *memory
	keeper     *speedKeeper
	history    history
	seed       uint64
	logger     atomic.Pointer[zap.Logger]
	catalogue  atomic.Pointer[catalogue]
	limits     atomic.Pointer[limits]

	// configured is closed by the first configuration that is applied; requests wait for it.
	configured chan struct{}
	hedges     atomic.Bool
	inside     atomic.Int64 // jobs that wait or run
	running    atomic.Int64 // attempts

	life    context.Context // ends when the pool does
	finish  context.CancelFunc
	closing context.Context // ends when what is left is to be given up, since the process is ending
	close   context.CancelFunc
	workers sync.WaitGroup // that end with its life: the probers, and the keeper of speeds

	mu          sync.Mutex
	generations []*generation // started and not stopped, the newest last
	// current is the newest generation that was ever applied. It stays when all are stopped, since
	// requests may still run while Caddy shuts down.
	current   *generation
	recording *recording // nil: nothing is recorded
	drains    map[scheduler.BackendID]bool
	judged    chan scheduler.Judged
	finders   map[string]*finder // by their discovery's key
	leftOut   map[string]string  // addresses that were found and another pool has, and which
	reclaim   chan struct{}      // holds one: see which addresses may be used now
	storing   sync.Mutex         // one stores drains at a time; taken before mu
	changed   chan struct{}      // closed, and made anew, when the catalogue changes

	// members are in the order of the configuration. Written under mu, read without it by the
	// dispatcher, which may be called under mu.
	members atomic.Pointer[[]*member]
}

// limits are what requests are held against before the scheduler sees them.
type limits struct {
	requests int
	bytes    int64
}

// loadPool finds or makes the pool of a name. The caller has a reference.
func loadPool(name string) *Pool {
	// The constructor can't fail, so neither can LoadOrNew.
	pool, _, _ := pools.LoadOrNew(name, func() (caddy.Destructor, error) { return newPool(name), nil })
	return pool.(*Pool)
}

// release gives a reference back.
func (p *Pool) release() { _, _ = pools.Delete(p.name) } // Destruct returns no error

// newPool has no goroutine until a configuration is applied, since validating a Caddy configuration
// makes pools too.
func newPool(name string) *Pool {
	p := &Pool{name: name, configured: make(chan struct{}), changed: make(chan struct{}), seed: rand.Uint64(), tenants: newTenants(), memory: newMemory()}
	p.finders, p.reclaim = map[string]*finder{}, make(chan struct{}, 1)
	p.drains, p.judged = map[scheduler.BackendID]bool{}, make(chan scheduler.Judged, judgedKept)
	p.logger.Store(caddy.Log().Named("whisper_pool"))
	p.catalogue.Store(&catalogue{})
	p.limits.Store(&limits{})
	p.members.Store(new([]*member))
	p.life, p.finish = context.WithCancel(context.Background())
	p.closing, p.close = context.WithCancel(context.Background())
	p.dispatcher = dispatcher.New(dispatcher.Options{
		Observers: []dispatcher.Observer{judgements(p.judged), &verdicts{pool: name}},
		Probe:     p.probeSoon,
		Trial:     p.trial,
		Panicked: func(value any, stack []byte) {
			p.log().Error("the scheduler panicked and was rebuilt", zap.Any("panic", value), zap.ByteString("stack", stack))
		},
	})
	p.keeper = &speedKeeper{pool: name, speeds: p.dispatcher.Speeds, restore: p.dispatcher.Restore, log: p.log}
	return p
}

// Destruct ends the pool; nobody uses it any more.
func (p *Pool) Destruct() error {
	p.finish()
	p.close()
	p.workers.Wait()
	p.dispatcher.Close()
	claimed.set(p, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		p.current.release()
		p.current = nil
	}
	p.generations = nil
	return nil
}

func (p *Pool) log() *zap.Logger { return p.logger.Load() }

// start takes a generation in, which is then the newest. It is applied at once when there is none before it, else by
// commit: until all apps have started the new configuration may still fail, and its backends are nobody's business.
func (p *Pool) start(g *generation) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.generations) == 0 {
		if err := p.apply(g); err != nil {
			return err
		}
	} else if err := g.schedulerConfig(p.seed, 0, g.backends, p.known).Validate(); err != nil {
		return err
	}
	p.generations = append(p.generations, g)
	return nil
}

// commit applies the newest generation.
func (p *Pool) commit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applyNewest()
}

// stop takes a generation away. If it was applied and the newest, its Caddy configuration failed late, and the one
// before it is applied again. With the last one what was learned is stored: Caddy lets go of its storage
// next.
func (p *Pool) stop(g *generation) {
	p.takeAway(g)
	if !p.serving() {
		p.keeper.save(g.storage)
	}
}

func (p *Pool) takeAway(g *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generations = slices.DeleteFunc(p.generations, func(other *generation) bool { return other == g })
	p.applyNewest()
}

// applyNewest requires mu.
func (p *Pool) applyNewest() {
	if len(p.generations) == 0 {
		return
	}
	if newest := p.generations[len(p.generations)-1]; newest != p.current {
		if err := p.apply(newest); err != nil { // it was applied before, or looked through
			p.log().Error("applying the configuration", zap.Error(err))
		}
	}
}

// serving tells whether some started Caddy configuration has the pool.
func (p *Pool) serving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.generations) > 0
}

// apply makes a generation the current one: what differs changes, all else goes on. Requires mu.
func (p *Pool) apply(g *generation) error {
	if p.current == nil {
		p.keeper.load(g.storage)
		p.loadDrains(g.storage)
		p.record(g.config.Record) // before anything has happened, so that all of it can be replayed
	}
	bytesMax := g.bytesMax(p.uploads.held.Load())
	if err := p.dispatcher.Configure(g.schedulerConfig(p.seed, bytesMax, p.found(g), p.known)); err != nil {
		if p.current == nil {
			p.record(nil)
		}
		return err
	}
	p.record(g.config.Record)
	p.hedges.Store(g.config.Hedge)
	g.hold()
	before := p.current
	p.current = g
	p.logger.Store(g.logger.With(zap.String("pool", p.name)))
	p.limits.Store(&limits{g.config.Queue.MaxRequests, bytesMax})

	p.find(g)
	p.remember(g)
	if before != nil {
		before.release()
	} else {
		p.workers.Go(func() { p.keeper.run(p.life, p.storage) })
		p.workers.Go(p.logJudged)
		p.workers.Go(p.keepHistory)
		close(p.configured)
	}
	return nil
}

// storage is that of the newest configuration.
func (p *Pool) storage() storage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current.storage
}

// known is what has been found out of a backend of any generation. Requires mu.
func (p *Pool) known(b *backend) known {
	k := known{kind: b.kind, drained: p.drains[b.id]}
	if m := p.member(b.id); m != nil && m.target.identity == b.identity {
		k.kind = m.kind
		if m.report != nil {
			k.models = m.report.Models
		}
	}
	return k
}

// refine tells the scheduler what was found out of backends since the configuration was applied. Requires
// mu.
func (p *Pool) refine() {
	if err := p.dispatcher.Configure(p.current.schedulerConfig(p.seed, p.limits.Load().bytes, p.found(p.current), p.known)); err != nil {
		p.log().Error("telling the scheduler of its backends", zap.Error(err)) // it took this configuration before
	}
}

// remember brings the members into line with a generation. Requires mu.
func (p *Pool) remember(g *generation) {
	var members []*member
	for _, b := range p.found(g) {
		m := p.member(b.id)
		if m == nil {
			m = p.newMember(b)
		} else {
			m.retarget(b)
		}
		members = append(members, m)
	}
	for _, m := range *p.members.Load() {
		if !slices.Contains(members, m) {
			m.stop()
		}
	}
	p.members.Store(&members)
	p.recatalogue()
}

// member finds a backend's place, nil when the newest configuration has none.
func (p *Pool) member(id scheduler.BackendID) *member {
	members := *p.members.Load()
	if i := slices.IndexFunc(members, func(m *member) bool { return m.id == id }); i >= 0 {
		return members[i]
	}
	return nil
}

// reported is what the backend said of itself when it was last up; nothing where it has not been.
func (p *Pool) reported(id scheduler.BackendID) upstream.Report {
	m := p.member(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if m == nil || m.report == nil {
		return upstream.Report{}
	}
	return *m.report
}

// hold finds what the member stands for now and what kind of server it is (nil: not known), and
// keeps its transport until the backend's generation is released.
func (p *Pool) hold(m *member) (*backend, upstream.Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.target.generation.hold()
	return m.target, m.kind
}

// configureWait is how long a request that comes before its pool's first configuration waits for it:
// Caddy starts its apps in any order, a moment apart.
const configureWait = 10 * time.Second

// ready waits for the first configuration; false when there is none still.
func (p *Pool) ready(ctx context.Context) bool {
	select {
	case <-p.configured:
		return true
	default:
	}
	timer := time.NewTimer(configureWait)
	defer timer.Stop()
	select {
	case <-p.configured:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// recatalogue brings the catalogue up to date and wakes those who wait for it. Requires mu.
func (p *Pool) recatalogue() {
	c := &catalogue{}
	for _, m := range *p.members.Load() {
		c.add(m)
	}
	for _, f := range p.finders {
		if !f.asked && f.failure == "" {
			c.pending++ // there may be more backends in a moment
		}
		c.unfound = c.unfound || f.failure != ""
	}
	c.sort()
	p.catalogue.Store(c)
	close(p.changed)
	p.changed = make(chan struct{})
}

// await waits until the catalogue is as wanted, ctx ends, or limit has passed; then it returns the
// catalogue as it is.
func (p *Pool) await(ctx context.Context, limit time.Duration, wanted func(*catalogue) bool) *catalogue {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		p.mu.Lock()
		c, changed := p.catalogue.Load(), p.changed
		p.mu.Unlock()
		if wanted(c) {
			return c
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return c
		case <-timer.C:
			return c
		}
	}
}

// full tells whether the queue has no room for another job. Jobs that are about to run count as
// waiting here for a moment, so the scheduler is asked before anybody is refused.
func (p *Pool) full() bool {
	limit := p.limits.Load().requests
	return limit > 0 && p.inside.Load()-p.running.Load() >= int64(limit) && p.dispatcher.Snapshot().Queued >= limit
}
