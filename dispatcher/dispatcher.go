// Package dispatcher drives the scheduler in production: it holds the lock, the clock and the
// timer around it, turns calls into events and decisions into wake-ups. It knows no HTTP and no
// Caddy, and decides nothing.
package dispatcher

import (
	"context"
	"errors"
	"sync"

	"github.com/whisperpool/whisperpool/scheduler"
)

// Why an attempt's context ends, as context.Cause tells it.
var (
	// ErrAborted: the scheduler said Abort, since the client left or a sibling won.
	ErrAborted = errors.New("attempt aborted")
	// ErrGivenUp: the attempt ran past its Timeout.
	ErrGivenUp = errors.New("attempt given up: it took far longer than predicted")
)

// Try runs one attempt and says how it ended. Its context carries the values of Run's and ends with
// the cause ErrAborted or ErrGivenUp, not when the client leaves; the slot is free when it returns.
type Try func(ctx context.Context, a Attempt) scheduler.Outcome

// Attempt is what Try is given.
type Attempt struct {
	scheduler.Dispatch
	d *Dispatcher
}

// Commit is to be called before the first byte goes to the client; false: the attempt is over,
// because the client left or a sibling won, and nothing may be written.
func (a Attempt) Commit() bool { return false }

// Observer is told of every step, under the dispatcher's lock and in order. It must not block, keep
// the decisions, or call the dispatcher.
type Observer interface {
	Observed(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision)
}

// Options are what a Dispatcher is made with; the zero value works.
type Options struct {
	Observers []Observer
	// Probe is asked to look at a backend now rather than at the prober's next turn. It is called
	// without the lock, from whatever goroutine; it must return at once.
	Probe func(scheduler.BackendID)
	// Panicked is told of a panic inside the scheduler, after which the dispatcher has rebuilt it.
	Panicked func(value any, stack []byte)
}

// Dispatcher drives one scheduler.
type Dispatcher struct {
	mu sync.Mutex
}

// New returns a dispatcher whose jobs wait until the first Configure.
func New(o Options) *Dispatcher { return &Dispatcher{} }

// Configure applies a whole configuration, or says what is wrong with it and changes nothing.
func (d *Dispatcher) Configure(cfg scheduler.Config) error { return cfg.Validate() }

// Run takes a job through the queue and its attempts and returns how it ended, after the last
// attempt's try has returned. Run assigns job.ID. When ctx ends the job is cancelled.
func (d *Dispatcher) Run(ctx context.Context, job scheduler.Job, try Try) scheduler.Settle {
	return scheduler.Settle{}
}

// Probed tells of a health check.
func (d *Dispatcher) Probed(b scheduler.BackendID, healthy, loading bool) {}

// Reported tells what a backend said of itself.
func (d *Dispatcher) Reported(b scheduler.BackendID, l scheduler.Load) {}

// Snapshot copies what the scheduler knows; before the first Configure it is empty.
func (d *Dispatcher) Snapshot() scheduler.Snapshot { return scheduler.Snapshot{} }

// Now is the instant that events carry at present, for Job.Deadline.
func (d *Dispatcher) Now() scheduler.Instant { return 0 }

// Close stops the timer. It is to be called after the last Run returned; a later one is settled
// with NoBackend.
func (d *Dispatcher) Close() {}
