package policies_test

import (
	"testing"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

func TestFastestIdle(t *testing.T) {
	got := policies.FastestIdle{}.Place(scheduler.Job{}, view(busy("fast", ms, ms), idle("slow", 900*ms), idle("middle", 300*ms)))
	if want := (scheduler.Placement{Backend: "middle", Reason: scheduler.Fastest}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	chosenEvenly(t, policies.FastestIdle{}, view(idle("a", ms), idle("slow", 9*ms), idle("b", ms)), "a", "b")
}
