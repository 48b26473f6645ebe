// Package dispatcher drives the scheduler in production: it holds the lock, the clock and the
// timer around it, turns calls into events and decisions into wake-ups. It knows no HTTP and no
// Caddy, and decides nothing.
//
// A panic inside the scheduler, which is a bug or a broken contract, does not stop the service: the
// scheduler is rebuilt from its last configuration, and what can be carried over is; see rebuild.go.
package dispatcher

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/journal"
)

// Observer is told of every step, under the dispatcher's lock and in order. It must not block, keep
// the decisions, or call the dispatcher.
type Observer interface {
	Observed(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision)
}

// Options are what a Dispatcher is made with; the zero value works.
type Options struct {
	Observers []Observer
	// Recorder writes down every step; nil: none does. It is closed by whoever made it, after the dispatcher.
	Recorder *Recorder
	// Probe is asked to look at a backend now rather than at the prober's next turn. It is called
	// without the lock, from whatever goroutine; it must return at once.
	Probe func(scheduler.BackendID)
	// Trial runs an attempt that the scheduler decides for its own sake, see scheduler.Dispatch.Trial: the
	// driver's own short piece of speech is sent to the backend. It follows the rules of Try and commits
	// nothing. Where it is nil there are no trials, whatever the configuration says. A panic of it is told to
	// Panicked, and the attempt counts as failed.
	Trial Try
	// Panicked is told of a panic inside the scheduler, after which the dispatcher has rebuilt it. It
	// is called without the lock.
	Panicked func(value any, stack []byte)
}

// Dispatcher drives one scheduler.
type Dispatcher struct {
	options Options
	started time.Time

	mu         sync.Mutex
	core       *scheduler.Scheduler    // nil before the first Configure
	cfg        scheduler.Config        // the last that was applied
	learned    []scheduler.SpeedRecord // restored before the first Configure
	configured chan struct{}           // closed by the first Configure, or by Close
	closed     bool
	lastJob    scheduler.JobID
	calls      map[scheduler.JobID]*call
	attempts   map[scheduler.AttemptID]*attempt // dispatched by the present core
	timer      *time.Timer
	after      []func() // to be called once the lock is given back
}

// call is one Run in progress.
type call struct {
	ctx     context.Context
	job     scheduler.Job
	try     Try
	running []*attempt    // those whose try has not returned
	done    chan struct{} // closed when settle is set
	settle  scheduler.Settle
	over    bool
	// committed: an attempt has begun to answer, so that no other may.
	committed bool
	// ended is the best outcome of attempts that the present scheduler does not know, see rebuild.
	ended scheduler.Outcome
	panic *panicked // of a try
	// trial: nobody's, so that it is neither settled nor cancelled.
	trial bool
}

// New returns a dispatcher whose jobs wait until the first Configure.
func New(o Options) *Dispatcher {
	d := &Dispatcher{
		options:    o,
		started:    time.Now(),
		configured: make(chan struct{}),
		calls:      make(map[scheduler.JobID]*call),
		attempts:   make(map[scheduler.AttemptID]*attempt),
	}
	d.timer = time.AfterFunc(time.Hour, d.tick)
	d.timer.Stop()
	return d
}

// Configure applies a whole configuration, or says what is wrong with it and changes nothing.
func (d *Dispatcher) Configure(cfg scheduler.Config) error {
	defer d.unlock()
	d.mu.Lock()
	if d.closed {
		return errors.New("the dispatcher is closed")
	}
	cfg.Trials = cfg.Trials && d.options.Trial != nil // nobody could run them
	if d.core == nil {
		core, err := scheduler.New(cfg, policies.ByName)
		if err != nil {
			return err
		}
		d.adopt(core, cfg)
		close(d.configured)
	} else if _, err := scheduler.New(cfg, policies.ByName); err != nil {
		return err
	}
	d.cfg = cfg
	d.step(scheduler.Configured{Config: cfg})
	if d.learned != nil {
		d.step(scheduler.Restored{Speeds: d.learned})
		d.learned = nil
	}
	return nil
}

// adopt begins with a scheduler that is new. Requires: mu is held.
func (d *Dispatcher) adopt(core *scheduler.Scheduler, cfg scheduler.Config) {
	d.core, d.cfg = core, cfg
	if d.options.Recorder != nil {
		d.options.Recorder.begin(journal.Header{Config: cfg})
	}
}

// Speeds copies what has been learned of the backends' speeds, to be kept over a restart.
func (d *Dispatcher) Speeds() []scheduler.SpeedRecord {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.core == nil {
		return d.learned
	}
	return d.core.SpeedsAt(d.Now())
}

// Restore gives back what Speeds told a former dispatcher. It holds for backends of which nothing has been
// learned since, those that are configured later included.
func (d *Dispatcher) Restore(speeds []scheduler.SpeedRecord) {
	defer d.unlock()
	d.mu.Lock()
	switch {
	case d.closed:
	case d.core == nil:
		d.learned = append(d.learned, speeds...)
	default:
		d.step(scheduler.Restored{Speeds: speeds})
	}
}

// Run takes a job through the queue and its attempts and returns how it ended, after the last
// attempt's try has returned. Run assigns job.ID. When ctx ends the job is cancelled: it leaves the
// queue at once, or its attempt is aborted and waited for.
//
// When a try panics, the attempt counts as aborted, which says nothing of the backend, the job is
// cancelled, and Run panics with the same value in its own goroutine.
func (d *Dispatcher) Run(ctx context.Context, job scheduler.Job, try Try) scheduler.Settle {
	select {
	case <-d.configured:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return scheduler.Settle{Reason: scheduler.ClientGone}
	}
	c := &call{ctx: ctx, job: job, try: try, done: make(chan struct{})}
	if !d.begin(c) {
		return scheduler.Settle{Reason: scheduler.NoBackend, RetryAfter: time.Second}
	}
	stop := context.AfterFunc(ctx, func() { d.cancel(c) })
	<-c.done
	stop()
	if c.panic != nil {
		panic(c.panic.value)
	}
	return c.settle
}

// begin numbers a job and lets it arrive; false when the dispatcher is closed.
func (d *Dispatcher) begin(c *call) bool {
	defer d.unlock()
	d.mu.Lock()
	if d.closed {
		return false
	}
	d.lastJob++
	c.job.ID = d.lastJob
	d.calls[c.job.ID] = c
	d.step(scheduler.Arrived{Job: c.job})
	return true
}

func (d *Dispatcher) cancel(c *call) {
	defer d.unlock()
	d.mu.Lock()
	if !c.over {
		d.step(scheduler.Canceled{Job: c.job.ID})
	}
	for _, a := range c.running {
		if a.detached { // the scheduler that just heard of it does not know them
			a.abort()
		}
	}
}

// Probed tells of a health check.
func (d *Dispatcher) Probed(b scheduler.BackendID, healthy, loading bool) {
	d.tell(scheduler.Probed{Backend: b, Healthy: healthy, Loading: loading})
}

// Reported tells what a backend said of itself. Where it says which models it serves, that is to be
// told before it is first Probed healthy, or jobs for others are sent there meanwhile.
func (d *Dispatcher) Reported(b scheduler.BackendID, l scheduler.Load) {
	d.tell(scheduler.Reported{Backend: b, Load: l})
}

func (d *Dispatcher) tell(ev scheduler.Event) {
	defer d.unlock()
	d.mu.Lock()
	if d.core != nil && !d.closed {
		d.step(ev)
	}
}

func (d *Dispatcher) tick() { d.tell(scheduler.Ticked{}) }

// Snapshot copies what the scheduler knows; before the first Configure it is empty.
func (d *Dispatcher) Snapshot() scheduler.Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.core == nil {
		return scheduler.Snapshot{}
	}
	return d.core.SnapshotAt(d.Now())
}

// Prospects tells of each backend what a job would find there if it came now; before the first Configure there are none.
func (d *Dispatcher) Prospects(job scheduler.Job) []scheduler.Prospect {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.core == nil {
		return nil
	}
	return d.core.ProspectsAt(d.Now(), job)
}

// Now is the instant that events carry at present, for Job.Deadline.
func (d *Dispatcher) Now() scheduler.Instant { return scheduler.Instant(time.Since(d.started)) }

// Close stops the timer and ends trials. It is to be called after the last Run returned; a later one, or one that
// still waits for a configuration, is settled with NoBackend.
func (d *Dispatcher) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	d.timer.Stop()
	for _, a := range d.attempts {
		if a.call.trial {
			a.abort()
		}
	}
	if d.core == nil {
		close(d.configured)
	}
}

// unlock gives the lock back and then makes the calls that must not be made under it.
func (d *Dispatcher) unlock() {
	after := d.after
	d.after = nil
	d.mu.Unlock()
	for _, f := range after {
		f()
	}
}

// step takes an event through the core and carries the decisions out. Requires: mu is held, core is
// not nil.
func (d *Dispatcher) step(ev scheduler.Event) {
	if value, stack := d.stepCore(ev); value != nil {
		d.rebuild(value, stack)
	}
	if at, ok := d.core.NextWake(); ok && !d.closed {
		d.timer.Reset(max(0, at.Sub(d.Now())))
	} else {
		d.timer.Stop()
	}
}

// stepCore returns what the core panicked with, nil when it did not.
func (d *Dispatcher) stepCore(ev scheduler.Event) (value any, stack []byte) {
	defer func() {
		if value = recover(); value != nil {
			stack = debug.Stack()
		}
	}()
	now := d.Now()
	decisions := d.core.Step(now, ev)
	for _, o := range d.options.Observers {
		o.Observed(now, ev, decisions)
	}
	if r := d.options.Recorder; r != nil {
		r.record(journal.Record{At: now, Event: ev, Decisions: decisions}, func() journal.Header { return d.header(now) })
	}
	for _, decision := range decisions {
		d.carryOut(decision)
	}
	return nil, nil
}

// carryOut does what a decision says.
func (d *Dispatcher) carryOut(decision scheduler.Decision) {
	switch decision := decision.(type) {
	case scheduler.Dispatch:
		c := d.calls[decision.Job]
		if decision.Trial {
			c = &call{ctx: context.Background(), try: d.options.Trial, over: true, trial: true}
		}
		considered, _ := d.core.Considered(decision.Attempt)
		considered.Candidates = slices.Clone(considered.Candidates) // the core writes over them in its next step
		d.start(c, decision, considered)
	case scheduler.Abort:
		d.attempts[decision.Attempt].abort()
	case scheduler.Settle:
		d.settle(d.calls[decision.Job], decision)
	case scheduler.Probe:
		if probe := d.options.Probe; probe != nil {
			d.after = append(d.after, func() { probe(decision.Backend) })
		}
	}
}

// settle ends a call.
func (d *Dispatcher) settle(c *call, s scheduler.Settle) {
	delete(d.calls, c.job.ID)
	c.settle, c.over = s, true
	close(c.done)
}
