package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

const second = time.Second

var success = scheduler.Outcome{Result: scheduler.Success, Words: true}

func backends(slots int, ids ...scheduler.BackendID) scheduler.Config {
	var cfg scheduler.Config
	for _, id := range ids {
		cfg.Backends = append(cfg.Backends, scheduler.Backend{ID: id, Address: string(id), Slots: slots})
	}
	return cfg
}

func start(t *testing.T, cfg scheduler.Config, o dispatcher.Options) *dispatcher.Dispatcher {
	t.Helper()
	d := dispatcher.New(o)
	if err := d.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	return d
}

func job() scheduler.Job { return scheduler.Job{Model: "base", AudioSeconds: 10, Bytes: 1000} }

// takes is a try that serves after d, or ends when it is aborted.
func takes(d time.Duration) dispatcher.Try {
	return func(ctx context.Context, _ dispatcher.Attempt) scheduler.Outcome {
		select {
		case <-time.After(d):
			return success
		case <-ctx.Done():
			return scheduler.Outcome{Result: scheduler.Failed, Detail: context.Cause(ctx).Error()}
		}
	}
}

// isIdle fails the test when anything is left behind.
func isIdle(t *testing.T, d *dispatcher.Dispatcher) {
	t.Helper()
	s := d.Snapshot()
	if s.Queued != 0 || s.Running != 0 || s.HeldBytes != 0 || s.QueuedBytes != 0 {
		t.Errorf("left behind: %d queued, %d running, %d bytes", s.Queued, s.Running, s.HeldBytes)
	}
	for _, b := range s.Backends {
		if b.Outstanding != 0 {
			t.Errorf("backend %s has %d outstanding", b.ID, b.Outstanding)
		}
	}
}

// TestAttemptsKnowWhatTheyWereChosenFrom, also when the scheduler has decided others since.
func TestAttemptsKnowWhatTheyWereChosenFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a", "b", "c"), dispatcher.Options{})
		defer d.Close()
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				d.Run(t.Context(), job(), func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
					time.Sleep(second)
					if c := a.Considered; c.Attempt != a.Attempt || len(c.Candidates) == 0 || c.Candidates[0].Backend != a.Backend {
						t.Errorf("attempt %d on %s was chosen from %+v", a.Attempt, a.Backend, c)
					}
					return success
				})
			})
		}
		synctest.Wait()
		free := 0
		for _, p := range d.Prospects(job()) {
			if p.Idle {
				free++
			}
		}
		if free != 0 || len(d.Prospects(job())) != 3 {
			t.Errorf("%d of %+v are free", free, d.Prospects(job()))
		}
		wg.Wait()
	})
}

func TestJobsQueueForTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a"), dispatcher.Options{})
		defer d.Close()
		var mu sync.Mutex
		var waits []time.Duration
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				s := d.Run(t.Context(), job(), takes(second))
				mu.Lock()
				defer mu.Unlock()
				if s.Reason != scheduler.Served {
					t.Errorf("settled %v", s.Reason)
				}
				waits = append(waits, s.Waited)
			})
			synctest.Wait()
		}
		wg.Wait()
		if want := []time.Duration{0, second, 2 * second}; !slices.Equal(waits, want) {
			t.Errorf("waited %v, want %v", waits, want)
		}
		isIdle(t, d)
	})
}

func TestCancelWhileQueuedLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a"), dispatcher.Options{})
		defer d.Close()
		go d.Run(t.Context(), job(), takes(10*second))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*second)
		defer cancel()
		begun := time.Now()
		s := d.Run(ctx, job(), takes(second))
		if s.Reason != scheduler.ClientGone || time.Since(begun) != 3*second || s.Attempts != 0 {
			t.Errorf("settled %v after %v and %d attempts, want client_gone after 3s without one", s.Reason, time.Since(begun), s.Attempts)
		}
		time.Sleep(10 * second)
		isIdle(t, d)
	})
}

func TestCancelWhileRunningWaitsForTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a"), dispatcher.Options{})
		defer d.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*second)
		defer cancel()
		var cause error
		begun := time.Now()
		s := d.Run(ctx, job(), func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
			<-ctx.Done()
			cause = context.Cause(ctx)
			time.Sleep(second) // to wind up
			if a.Commit() {
				t.Error("an aborted attempt may write")
			}
			return scheduler.Outcome{Result: scheduler.Failed}
		})
		if s.Reason != scheduler.ClientGone || time.Since(begun) != 3*second {
			t.Errorf("settled %v after %v, want client_gone after 3s", s.Reason, time.Since(begun))
		}
		if !errors.Is(cause, dispatcher.ErrAborted) {
			t.Errorf("the attempt ended with %v", cause)
		}
		if s.Last.Result != scheduler.Aborted {
			t.Errorf("last outcome %v, want aborted", s.Last.Result)
		}
		isIdle(t, d)
	})
}

func TestFailureIsRetriedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a", "b"), dispatcher.Options{})
		defer d.Close()
		var tried []scheduler.BackendID
		s := d.Run(t.Context(), job(), func(_ context.Context, a dispatcher.Attempt) scheduler.Outcome {
			tried = append(tried, a.Backend)
			time.Sleep(second)
			if a.Number == 1 {
				return scheduler.Outcome{Result: scheduler.Failed, Detail: "500"}
			}
			return success
		})
		if s.Reason != scheduler.Served || s.Attempts != 2 || len(tried) != 2 || tried[0] == tried[1] {
			t.Errorf("settled %v after %d attempts on %v", s.Reason, s.Attempts, tried)
		}
		isIdle(t, d)
	})
}

func TestHungAttemptIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a", "b"), dispatcher.Options{})
		defer d.Close()
		for range 10 { // to learn both speeds
			var wg sync.WaitGroup
			wg.Go(func() { d.Run(t.Context(), job(), takes(second)) })
			wg.Go(func() { d.Run(t.Context(), job(), takes(second)) })
			wg.Wait()
		}
		var cause error
		begun := time.Now()
		s := d.Run(t.Context(), job(), func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
			if a.Number == 1 {
				<-ctx.Done()
				cause = context.Cause(ctx)
				return scheduler.Outcome{}
			}
			time.Sleep(second)
			return success
		})
		if s.Reason != scheduler.Served || s.Attempts != 2 {
			t.Errorf("settled %v after %d attempts: %+v", s.Reason, s.Attempts, s.Last)
		}
		if !errors.Is(cause, dispatcher.ErrGivenUp) {
			t.Errorf("the attempt ended with %v", cause)
		}
		if took := time.Since(begun); took != 11*second {
			t.Errorf("took %v, want the 10s after which the first attempt is given up and 1s more", took)
		}
	})
}

func TestLateSuccessOfAGivenUpAttemptCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a", "b"), dispatcher.Options{})
		defer d.Close()
		s := d.Run(t.Context(), job(), func(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
			<-ctx.Done()
			return success
		})
		if s.Reason != scheduler.Served || s.Attempts != 1 {
			t.Errorf("settled %v after %d attempts", s.Reason, s.Attempts)
		}
	})
}

func TestAttemptKeepsTheClientsValuesOnly(t *testing.T) {
	type key struct{}
	d := start(t, backends(1, "a"), dispatcher.Options{})
	defer d.Close()
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
	defer cancel()
	d.Run(ctx, job(), func(ctx context.Context, _ dispatcher.Attempt) scheduler.Outcome {
		if ctx.Value(key{}) != "kept" {
			t.Error("the attempt's context has lost the client's values")
		}
		if _, ok := ctx.Deadline(); ok {
			t.Error("the attempt's context has a deadline of the client's")
		}
		return success
	})
}

func TestJobsWaitForTheFirstConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dispatcher.New(dispatcher.Options{})
		defer d.Close()
		done := make(chan scheduler.Settle, 1)
		go func() { done <- d.Run(t.Context(), job(), takes(second)) }()
		ctx, cancel := context.WithTimeout(t.Context(), second)
		defer cancel()
		if s := d.Run(ctx, job(), takes(second)); s.Reason != scheduler.ClientGone {
			t.Errorf("a client that left before the first configuration: %v", s.Reason)
		}
		if err := d.Configure(backends(1, "a")); err != nil {
			t.Fatal(err)
		}
		if s := <-done; s.Reason != scheduler.Served {
			t.Errorf("settled %v", s.Reason)
		}
	})
}

func TestQueuedJobRunsOnABackendThatAReloadBrought(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a"), dispatcher.Options{})
		defer d.Close()
		long := make(chan scheduler.Settle, 1)
		go func() { long <- d.Run(t.Context(), job(), takes(60*second)) }()
		synctest.Wait()
		queued := make(chan scheduler.Settle, 1)
		go func() { queued <- d.Run(t.Context(), job(), takes(second)) }()
		time.Sleep(5 * second)
		if err := d.Configure(backends(1, "b")); err != nil { // a is gone, and drains
			t.Fatal(err)
		}
		if s := <-queued; s.Reason != scheduler.Served || s.Backend != "b" || s.Waited != 5*second {
			t.Errorf("settled %v on %s after waiting %v", s.Reason, s.Backend, s.Waited)
		}
		if s := <-long; s.Reason != scheduler.Served || s.Backend != "a" {
			t.Errorf("the job on the backend that went: %v on %s", s.Reason, s.Backend)
		}
		if s := d.Snapshot(); len(s.Backends) != 1 || s.Backends[0].ID != "b" {
			t.Errorf("pool %+v, want b alone", s.Backends)
		}
	})
}

func TestInvalidConfigurationChangesNothing(t *testing.T) {
	d := start(t, backends(1, "a"), dispatcher.Options{})
	defer d.Close()
	for _, bad := range []scheduler.Config{
		backends(1, "a", "a"), backends(-1, "a"), {Policy: "fastest"},
	} {
		if err := d.Configure(bad); err == nil {
			t.Errorf("%+v was applied", bad)
		}
	}
	if s := d.Run(t.Context(), job(), takes(0)); s.Reason != scheduler.Served {
		t.Errorf("settled %v", s.Reason)
	}
}

func TestPanicOfATryReachesItsCallerAndFreesTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a", "b"), dispatcher.Options{})
		defer d.Close()
		attempts := 0
		thrown := func() (v any) {
			defer func() { v = recover() }()
			d.Run(t.Context(), job(), func(context.Context, dispatcher.Attempt) scheduler.Outcome {
				attempts++
				panic("broken handler")
			})
			return nil
		}()
		if thrown != "broken handler" || attempts != 1 {
			t.Errorf("Run panicked with %v after %d attempts", thrown, attempts)
		}
		isIdle(t, d)
		for _, b := range d.Snapshot().Backends {
			if b.Failed != 0 {
				t.Errorf("%s is blamed for it", b.ID)
			}
		}
		thrown = func() (v any) {
			defer func() { v = recover() }()
			d.Run(t.Context(), job(), func(context.Context, dispatcher.Attempt) scheduler.Outcome {
				runtime.Goexit()
				return success
			})
			return nil
		}()
		if thrown == nil {
			t.Error("a try that left its goroutine did not make Run panic")
		}
		isIdle(t, d)
	})
}

func TestNoRetryAfterCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, backends(1, "a", "b"), dispatcher.Options{})
		defer d.Close()
		s := d.Run(t.Context(), job(), func(_ context.Context, a dispatcher.Attempt) scheduler.Outcome {
			if first, again := a.Commit(), a.Commit(); !first || !again {
				t.Error("a running attempt may not write")
			}
			return scheduler.Outcome{Result: scheduler.Died}
		})
		if s.Reason != scheduler.Exhausted || s.Attempts != 1 {
			t.Errorf("settled %v after %d attempts", s.Reason, s.Attempts)
		}
	})
}

func TestResultsThatMakeNoSenseAreFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := backends(1, "a", "b", "c", "d")
		cfg.Attempts = 2
		d := start(t, cfg, dispatcher.Options{})
		defer d.Close()
		for _, r := range []scheduler.Result{0, scheduler.Aborted, 99} {
			s := d.Run(t.Context(), job(), func(context.Context, dispatcher.Attempt) scheduler.Outcome {
				return scheduler.Outcome{Result: r}
			})
			if s.Reason != scheduler.Exhausted || s.Last.Result != scheduler.Failed {
				t.Errorf("result %d: settled %v with %v", r, s.Reason, s.Last.Result)
			}
		}
		isIdle(t, d)
	})
}

func TestProbeMayAnswerFromItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d *dispatcher.Dispatcher
		asked := 0
		cfg := backends(0, "a")
		cfg.Backends[0].Checked = true
		d = start(t, cfg, dispatcher.Options{Probe: func(b scheduler.BackendID) {
			asked++
			d.Reported(b, scheduler.Load{Models: []string{"base"}, Slots: 2})
			d.Probed(b, true, false)
		}})
		defer d.Close()
		if s := d.Run(t.Context(), job(), takes(second)); s.Reason != scheduler.Served || asked == 0 {
			t.Errorf("settled %v, asked %d times", s.Reason, asked)
		}
		if s := d.Snapshot(); s.Backends[0].Slots != 2 || !s.Usable("base") || s.Usable("large-v3") {
			t.Errorf("snapshot %+v", s.Backends[0])
		}
	})
}

func TestClosed(t *testing.T) {
	d := dispatcher.New(dispatcher.Options{})
	done := make(chan scheduler.Settle, 1)
	go func() { done <- d.Run(t.Context(), job(), takes(0)) }()
	d.Close()
	d.Close()
	if s := <-done; s.Reason != scheduler.NoBackend {
		t.Errorf("a job that waited for a configuration: %v", s.Reason)
	}
	if err := d.Configure(backends(1, "a")); err == nil {
		t.Error("a closed dispatcher was configured")
	}
	d.Probed("a", true, false)
	if s := d.Snapshot(); len(s.Backends) != 0 {
		t.Errorf("snapshot %+v", s)
	}
}

// diary writes down what an observer is told.
type diary struct{ lines []string }

func (j *diary) Observed(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) {
	line := fmt.Sprintf("%v %T", time.Duration(now), ev)
	for _, d := range ds {
		line += fmt.Sprintf(" %T", d)
	}
	j.lines = append(j.lines, strings.ReplaceAll(line, "scheduler.", ""))
}

func TestObserversSeeEveryStepInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &diary{}
		d := start(t, backends(1, "a"), dispatcher.Options{Observers: []dispatcher.Observer{j}})
		defer d.Close()
		d.Run(t.Context(), job(), takes(second))
		want := []string{"0s Configured", "0s Arrived Dispatch", "1s Finished Settle"}
		if !slices.Equal(j.lines, want) {
			t.Errorf("told %q, want %q", j.lines, want)
		}
	})
}
