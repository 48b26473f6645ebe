package dispatcher_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// fails is a try that fails at once.
func fails(context.Context, dispatcher.Attempt) scheduler.Outcome {
	return scheduler.Outcome{Result: scheduler.Failed}
}

// opens has clients fail on the only backend until its breaker is open.
func opens(t *testing.T, d *dispatcher.Dispatcher) {
	t.Helper()
	for range 20 {
		if s := d.Snapshot().Backends[0].State; s == "open" || s == "half-open" {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		d.Run(ctx, job(), fails)
		cancel()
	}
	t.Fatalf("it never opened: %+v", d.Snapshot().Backends)
}

// TestTrialsBringABackendBack without any client.
func TestTrialsBringABackendBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var trials atomic.Int32
		cfg := backends(1, "a")
		cfg.Trials = true
		d := start(t, cfg, dispatcher.Options{Trial: func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
			if !a.Trial || a.Job != 0 || a.Model != "base" || a.Commit() {
				t.Errorf("the trial was told %+v, or may commit", a.Dispatch)
			}
			if trials.Add(1) == 1 {
				<-ctx.Done() // the first hangs
				return scheduler.Outcome{}
			}
			return success
		}})
		defer d.Close()
		opens(t, d)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := d.Snapshot().Backends[0]; s.State != "up" || trials.Load() < 2 {
			t.Errorf("after two minutes and %d trials it is %s (%s)", trials.Load(), s.State, s.Why)
		}
		isIdle(t, d)
	})
}

// TestTrialsThatPanic are told of and count as failed; nobody else is hurt.
func TestTrialsThatPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int32
		cfg := backends(1, "a")
		cfg.Trials = true
		d := start(t, cfg, dispatcher.Options{
			Trial:    func(context.Context, dispatcher.Attempt) scheduler.Outcome { panic("a bug") },
			Panicked: func(any, []byte) { told.Add(1) },
		})
		defer d.Close()
		opens(t, d)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := d.Snapshot().Backends[0]; s.State == "up" || told.Load() == 0 {
			t.Errorf("it is %s, and %d panics were told", s.State, told.Load())
		}
		isIdle(t, d)
	})
}

// TestWhereNobodyRunsTrialsThereAreNone, whatever the configuration says.
func TestWhereNobodyRunsTrialsThereAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := backends(1, "a")
		cfg.Trials = true
		d := start(t, cfg, dispatcher.Options{})
		defer d.Close()
		opens(t, d)
		time.Sleep(time.Minute)
		if s := d.Run(t.Context(), job(), takes(second)); s.Reason != scheduler.Served {
			t.Errorf("settled %v", s.Reason)
		}
	})
}

// TestTrialsEndWithTheDispatcher: neither Close nor a rebuilt scheduler leaves one running.
func TestTrialsEndWithTheDispatcher(t *testing.T) {
	for _, rebuilt := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var running sync.WaitGroup
			var begun, ended atomic.Int32
			cfg := backends(1, "a")
			cfg.Trials = true
			bug := &mine{}
			d := start(t, cfg, dispatcher.Options{
				Observers: []dispatcher.Observer{bug},
				Trial: func(ctx context.Context, _ dispatcher.Attempt) scheduler.Outcome {
					running.Add(1)
					defer running.Done()
					begun.Add(1)
					<-ctx.Done()
					ended.Add(1)
					return scheduler.Outcome{}
				},
			})
			opens(t, d)
			for begun.Load() == 0 {
				time.Sleep(time.Second)
				synctest.Wait()
			}
			before := ended.Load()
			if rebuilt {
				bug.at = bug.steps + 1
				d.Probed("a", true, false)
				synctest.Wait()
			} else {
				d.Close()
			}
			running.Wait()
			if ended.Load() != before+1 {
				t.Errorf("rebuilt %v: %d trials ended at once, want 1", rebuilt, ended.Load()-before)
			}
			if rebuilt {
				if s := d.Run(t.Context(), job(), takes(second)); s.Reason != scheduler.Served {
					t.Errorf("settled %v", s.Reason)
				}
				isIdle(t, d)
				d.Close()
			}
		})
	}
}
