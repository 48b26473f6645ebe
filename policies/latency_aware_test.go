package policies_test

import (
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

func TestLatencyAware(t *testing.T) {
	job := scheduler.Job{AudioSeconds: 10}
	for _, c := range []struct {
		name  string
		cands []scheduler.Candidate
		want  scheduler.Placement
	}{
		{"the fastest of the idle", []scheduler.Candidate{idle("slow", 900*ms), idle("fast", 100*ms)},
			scheduler.Placement{Backend: "fast", Reason: scheduler.Best}},
		{"waiting is quicker", []scheduler.Candidate{idle("slow", 900*ms), busy("fast", 100*ms, 100*ms)},
			scheduler.Placement{WaitFor: "fast", Reason: scheduler.Wait}},
		{"waiting takes longer", []scheduler.Candidate{idle("slow", 900*ms), busy("fast", 900*ms, 100*ms)},
			scheduler.Placement{Backend: "slow", Reason: scheduler.Best}},
		{"not the best, but near enough", []scheduler.Candidate{idle("slow", 900*ms), busy("fast", 350*ms, 101*ms)},
			scheduler.Placement{Backend: "slow", Reason: scheduler.Near}},
		{"just too far", []scheduler.Candidate{idle("slow", 900*ms), busy("fast", 340*ms, 109*ms)},
			scheduler.Placement{WaitFor: "fast", Reason: scheduler.Wait}},
		{"a difference that nobody notices", []scheduler.Candidate{idle("slow", 60*ms), busy("fast", 5*ms, 5*ms)},
			scheduler.Placement{Backend: "slow", Reason: scheduler.Near}},
		{"of equals the one with more slots", []scheduler.Candidate{idle("small", 100*ms), {Backend: "big", Slots: 4, Idle: true, Predicted: 100 * ms}},
			scheduler.Placement{Backend: "big", Reason: scheduler.Best}},
		{"nobody idle", []scheduler.Candidate{busy("slow", 0, 900*ms), busy("fast", 200*ms, 100*ms)},
			scheduler.Placement{WaitFor: "fast", Reason: scheduler.Wait}},
		{"nothing known: whoever has room", []scheduler.Candidate{
			{Backend: "full", Slots: 2, Outstanding: 2}, {Backend: "half", Slots: 2, Outstanding: 1, Idle: true}, {Backend: "free", Slots: 2, Idle: true}},
			scheduler.Placement{Backend: "free", Reason: scheduler.Best}},
		{"nothing known and nobody idle: wait for nobody in particular", []scheduler.Candidate{{Backend: "full", Slots: 1, Outstanding: 1}},
			scheduler.Placement{}},
		{"nobody at all", nil, scheduler.Placement{}},
	} {
		if got := (policies.LatencyAware{}).Place(job, view(c.cands...)); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestShortJobsLeaveTheFastBackendsToOthers: a job that would be done 170 ms later on the slow backend, which is
// more than twice as late, takes it where such jobs usually last longer than that and others wait.
func TestShortJobsLeaveTheFastBackendsToOthers(t *testing.T) {
	for _, c := range []struct {
		typical time.Duration
		waiting int
		slow    bool
	}{
		{0, 5, false}, {100 * ms, 5, false}, {160 * ms, 5, false}, {180 * ms, 5, true}, {180 * ms, 1, true},
		{180 * ms, 0, false}, {670 * ms, 0, false}, {690 * ms, 0, true},
	} {
		v := view(idle("slow", 310*ms), busy("fast", 40*ms, 100*ms))
		v.Typical, v.Waiting = c.typical, c.waiting
		want := scheduler.Placement{WaitFor: "fast", Reason: scheduler.Wait}
		if c.slow {
			want = scheduler.Placement{Backend: "slow", Reason: scheduler.Near}
		}
		if got := (policies.LatencyAware{}).Place(scheduler.Job{AudioSeconds: 2}, v); got != want {
			t.Errorf("%v typical, %d others: %+v, want %+v", c.typical, c.waiting, got, want)
		}
	}
}

func TestLatencyAwareSpreadsTies(t *testing.T) {
	chosenEvenly(t, policies.LatencyAware{}, view(idle("a", 100*ms), busy("x", 100*ms, 100*ms), idle("b", 100*ms), idle("c", 100*ms)), "a", "b", "c")
	// As good as equal, and what is not.
	chosenEvenly(t, policies.LatencyAware{}, view(idle("a", 100*ms), idle("b", 101*ms), idle("c", 103*ms)), "a", "b")
}
