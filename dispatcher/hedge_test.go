package dispatcher_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// Here are hedges as the dispatcher carries them out; when there is one is the scheduler's, see its hedge.txt.

// warm starts a dispatcher that hedges, and has it learn that both backends take a second for a job.
func warm(t *testing.T, o dispatcher.Options) *dispatcher.Dispatcher {
	t.Helper()
	cfg := backends(1, "a", "b")
	cfg.Hedge = true
	d := start(t, cfg, o)
	for range 10 {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { d.Run(t.Context(), job(), takes(second)) })
		}
		wg.Wait()
	}
	isIdle(t, d)
	return d
}

// short is a job for which the budget of hedges is enough; it is late 2.4 s after it was begun.
func short() scheduler.Job { return scheduler.Job{Model: "base", AudioSeconds: 1, Bytes: 1000} }

// twins are the two attempts of a job, the second of which is a hedge.
type twins struct {
	first, second dispatcher.Try
	causes        [2]error // why their contexts ended
	began, ended  [2]atomic.Bool
	commits       atomic.Int32 // that were allowed
	hedged        atomic.Int32
}

func (w *twins) try(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
	i, try := 0, w.first
	if a.Reason == scheduler.Hedging {
		w.hedged.Add(1)
		i, try = 1, w.second
	}
	w.began[i].Store(true)
	defer func() {
		w.causes[i] = context.Cause(ctx)
		w.ended[i].Store(true)
	}()
	o := try(ctx, a)
	if o.Result == scheduler.Success && !a.Commit() {
		return scheduler.Outcome{Result: scheduler.Aborted}
	} else if o.Result == scheduler.Success {
		w.commits.Add(1)
	}
	return o
}

// hangs is a try that ends only when it is ended.
func hangs(ctx context.Context, _ dispatcher.Attempt) scheduler.Outcome {
	<-ctx.Done()
	return scheduler.Outcome{Result: scheduler.Failed, Detail: context.Cause(ctx).Error()}
}

// outcomeAfter is a try that ends so after d, unless it is ended before.
func outcomeAfter(d time.Duration, o scheduler.Outcome) dispatcher.Try {
	return func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
		if ended := takes(d)(ctx, a); ended.Result != scheduler.Success {
			return ended
		}
		return o
	}
}

// settles counts what jobs and attempts come to.
type settles struct{ dispatched, finished, aborted, settled int }

func (s *settles) Observed(_ scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) {
	if _, ok := ev.(scheduler.Finished); ok {
		s.finished++
	}
	for _, d := range ds {
		switch d.(type) {
		case scheduler.Dispatch:
			s.dispatched++
		case scheduler.Abort:
			s.aborted++
		case scheduler.Settle:
			s.settled++
		}
	}
}

// TestHedges: whatever two attempts of one job come to, one alone may answer, each ends once, and both slots are
// free afterwards.
func TestHedges(t *testing.T) {
	failed := scheduler.Outcome{Result: scheduler.Failed, Detail: "500"}
	for name, c := range map[string]struct {
		first, hedge dispatcher.Try
		leaves       time.Duration // 0: the client stays
		reason       scheduler.SettleReason
		by           int // whose answer it is: 1 the first's, 2 the hedge's, 0 nobody's
		aborted      [2]bool
	}{
		"the hedge wins":                {hangs, takes(second), 0, scheduler.Served, 2, [2]bool{true, false}},
		"the first wins":                {takes(5 * second), hangs, 0, scheduler.Served, 1, [2]bool{false, true}},
		"the hedge fails":               {takes(5 * second), outcomeAfter(second, failed), 0, scheduler.Served, 1, [2]bool{}},
		"the first fails":               {outcomeAfter(5*second, failed), takes(4 * second), 0, scheduler.Served, 2, [2]bool{}},
		"the first hangs, then fails":   {hangs, outcomeAfter(second, failed), 0, scheduler.Served, 0, [2]bool{}}, // and is tried again
		"the client leaves":             {hangs, hangs, 4 * second, scheduler.ClientGone, 0, [2]bool{true, true}},
		"the backend blames the client": {hangs, outcomeAfter(second, scheduler.Outcome{Result: scheduler.ClientError}), 0, scheduler.Refused, 0, [2]bool{true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				count := &settles{}
				d := warm(t, dispatcher.Options{Observers: []dispatcher.Observer{count}})
				defer d.Close()
				*count = settles{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.leaves > 0 {
					time.AfterFunc(c.leaves, cancel)
				}
				w := &twins{first: c.first, second: c.hedge}
				s := d.Run(ctx, short(), func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
					if a.Number > 2 {
						return takes(second)(ctx, a) // an ordinary retry
					}
					return w.try(ctx, a)
				})
				if s.Reason != c.reason || w.hedged.Load() != 1 {
					t.Fatalf("settled %v after %d attempts, %d of them hedges: %+v", s.Reason, s.Attempts, w.hedged.Load(), s.Last)
				}
				if want := map[bool]int32{true: 1}[c.by > 0]; w.commits.Load() != want {
					t.Errorf("%d of the two were told to answer", w.commits.Load())
				}
				for i, want := range c.aborted {
					if !w.ended[i].Load() {
						t.Errorf("attempt %d had not ended when the job was settled", i+1)
					}
					if got := errors.Is(w.causes[i], dispatcher.ErrAborted); got != want {
						t.Errorf("attempt %d ended with %v", i+1, w.causes[i])
					}
				}
				if count.settled != 1 || count.finished != count.dispatched || count.dispatched != s.Attempts {
					t.Errorf("%+v after %d attempts", *count, s.Attempts)
				}
				isIdle(t, d)
			})
		})
	}
}

// TestHedgeCommitRace: both are ready at the same moment, many times over; one is told to answer, never two.
func TestHedgeCommitRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hedged, won := 0, [2]int{}
		for round := range 50 {
			d := warm(t, dispatcher.Options{})
			gates := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
			ready := func(gate <-chan struct{}) dispatcher.Try {
				return func(context.Context, dispatcher.Attempt) scheduler.Outcome {
					<-gate // and not its context, so that both come to commit
					return success
				}
			}
			w := &twins{first: ready(gates[0]), second: ready(gates[1])}
			settled := make(chan scheduler.Settle, 1)
			go func() { settled <- d.Run(t.Context(), short(), w.try) }()
			time.Sleep(5 * second)
			synctest.Wait()
			if !w.began[0].Load() || !w.began[1].Load() {
				t.Fatal("there was no hedge")
			}
			close(gates[round%2]) // neither is always the first to be woken
			close(gates[1-round%2])
			s := <-settled
			if s.Reason != scheduler.Served || w.commits.Load() != 1 {
				t.Errorf("settled %v, %d told to answer", s.Reason, w.commits.Load())
			}
			hedged += int(w.hedged.Load())
			for i, cause := range w.causes {
				if !errors.Is(cause, dispatcher.ErrAborted) {
					won[i]++
				}
			}
			isIdle(t, d)
			d.Close()
		}
		if hedged != 50 || won[0]+won[1] != 50 {
			t.Errorf("%d hedges, won by %v", hedged, won)
		}
		t.Logf("the first won %d times, the hedge %d times", won[0], won[1])
	})
}

// TestNoHedgeWithoutAnIdleSlot, nor where another job waits for it.
func TestNoHedgeWithoutAnIdleSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := warm(t, dispatcher.Options{})
		defer d.Close()
		var hedges, running atomic.Int32
		var wg sync.WaitGroup
		for i, lasts := range []time.Duration{6 * second, 6 * second, second / 4} { // two run and one waits
			wg.Go(func() {
				s := d.Run(t.Context(), short(), func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
					if a.Reason == scheduler.Hedging {
						hedges.Add(1)
					}
					if n := running.Add(1); n > 2 {
						t.Errorf("%d attempts on two slots", n)
					}
					defer running.Add(-1)
					return takes(lasts)(ctx, a)
				})
				if s.Reason != scheduler.Served || s.Attempts != 1 {
					t.Errorf("job %d: settled %v after %d attempts", i, s.Reason, s.Attempts)
				}
			})
			synctest.Wait()
		}
		time.Sleep(5 * second) // long enough for a hedge, see TestHedges
		synctest.Wait()
		if n := hedges.Load(); n != 0 || running.Load() != 2 {
			t.Errorf("%d hedges while both slots were taken, %d attempts run", n, running.Load())
		}
		wg.Wait()
		isIdle(t, d)
	})
}
