package policies

import "github.com/whisperpool/whisperpool/scheduler"

// FastestIdle sends a job to the idle backend that is fastest for it, and never leaves one idle while
// jobs wait.
type FastestIdle struct{}

// Name is fastest_idle.
func (FastestIdle) Name() string { return "fastest_idle" }

// Place picks the least predicted service time of the idle backends.
func (FastestIdle) Place(_ scheduler.Job, view scheduler.View) scheduler.Placement {
	fastest := newChoice(view.Rand)
	for i := range view.Candidates {
		if c := &view.Candidates[i]; c.Idle {
			fastest.offer(i, float64(c.Predicted), float64(c.Slots))
		}
	}
	if fastest.index < 0 {
		return scheduler.Placement{}
	}
	return scheduler.Placement{Backend: view.Candidates[fastest.index].Backend, Reason: scheduler.Fastest}
}
