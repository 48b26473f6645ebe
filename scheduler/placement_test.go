package scheduler_test

import (
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// watcher is a policy that takes whoever is idle and keeps what it was shown.
type watcher struct{ typical, waiting *[]int64 }

func (watcher) Name() string { return "watcher" }

func (w watcher) Place(_ scheduler.Job, view scheduler.View) scheduler.Placement {
	*w.typical, *w.waiting = append(*w.typical, view.Typical.Milliseconds()), append(*w.waiting, int64(view.Waiting))
	for _, c := range view.Candidates {
		if c.Idle {
			return scheduler.Placement{Backend: c.Backend, Reason: scheduler.Best}
		}
	}
	return scheduler.Placement{}
}

// TestViewTellsWhatIsTypical: the time that jobs would have taken on the best backend, wherever they went, and
// how many others wait.
func TestViewTellsWhatIsTypical(t *testing.T) {
	var typical, waiting []int64
	w := watcher{&typical, &waiting}
	prior := func(ms int) scheduler.Law { return scheduler.Law{Fixed: time.Duration(ms) * time.Millisecond} }
	s, err := scheduler.New(scheduler.Config{Backends: []scheduler.Backend{
		{ID: "slow", Address: "1", Prior: prior(800)}, {ID: "fast", Address: "2", Prior: prior(200)},
	}}, func(string) (scheduler.Policy, bool) { return w, true })
	if err != nil {
		t.Fatal(err)
	}
	for id := range scheduler.JobID(4) {
		s.Step(0, scheduler.Arrived{Job: scheduler.Job{ID: id + 1, Model: "base", AudioSeconds: 1}})
	}
	// The first went to the slow one, and would have been done in 200 ms; the second to the fast one; two wait.
	s.Step(scheduler.Instant(200*time.Millisecond), scheduler.Finished{Attempt: 2, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
	if n := len(typical); n < 3 || typical[0] != 0 || typical[1] != 200 || typical[2] != 200 {
		t.Errorf("typical service times in ms: %v", typical)
	}
	if n := len(waiting); waiting[0] != 0 || waiting[1] != 0 || waiting[n-1] != 1 {
		t.Errorf("others that waited: %v", waiting)
	}
}
