package policies

import "github.com/whisperpool/whisperpool/scheduler"

// LeastOutstanding sends a job to the idle backend with the fewest attempts in flight, whatever they
// cost and however fast it is.
type LeastOutstanding struct{}

// Name is least_outstanding.
func (LeastOutstanding) Name() string { return "least_outstanding" }

// Place picks the least outstanding of the idle backends, at random among equals.
func (LeastOutstanding) Place(_ scheduler.Job, view scheduler.View) scheduler.Placement {
	least := newChoice(view.Rand)
	for i := range view.Candidates {
		if c := &view.Candidates[i]; c.Idle {
			least.offer(i, float64(c.Outstanding), 0)
		}
	}
	if least.index < 0 {
		return scheduler.Placement{}
	}
	return scheduler.Placement{Backend: view.Candidates[least.index].Backend, Reason: scheduler.Least}
}
