package dispatcher_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// mine is an observer that panics in a chosen step, as a bug in the scheduler would.
type mine struct{ steps, at int }

func (m *mine) Observed(scheduler.Instant, scheduler.Event, []scheduler.Decision) {
	if m.steps++; m.steps == m.at {
		panic("a bug in the scheduler")
	}
}

// TestPanicInsideAStepLosesNoJob lets each step of a small run panic in turn.
func TestPanicInsideAStepLosesNoJob(t *testing.T) {
	for at := 2; at < 14; at++ { // the first is Configure
		synctest.Test(t, func(t *testing.T) {
			var panics atomic.Int32
			d := start(t, backends(1, "a", "b"), dispatcher.Options{
				Observers: []dispatcher.Observer{&mine{at: at}},
				Panicked:  func(any, []byte) { panics.Add(1) },
			})
			defer d.Close()
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					if s := d.Run(t.Context(), job(), takes(second)); s.Reason != scheduler.Served {
						t.Errorf("panic in step %d: settled %v", at, s.Reason)
					}
				})
				synctest.Wait()
			}
			ctx, cancel := context.WithTimeout(t.Context(), second/2)
			wg.Go(func() {
				defer cancel()
				if s := d.Run(ctx, job(), takes(60*second)); s.Reason != scheduler.ClientGone {
					t.Errorf("panic in step %d: the client that left was settled %v", at, s.Reason)
				}
			})
			wg.Wait()
			if n := panics.Load(); n != 1 {
				t.Errorf("step %d: told of %d panics", at, n)
			}
			isIdle(t, d)
		})
	}
}
