package policies

import "github.com/whisperpool/whisperpool/scheduler"

// FastestIdle sends a job to the idle backend that is fastest for it, and never leaves one idle while
// jobs wait.
type FastestIdle struct{}

// Name is fastest_idle.
func (FastestIdle) Name() string { return "fastest_idle" }

// Place picks the least predicted service time of the idle backends.
func (FastestIdle) Place(_ scheduler.Job, view scheduler.View) scheduler.Placement {
	return now(view, scheduler.Fastest, func(c *scheduler.Candidate) int64 { return int64(c.Predicted) })
}
