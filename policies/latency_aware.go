package policies

import (
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// When a backend that is idle gets a job though another would finish it earlier, once it is free: if it is
// not later by more than a factor κ, or not by more than a slack. κ is for long jobs: what one of them loses
// on a slow backend, others gain by the fast one. The slack is for short ones: they hardly suffer on a slow
// backend, and leave the fast ones to those that would. The constants are from simulated pools (docs/performance.md).
const (
	// From 1.4 to 2 the means of open loops differ by 2 %. The larger it is, the less of the pool stands idle
	// when there are as many clients as fast backends, the longer a long job may take, and the less a wrong
	// length or a service time that was foretold badly costs.
	kappa = 2.0

	// The slack is relative to the service time that such jobs have lately. While no other job waits, few
	// gain by a fast backend that is left free.
	slackAlone  = 0.25
	slackOthers = 1.0
	// tie: completions that are this close to the first are as good. Predictions are no better than that, and of
	// equal cards the one that was the quickest by a hair would else get every job that finds all of them idle.
	tie = 1.02
	// unnoticed is a difference that nobody notices, and not worth leaving a backend idle for.
	unnoticed = 50 * time.Millisecond
)

// LatencyAware sends a job to where it is expected to be done first, counting the time until a slot
// is free. A backend that is idle gets it also when it would be done somewhat later than that; when it
// would be done much later, the job waits for the best one.
type LatencyAware struct{}

// Name is latency_aware.
func (LatencyAware) Name() string { return "latency_aware" }

// ByOutlook says that Place goes by the view's outlook.
func (LatencyAware) ByOutlook() {}

// Place numbers its branches:
//
//  1. No speed is known at all: the idle backend with the most room. Waiting for somebody of whom
//     nothing is known would be a guess.
//  2. The idle backend that finishes first is the best of all, or near enough to it: that one.
//  3. Else wait for the best.
func (LatencyAware) Place(_ scheduler.Job, view scheduler.View) scheduler.Placement {
	o := view.Outlook()
	if !o.Known { // (1)
		return now(view, scheduler.Best, func(c *scheduler.Candidate) int64 {
			return int64(c.Outstanding) << 32 / int64(max(c.Slots, 1))
		})
	}
	if o.Idle.OK && near(view, o) { // (2)
		reason := scheduler.Best
		if o.Idle.In > o.Best.In {
			reason = scheduler.Near
		}
		i := among(view, int64(o.Idle.In), func(i int) (int64, bool) {
			c := &view.Candidates[i]
			in := c.FreeIn + view.Predicted(i)
			if float64(in) <= tie*float64(o.Idle.In) {
				in = o.Idle.In
			}
			return int64(in), c.Idle
		})
		return scheduler.Placement{Backend: view.Candidates[i].Backend, Reason: reason}
	}
	return scheduler.Placement{WaitFor: view.Candidates[o.Best.Index].Backend, Reason: scheduler.Wait} // (3)
}

// near says whether a job that an idle backend would finish need not wait for the best.
func near(view scheduler.View, o scheduler.Outlook) bool {
	return o.Idle.In-o.Best.In <= slack(view) || float64(o.Idle.In) <= kappa*float64(o.Best.In)
}

func slack(view scheduler.View) time.Duration {
	share := slackAlone
	if view.Waiting > 0 {
		share = slackOthers
	}
	return max(unnoticed, time.Duration(share*float64(view.Typical)))
}
