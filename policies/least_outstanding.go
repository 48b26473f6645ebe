package policies

import "github.com/whisperpool/whisperpool/scheduler"

// LeastOutstanding sends a job to the idle backend with the fewest attempts in flight, whatever they
// cost and however fast it is.
type LeastOutstanding struct{}

// Name is least_outstanding.
func (LeastOutstanding) Name() string { return "least_outstanding" }

// Place picks the least outstanding of the idle backends, at random among equals.
func (LeastOutstanding) Place(_ scheduler.Job, view scheduler.View) scheduler.Placement {
	return now(view, scheduler.Least, func(c *scheduler.Candidate) int64 { return int64(c.Outstanding) })
}
