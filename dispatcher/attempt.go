package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

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
// What it says of an attempt that was ended so counts only when it is a success or a client's fault.
type Try func(ctx context.Context, a Attempt) scheduler.Outcome

// Attempt is what Try is given.
type Attempt struct {
	scheduler.Dispatch
	// Considered is what the placement was chosen from; it is empty for a trial.
	Considered scheduler.Considered

	d       *Dispatcher
	running *attempt
}

// Commit is to be called before the first byte goes to the client; false: the attempt is over,
// because the client left, it was given up or a sibling won, and nothing may be written. It may be
// called more than once.
func (a Attempt) Commit() bool { return a.d.commit(a.running) }

// attempt is one whose try has not returned.
type attempt struct {
	id         scheduler.AttemptID
	considered scheduler.Considered
	call       *call
	cancel     context.CancelCauseFunc
	ctx        context.Context
	aborted    bool
	committed  bool
	// detached: the scheduler that dispatched it is no more, see rebuild.
	detached bool
}

func (a *attempt) abort() {
	a.aborted = true
	a.cancel(ErrAborted)
}

// panicked is what a try panicked with.
type panicked struct {
	value any
	stack []byte
}

// start runs an attempt in a goroutine of its own. Its context is not derived from the client's: an
// attempt that the client's leaving ended by itself could finish before Canceled came, and be retried.
func (d *Dispatcher) start(c *call, decision scheduler.Dispatch, considered scheduler.Considered) {
	a := &attempt{id: decision.Attempt, considered: considered, call: c}
	a.ctx, a.cancel = context.WithCancelCause(context.WithoutCancel(c.ctx))
	d.attempts[a.id] = a
	c.running = append(c.running, a)
	var giveUp *time.Timer
	if decision.Timeout > 0 {
		giveUp = time.AfterFunc(decision.Timeout, func() { a.cancel(ErrGivenUp) })
	}
	go d.run(a, decision, giveUp)
}

// run calls try and tells of its end, also when it panicked, or left its goroutine by runtime.Goexit,
// which counts as a panic.
func (d *Dispatcher) run(a *attempt, decision scheduler.Dispatch, giveUp *time.Timer) {
	var outcome scheduler.Outcome
	returned := false
	defer func() {
		var thrown *panicked
		if !returned {
			if thrown = (&panicked{recover(), debug.Stack()}); thrown.value == nil {
				thrown.value = "dispatcher: try did not return"
			}
		}
		if giveUp != nil {
			giveUp.Stop()
		}
		d.finish(a, decision, outcome, thrown)
	}()
	outcome = a.call.try(a.ctx, Attempt{Dispatch: decision, Considered: a.considered, d: d, running: a})
	returned = true
}

// finish tells the scheduler that an attempt is over.
func (d *Dispatcher) finish(a *attempt, decision scheduler.Dispatch, o scheduler.Outcome, thrown *panicked) {
	defer d.unlock()
	d.mu.Lock()
	cause := context.Cause(a.ctx)
	a.cancel(nil)
	a.call.running = slices.DeleteFunc(a.call.running, func(o *attempt) bool { return o == a })
	if thrown != nil && a.call.panic == nil {
		a.call.panic = thrown
	}
	if a.call.trial {
		d.finishTrial(a, decision, o, thrown, cause)
		return
	}
	if a.detached {
		d.finishDetached(a, o)
		return
	}
	if thrown != nil {
		d.step(scheduler.Canceled{Job: a.call.job.ID}) // aborts this attempt, and lets none follow
		o = scheduler.Outcome{Result: scheduler.Aborted, Detail: fmt.Sprintf("panic: %v", thrown.value)}
	}
	if a.detached { // by that very step
		d.finishDetached(a, o)
		return
	}
	delete(d.attempts, a.id)
	d.step(scheduler.Finished{Attempt: a.id, Outcome: a.outcome(decision, o, cause)})
}

// finishTrial tells the scheduler that a trial is over, unless neither wants to know any more. Requires: mu is held.
func (d *Dispatcher) finishTrial(a *attempt, decision scheduler.Dispatch, o scheduler.Outcome, thrown *panicked, cause error) {
	if a.detached || d.closed {
		return
	}
	if thrown != nil {
		o = scheduler.Outcome{Result: scheduler.Failed, Detail: fmt.Sprintf("panic: %v", thrown.value)}
		if told := d.options.Panicked; told != nil {
			d.after = append(d.after, func() { told(thrown.value, thrown.stack) })
		}
	}
	delete(d.attempts, a.id)
	d.step(scheduler.Finished{Attempt: a.id, Outcome: a.outcome(decision, o, cause)})
}

// outcome is what an attempt's end means, given why its context ended. Requires: mu is held.
func (a *attempt) outcome(decision scheduler.Dispatch, o scheduler.Outcome, cause error) scheduler.Outcome {
	switch {
	case o.Result == scheduler.Success || o.Result == scheduler.ClientError:
		return o
	case a.aborted:
		return scheduler.Outcome{Result: scheduler.Aborted, Detail: o.Detail}
	case errors.Is(cause, ErrGivenUp):
		detail := fmt.Sprintf("given up after %v, predicted %v", decision.Timeout, decision.Predicted)
		return scheduler.Outcome{Result: scheduler.Failed, Detail: detail}
	case o.Result < scheduler.Success || o.Result >= scheduler.Aborted:
		return scheduler.Outcome{Result: scheduler.Failed, Detail: fmt.Sprintf("the attempt ended without a valid result (%d): %s", o.Result, o.Detail)}
	}
	return o
}

// commit says whether an attempt may write to the client, and makes sure that no other will.
func (d *Dispatcher) commit(a *attempt) bool {
	defer d.unlock()
	d.mu.Lock()
	switch {
	case a.committed:
		return true
	case a.aborted || a.ctx.Err() != nil || a.call.over || a.call.committed:
		return false
	}
	a.committed, a.call.committed = true, true
	if !a.detached {
		d.step(scheduler.Committed{Attempt: a.id})
	}
	for _, sibling := range a.call.running {
		if sibling != a && !sibling.aborted { // the scheduler did not know both
			sibling.abort()
		}
	}
	return true
}
