// Package dispatcher drives the scheduler in production: it holds the lock, the clock and the
// timer around it, turns calls into events and decisions into wake-ups. It knows no HTTP and no
// Caddy, and decides nothing.
package dispatcher

// Seams: the functions that caddymodule relies on.
//
//	type Try func(ctx context.Context, a Attempt) scheduler.Outcome
//	type Attempt struct { scheduler.Dispatch ... }
//	func (a Attempt) Commit() bool // before the first byte goes to the client; false: write nothing
//	type Observer interface { Observed(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) }
//	func New(o Options) *Dispatcher // Options{Observers []Observer, Probe func(scheduler.BackendID)}; jobs wait until the first Configure
//	func (d *Dispatcher) Configure(cfg scheduler.Config) error
//	func (d *Dispatcher) Run(ctx context.Context, job scheduler.Job, try Try) scheduler.Settle // job.ID is assigned by Run
//	func (d *Dispatcher) Probed(b scheduler.BackendID, healthy, loading bool)
//	func (d *Dispatcher) Reported(b scheduler.BackendID, l scheduler.Load)
//	func (d *Dispatcher) Snapshot() scheduler.Snapshot
//	func (d *Dispatcher) Now() scheduler.Instant // for Job.Deadline
//	func (d *Dispatcher) Close() // after the last job settled; stops the timer
