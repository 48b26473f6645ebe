package policies_test

import (
	"testing"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

func TestRoundRobin(t *testing.T) {
	v := view(idle("a", ms), busy("b", ms, ms), idle("c", 900*ms))
	for turn, want := range []scheduler.BackendID{"a", "c", "c", "a", "c", "c"} {
		v.Placements = uint64(turn)
		if got := (policies.RoundRobin{}).Place(scheduler.Job{}, v); got != (scheduler.Placement{Backend: want, Reason: scheduler.Turn}) {
			t.Errorf("turn %d: %+v, want %s", turn, got, want)
		}
	}
	chosenEvenly(t, policies.RoundRobin{}, view(idle("a", ms), idle("b", 9*ms), idle("c", 900*ms)), "a", "b", "c")
}
