package policies

import "github.com/whisperpool/whisperpool/scheduler"

// Random sends a job to any idle backend.
type Random struct{}

// Name is random.
func (Random) Name() string { return "random" }

// Place picks one of the idle backends with equal chances.
func (Random) Place(_ scheduler.Job, view scheduler.View) scheduler.Placement {
	idle := 0
	for i := range view.Candidates {
		if view.Candidates[i].Idle {
			idle++
		}
	}
	if idle == 0 {
		return scheduler.Placement{}
	}
	nth := view.Rand(idle)
	for i := range view.Candidates {
		if c := &view.Candidates[i]; c.Idle {
			if nth == 0 {
				return scheduler.Placement{Backend: c.Backend, Reason: scheduler.Turn}
			}
			nth--
		}
	}
	return scheduler.Placement{}
}
