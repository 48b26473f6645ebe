package scheduler_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// considered plays events at given times and returns what the placement of a job was chosen from.
func considered(t *testing.T, s *scheduler.Scheduler, job scheduler.JobID, at scheduler.Instant, ev scheduler.Event) scheduler.Considered {
	t.Helper()
	for _, d := range s.Step(at, ev) {
		if d, ok := d.(scheduler.Dispatch); ok && d.Job == job {
			got, ok := s.Considered(d.Attempt)
			if !ok {
				t.Fatalf("nothing is told of attempt %d", d.Attempt)
			}
			got.Candidates = slices.Clone(got.Candidates)
			return got
		}
	}
	t.Fatalf("job %d was not dispatched", job)
	return scheduler.Considered{}
}

// TestConsidered: a job that waits for a fast backend though a slow one is idle says so when it is placed.
func TestConsidered(t *testing.T) {
	s := newScheduler(t,
		scheduler.Backend{ID: "fast", Slots: 1, Prior: scheduler.Law{PerSecond: 100 * time.Millisecond}},
		scheduler.Backend{ID: "slow", Slots: 1, Prior: scheduler.Law{PerSecond: time.Second}})
	arrived := func(id scheduler.JobID) scheduler.Event {
		return scheduler.Arrived{Job: scheduler.Job{ID: id, Model: "base", AudioSeconds: 20}}
	}
	first := considered(t, s, 1, 0, arrived(1))
	if c := first.Candidates; first.Declined.For != "" || len(c) != 2 || c[0].Backend != "fast" || c[1].Backend != "slow" ||
		!c[0].Idle || !c[1].Idle || c[0].Predicted <= 0 || c[1].Predicted <= 5*c[0].Predicted {
		t.Errorf("the first: %+v", first)
	}
	takes := first.Candidates[0].Predicted
	half := scheduler.Instant(takes / 2)
	if ds := s.Step(half, arrived(2)); len(ds) != 0 {
		t.Fatalf("the second is not to start now: %v", ds)
	}
	if _, ok := s.Considered(1); ok {
		t.Error("what was decided in an earlier step is told")
	}
	second := considered(t, s, 2, scheduler.Instant(takes), scheduler.Finished{Attempt: 1, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
	d := second.Declined
	if d.For != "fast" || d.Idle != "slow" || d.Waited != 0 || d.In < takes || d.In > 2*takes || d.IdleIn != first.Candidates[1].Predicted {
		t.Errorf("the second: %+v", second)
	}
	if c := second.Candidates; len(c) != 2 || c[0].Backend != "fast" || !c[0].Idle || c[0].FreeIn != 0 {
		t.Errorf("the second: %+v", second)
	}
}

// TestConsideredIsBounded: of many candidates the one chosen and the next best are told, in order.
func TestConsideredIsBounded(t *testing.T) {
	var backends []scheduler.Backend
	for i := range 30 {
		backends = append(backends, scheduler.Backend{ID: scheduler.BackendID(fmt.Sprintf("b%02d", i)), Slots: 1,
			Prior: scheduler.Law{PerSecond: time.Duration((i*7)%30+1) * 100 * time.Millisecond}})
	}
	s := newScheduler(t, backends...)
	got := considered(t, s, 1, 0, scheduler.Arrived{Job: scheduler.Job{ID: 1, Model: "base", AudioSeconds: 10}})
	if len(got.Candidates) != scheduler.ConsideredMax || got.More != 30-scheduler.ConsideredMax {
		t.Fatalf("%d candidates and %d more", len(got.Candidates), got.More)
	}
	for i, c := range got.Candidates {
		slowness := slices.IndexFunc(backends, func(b scheduler.Backend) bool { return b.ID == c.Backend }) * 7 % 30
		if slowness != i {
			t.Errorf("number %d is the one that is the %dth fastest", i, slowness)
		}
	}
}

// TestConsideredHedge: a second attempt is chosen between what is left of the first and the one that takes it on.
func TestConsideredHedge(t *testing.T) {
	law := scheduler.Law{PerSecond: 100 * time.Millisecond}
	s, err := scheduler.New(scheduler.Config{Hedge: true, Backends: []scheduler.Backend{
		{ID: "a", Slots: 1, Prior: law}, {ID: "b", Slots: 1, Prior: law},
	}}, policies.ByName)
	if err != nil {
		t.Fatal(err)
	}
	now := scheduler.Instant(0)
	var ended scheduler.AttemptID
	for id := scheduler.JobID(1); id <= 8; id++ { // both are learned
		for _, d := range s.Step(now, scheduler.Arrived{Job: scheduler.Job{ID: id, AudioSeconds: 10}}) {
			if d, ok := d.(scheduler.Dispatch); ok {
				ended = d.Attempt
			}
		}
		if id%2 == 0 { // two at a time, so that each backend has one
			now = now.Add(time.Second)
			s.Step(now, scheduler.Finished{Attempt: ended - 1, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
			s.Step(now, scheduler.Finished{Attempt: ended, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
		}
	}
	first := considered(t, s, 9, now, scheduler.Arrived{Job: scheduler.Job{ID: 9, AudioSeconds: 10}}).Candidates[0].Backend
	for {
		at, ok := s.NextWake()
		if !ok || at.Sub(now) > time.Minute {
			t.Fatal("it was not hedged")
		}
		for _, d := range s.Step(at, scheduler.Ticked{}) {
			d, ok := d.(scheduler.Dispatch)
			if !ok || d.Reason != scheduler.Hedging {
				continue
			}
			got, ok := s.Considered(d.Attempt)
			if c := got.Candidates; !ok || len(c) != 2 || c[0].Backend != d.Backend || c[1].Backend != first || c[0].Predicted >= c[1].Predicted || c[1].Idle {
				t.Fatalf("chosen from %+v", got)
			}
			return
		}
	}
}

// TestProspects: it tells of each backend what a job would find there, and why it does not go there.
func TestProspects(t *testing.T) {
	s := newScheduler(t,
		scheduler.Backend{ID: "free", Class: "H100", Slots: 1, Prior: scheduler.Law{Fixed: time.Second, PerSecond: 100 * time.Millisecond}},
		scheduler.Backend{ID: "busy", Slots: 1},
		scheduler.Backend{ID: "other", Slots: 1, Models: []string{"large-v3"}},
		scheduler.Backend{ID: "drained", Slots: 1, Drained: true},
		scheduler.Backend{ID: "checked", Slots: 1, Checked: true},
		scheduler.Backend{ID: "unable", Slots: 1})
	s.Step(0, scheduler.Reported{Backend: "unable", Load: scheduler.Load{Can: map[string]scheduler.Capability{"": scheduler.CanTranslate}}})
	s.Step(0, scheduler.Reported{Backend: "busy", Load: scheduler.Load{Models: []string{"base", "tiny"}}})
	s.Step(0, scheduler.Reported{Backend: "free", Load: scheduler.Load{Models: []string{"base"}}})
	s.Step(0, scheduler.Arrived{Job: scheduler.Job{ID: 1, Model: "tiny", AudioSeconds: 5, Needs: scheduler.CanWords}})
	got := map[scheduler.BackendID]scheduler.Prospect{}
	for _, p := range s.ProspectsAt(scheduler.Instant(time.Second), scheduler.Job{Model: "base", AudioSeconds: 10, Needs: scheduler.CanWords}) {
		got[p.Backend] = p
	}
	for id, lacks := range map[scheduler.BackendID]string{
		"free": "", "busy": "", "other": "does not serve the model", "drained": "drained by an operator",
		"checked": "waits for its first health check", "unable": "cannot do what the request asks for with this model",
	} {
		if got[id].Lacks != lacks {
			t.Errorf("%s lacks %q, not %q", id, got[id].Lacks, lacks)
		}
	}
	if p := got["free"]; !p.Idle || p.FreeIn != 0 || p.Predicted != 2*time.Second || p.Class != "H100" || p.Observations != 0 {
		t.Errorf("free: %+v", p)
	}
	if p := got["busy"]; p.Idle || p.FreeIn <= 0 || p.Predicted != 0 || p.Outstanding != 1 {
		t.Errorf("busy: %+v", p)
	}
}
