package policies

import (
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

const (
	// How much later than the best completion an idle backend may finish a job and still get it (κ).
	// The more the job sizes and service times are known, the closer to the best it has to be. Values
	// from the model of section 4.4 of the scheduling notes.
	kappaMin     = 1.5
	kappaMax     = 2.0
	kappaUnknown = 3.5 // the size is a guess
	kappaSpread  = 0.3 // spread of the service times from which it grows,
	kappaSlope   = 0.7 // and how fast

	// unnoticed is a difference that nobody notices, and not worth leaving a backend idle for.
	unnoticed = 50 * time.Millisecond
)

// LatencyAware sends a job to where it is expected to be done first, counting the time until a slot
// is free. A backend that is idle gets it also when it would be done somewhat later than that, by a
// factor κ; when it would be done much later, the job waits for the best one.
type LatencyAware struct{}

// Name is latency_aware.
func (LatencyAware) Name() string { return "latency_aware" }

// Place numbers its branches:
//
//  1. No speed is known at all: the idle backend with the most room. Waiting for somebody of whom
//     nothing is known would be a guess.
//  2. The idle backend that finishes first is the best of all, or near enough to it: that one.
//  3. Else wait for the best.
func (LatencyAware) Place(job scheduler.Job, view scheduler.View) scheduler.Placement {
	var best, idle choice
	known := false
	for i := range view.Candidates {
		c := &view.Candidates[i]
		known = known || c.Predicted > 0
		done := int64(c.FreeIn + c.Predicted)
		best.offer(i, done)
		if c.Idle {
			idle.offer(i, done)
		}
	}
	if !known { // (1)
		return now(view, scheduler.Best, func(c *scheduler.Candidate) int64 {
			return int64(c.Outstanding) << 32 / int64(max(c.Slots, 1))
		})
	}
	if idle.ties > 0 && near(job, view, idle.value, best.value) { // (2)
		reason := scheduler.Best
		if idle.value > best.value {
			reason = scheduler.Near
		}
		i := idle.among(view, func(c *scheduler.Candidate) (int64, bool) { return int64(c.FreeIn + c.Predicted), c.Idle })
		return scheduler.Placement{Backend: view.Candidates[i].Backend, Reason: reason}
	}
	return scheduler.Placement{WaitFor: view.Candidates[best.index].Backend, Reason: scheduler.Wait} // (3)
}

// near says whether a job that an idle backend would finish at idle need not wait for the best.
func near(job scheduler.Job, view scheduler.View, idle, best int64) bool {
	return idle-best <= int64(unnoticed) || float64(idle) <= kappa(job, view)*float64(best)
}

func kappa(job scheduler.Job, view scheduler.View) float64 {
	if job.SizeGuessed {
		return kappaUnknown
	}
	return min(max(kappaMin+(view.Spread-kappaSpread)*kappaSlope, kappaMin), kappaMax)
}
