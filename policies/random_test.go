package policies_test

import (
	"testing"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

func TestRandom(t *testing.T) {
	chosenEvenly(t, policies.Random{}, view(idle("a", ms), busy("x", 0, 0), idle("b", 9*ms), idle("c", 900*ms)), "a", "b", "c")
	if got := (policies.Random{}).Place(scheduler.Job{}, view(busy("x", 0, 0))); got != (scheduler.Placement{}) {
		t.Errorf("%+v, want nobody", got)
	}
}
