package policies

import "github.com/whisperpool/whisperpool/scheduler"

// Random sends a job to any idle backend.
type Random struct{}

// Name is random.
func (Random) Name() string { return "random" }

// Place picks one of the idle backends with equal chances.
func (Random) Place(_ scheduler.Job, view scheduler.View) scheduler.Placement {
	any := newChoice(view.Rand)
	for i := range view.Candidates {
		if view.Candidates[i].Idle {
			any.offer(i, 0, 0)
		}
	}
	if any.index < 0 {
		return scheduler.Placement{}
	}
	return scheduler.Placement{Backend: view.Candidates[any.index].Backend, Reason: scheduler.Turn}
}
