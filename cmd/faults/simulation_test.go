package main

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim"
)

// TestLedgerSeesWhatTheResultTells, warm-up left out.
func TestLedgerSeesWhatTheResultTells(t *testing.T) {
	sc := simulated(mixedCards(), sim.Load{Share: 0.5})
	sc.Jobs, sc.Faults = 800, []sim.Fault{{At: 5 * time.Second, Card: "H100-1", Becomes: sim.Hung}}
	runs, err := simulate(t.Context(), sc, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		var all []float64
		for _, j := range r.served(0, forEver) {
			if int(j.ID) <= sc.WarmUp+sc.Jobs {
				all = append(all, j.took())
			}
		}
		if len(all) != sc.Jobs || math.Abs(meanOf(all)-r.Mean) > 1e-6 || quantileOf(all, 0.99) != r.P99 {
			t.Errorf("%d jobs, mean %v, p99 %v; the result says %d, %v, %v", len(all), meanOf(all), quantileOf(all, 0.99), r.Jobs, r.Mean, r.P99)
		}
		if r.opened() == 0 {
			t.Error("the hung card's breaker never opened")
		}
		if c := r.sent("H100-1", 5*time.Second, forEver); c > 10 {
			t.Errorf("%d jobs sent to the hung card", c)
		}
	}
}

func TestCrowdedIsWhenMoreThanSoManyRunLongJobs(t *testing.T) {
	l := &ledger{jobs: make([]simJob, 3)}
	for i, audio := range []float64{100, 300, 5} {
		l.jobs[i].AudioSeconds = audio
		l.tries = append(l.tries, simTry{job: i, began: time.Duration(i) * time.Second, ended: time.Duration(10+i) * time.Second})
	}
	if got := (simRun{ledger: l}).crowded(1); !slices.Equal(got, []span{{time.Second, 10 * time.Second}}) {
		t.Errorf("crowded %v", got)
	}
}

func TestForetell(t *testing.T) {
	pool := []sim.Card{{Name: "a", Law: &sim.Law{Fixed: 1}}, {Name: "b", Law: &sim.Law{Fixed: 4}}}
	l := &ledger{on: map[scheduler.AttemptID]int{}}
	come := func() time.Duration {
		l.jobs = append(l.jobs, simJob{ended: forEver})
		return l.foretell(pool, 0, &l.jobs[len(l.jobs)-1])
	}
	// Each takes 1 s on a and 4 on b: the fourth is done after 4 s on either, the fifth sooner on b.
	for i, want := range []time.Duration{0, 1, 2, 3} {
		if got := come(); got != want*time.Second {
			t.Errorf("job %d waits %v, want %v s", i+1, got, int(want))
		}
	}
	if got := come(); got != 0 {
		t.Errorf("the fifth waits %v, want none on b", got)
	}
}

// TestCriteriaCanFail: a pool that is slower than promised is found out.
func TestCriteriaCanFail(t *testing.T) {
	out := atMost{held: true}
	if out.check("a", 1, 1); !out.held {
		t.Error("what is at its limit holds")
	}
	if out.check("b", math.NaN(), 1); out.held || out.say() != "a 1, b NaN (!)" {
		t.Errorf("what is no number holds: %q", out.say())
	}
}
