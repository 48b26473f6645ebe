package policies_test

import (
	"testing"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

func TestLeastOutstanding(t *testing.T) {
	two := scheduler.Candidate{Backend: "two", Slots: 4, Outstanding: 2, Idle: true, Predicted: ms}
	one := scheduler.Candidate{Backend: "one", Slots: 4, Outstanding: 1, Idle: true, Predicted: 900 * ms}
	full := scheduler.Candidate{Backend: "full", Slots: 0, Outstanding: 0}
	got := policies.LeastOutstanding{}.Place(scheduler.Job{}, view(two, full, one))
	if want := (scheduler.Placement{Backend: "one", Reason: scheduler.Least}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	chosenEvenly(t, policies.LeastOutstanding{}, view(idle("a", ms), two, idle("b", 9*ms)), "a", "b")
}
