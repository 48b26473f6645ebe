package scheduler_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// TestQueuedJobsOfOneModelDelayNoOther: a thousand jobs wait for a model nobody is free to serve, of several
// bands and tenants, before and after those of another model, each of which starts the moment it arrives.
func TestQueuedJobsOfOneModelDelayNoOther(t *testing.T) {
	law := scheduler.Law{PerSecond: 100 * time.Millisecond}
	s := newScheduler(t,
		scheduler.Backend{ID: "a", Models: []string{"base"}, Prior: law},
		scheduler.Backend{ID: "b", Models: []string{"large"}, Prior: law},
		scheduler.Backend{ID: "both", Models: []string{"base", "large"}, Prior: law})
	id := scheduler.JobID(0)
	arrive := func(now scheduler.Instant, model string, p scheduler.Priority, tenant scheduler.Tenant) []scheduler.Decision {
		id++
		return s.Step(now, scheduler.Arrived{Job: scheduler.Job{ID: id, Model: model, AudioSeconds: 600, Priority: p, Tenant: tenant}})
	}
	for i := range 1000 {
		arrive(0, "base", scheduler.Priority(i%3), scheduler.Tenant(i%7))
	}
	if queued := s.Snapshot().Queued; queued != 998 {
		t.Fatalf("%d jobs wait, want all but the two that a and both run", queued)
	}
	now := scheduler.Instant(0)
	for range 50 {
		now = now.Add(time.Second)
		var started *scheduler.Dispatch
		for _, d := range arrive(now, "large", scheduler.Batch, 99) {
			if d, ok := d.(scheduler.Dispatch); ok {
				started = &d
			}
		}
		if started == nil || started.Job != id || started.Backend != "b" || started.Waited != 0 {
			t.Fatalf("job %d for large: %+v, want it on b at once", id, started)
		}
		s.Step(now, scheduler.Finished{Attempt: started.Attempt, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
	}
	if err := s.Invariants(); err != nil {
		t.Error(err)
	}
}

// TestRetryAfterFollowsThePredictedDrain: what a refused client is told grows with what waits, and with what
// waits for other models on the same backends, up to a minute.
func TestRetryAfterFollowsThePredictedDrain(t *testing.T) {
	for waiting, want := range map[int]time.Duration{0: 10 * time.Second, 1: 20 * time.Second, 3: 40 * time.Second, 20: time.Minute} {
		for _, model := range []string{"base", "large"} {
			s, err := scheduler.New(scheduler.Config{
				Backends: []scheduler.Backend{{ID: "a", Prior: scheduler.Law{PerSecond: time.Second}}},
				Queue:    scheduler.Queue{MaxBytes: 100},
			}, policies.ByName)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 1 + waiting {
				s.Step(0, scheduler.Arrived{Job: scheduler.Job{ID: scheduler.JobID(i + 1), Model: model, AudioSeconds: 10}})
			}
			got := s.Step(0, scheduler.Arrived{Job: scheduler.Job{ID: 1000, Model: "base", AudioSeconds: 10, Bytes: 101}})
			refused, ok := got[0].(scheduler.Settle)
			if !ok || refused.Reason != scheduler.QueueFull {
				t.Fatalf("decided %v", got)
			}
			if off := refused.RetryAfter - want; off < -time.Second || off > time.Second {
				t.Errorf("with %d jobs waiting for %s: Retry-After %v, want about %v", waiting, model, refused.RetryAfter, want)
			}
		}
	}
}

// TestManyTenants: the order is right, and a step stays cheap, with thousands of tenants.
func TestManyTenants(t *testing.T) {
	s := newScheduler(t, scheduler.Backend{ID: "a", Prior: scheduler.Law{PerSecond: time.Second}})
	const tenants, jobs = 2000, 3
	running := scheduler.AttemptID(0)
	tenantOf := map[scheduler.JobID]scheduler.Tenant{}
	served := map[scheduler.Tenant]int{}
	carry := func(ds []scheduler.Decision) {
		for _, d := range ds {
			if d, ok := d.(scheduler.Dispatch); ok {
				running = d.Attempt
				served[tenantOf[d.Job]]++
			}
		}
	}
	for i := range scheduler.JobID(tenants * jobs) {
		tenantOf[i+1] = scheduler.Tenant(1 + i/jobs) // one tenant after the other
		carry(s.Step(0, scheduler.Arrived{Job: scheduler.Job{ID: i + 1, Model: "base", AudioSeconds: 10, Tenant: tenantOf[i+1]}}))
	}
	for n := range tenants {
		carry(s.Step(scheduler.Instant(n), scheduler.Finished{Attempt: running, Outcome: scheduler.Outcome{Result: scheduler.Success}}))
	}
	most := 0
	for _, n := range served {
		most = max(most, n)
	}
	if len(served) < tenants-1 || most > 2 {
		t.Errorf("of %d tenants %d were served, one of them %d times, before the first had a second turn", tenants, len(served), most)
	}
	if err := s.Invariants(); err != nil {
		t.Error(err)
	}
}

// TestOddSizes: what a header claims cannot be trusted to be a number.
func TestOddSizes(t *testing.T) {
	s := newScheduler(t, scheduler.Backend{ID: "a", Prior: scheduler.Law{PerSecond: time.Second}})
	for i, audio := range []float64{-1, 1e300, math.NaN(), math.Inf(1)} {
		for _, d := range s.Step(0, scheduler.Arrived{Job: scheduler.Job{ID: scheduler.JobID(i + 1), Model: "base", AudioSeconds: audio}}) {
			if d, ok := d.(scheduler.Dispatch); ok && (d.Predicted != 30*time.Second || d.Timeout <= 0) {
				t.Errorf("%v s of audio: %+v, want it taken for 30 s", audio, d)
			}
		}
	}
	if err := s.Invariants(); err != nil {
		t.Error(fmt.Errorf("after sizes that are none: %w", err))
	}
}
