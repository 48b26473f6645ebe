package dispatcher

import (
	"cmp"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// rebuild follows a panic inside the scheduler, whose state can then not be trusted. It starts a new
// one from the last configuration, and
//
//   - jobs that waited arrive there again, in their old order;
//   - attempts that run are detached: the new scheduler does not know of them, so their backends may
//     get more jobs than slots until they end. When one succeeds its job is served; when one fails,
//     its job arrives again, unless the answer had begun;
//   - learned speeds are taken over, unless telling them panics too; breakers and health are lost; all
//     backends are to be probed, since those that are checked are not used before.
//
// Nothing waits for ever: a job that makes the new scheduler panic too is settled with NoBackend.
// Requires: mu is held.
func (d *Dispatcher) rebuild(value any, stack []byte) {
	if told := d.options.Panicked; told != nil {
		d.after = append(d.after, func() { told(value, stack) })
	}
	for _, a := range d.attempts {
		a.detached = true
		if a.call.trial {
			a.abort()
		}
	}
	clear(d.attempts)
	speeds := d.rescue()
	d.startAnew()
	if len(speeds) > 0 {
		if value, _ := d.stepCore(scheduler.Restored{Speeds: speeds}); value != nil {
			d.startAnew() // it is what was learned that it cannot stand
		}
	}
	for _, b := range d.cfg.Backends {
		if probe := d.options.Probe; probe != nil {
			d.after = append(d.after, func() { probe(b.ID) })
		}
	}
	waiting := make([]*call, 0, len(d.calls))
	for _, c := range d.calls {
		if len(c.running) == 0 {
			waiting = append(waiting, c)
		}
	}
	slices.SortFunc(waiting, func(a, b *call) int { return cmp.Compare(a.job.ID, b.job.ID) })
	for _, c := range waiting {
		d.arriveAgain(c)
	}
}

// rescue returns what a scheduler that panicked had learned, nothing when that cannot be told.
func (d *Dispatcher) rescue() (speeds []scheduler.SpeedRecord) {
	defer func() {
		if recover() != nil {
			speeds = nil
		}
	}()
	return d.core.SpeedsAt(d.Now())
}

// startAnew puts a new scheduler in the place of the one that panicked.
func (d *Dispatcher) startAnew() {
	core, err := scheduler.New(d.cfg, policies.ByName)
	if err != nil { // it was valid when it was applied
		panic("dispatcher: the configuration cannot be applied again: " + err.Error())
	}
	d.adopt(core, d.cfg)
}

// arriveAgain lets a job arrive in a new scheduler, or ends it when that panics as well.
func (d *Dispatcher) arriveAgain(c *call) {
	if c.over {
		return
	}
	if c.ctx.Err() != nil {
		d.settle(c, scheduler.Settle{Job: c.job.ID, Reason: scheduler.ClientGone})
		return
	}
	if value, _ := d.stepCore(scheduler.Arrived{Job: c.job}); value != nil && !c.over && len(c.running) == 0 {
		d.settle(c, scheduler.Settle{Job: c.job.ID, Reason: scheduler.NoBackend, RetryAfter: time.Second})
	}
}

// finishDetached ends an attempt that the present scheduler does not know. Of two attempts of a job the first to
// succeed counts, and the job is over when both have ended. Requires: mu is held.
func (d *Dispatcher) finishDetached(a *attempt, o scheduler.Outcome) {
	c := a.call
	if c.over {
		return
	}
	if c.ended.Result != scheduler.Success && (o.Result == scheduler.Success || c.ended.Result != scheduler.ClientError) {
		c.ended = o
	}
	if o.Result == scheduler.Success {
		for _, sibling := range c.running {
			sibling.abort()
		}
	}
	if len(c.running) > 0 {
		return
	}
	s := scheduler.Settle{Job: c.job.ID, Attempts: 1, Last: c.ended}
	switch {
	case c.ended.Result == scheduler.Success:
		s.Reason = scheduler.Served
	case c.ended.Result == scheduler.ClientError:
		s.Reason = scheduler.Refused
	case c.panic != nil || a.aborted && !c.committed || c.ctx.Err() != nil:
		s.Reason = scheduler.ClientGone
	case c.committed:
		s.Reason = scheduler.Exhausted
	default:
		c.ended = scheduler.Outcome{}
		d.step(scheduler.Arrived{Job: c.job})
		return
	}
	d.settle(c, s)
}
