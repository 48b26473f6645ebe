package policies

import "github.com/whisperpool/whisperpool/scheduler"

// RoundRobin goes round the backends, passing over those that are busy.
type RoundRobin struct{}

// Name is round_robin.
func (RoundRobin) Name() string { return "round_robin" }

// Place picks the first idle backend at or after the one whose turn it is.
func (RoundRobin) Place(_ scheduler.Job, view scheduler.View) scheduler.Placement {
	n := uint64(len(view.Candidates))
	for i := range n {
		if c := view.Candidates[(view.Placements+i)%n]; c.Idle {
			return scheduler.Placement{Backend: c.Backend, Reason: scheduler.Turn}
		}
	}
	return scheduler.Placement{}
}
