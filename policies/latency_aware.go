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
	// The more the job sizes and service times are known, the smaller κ is.
	kappaMin    = 1.35
	kappaMax    = 2.0
	kappaSpread = 0.3 // spread of the service times from which it grows,
	kappaSlope  = 0.7 // and how fast
	// The size is a guess. Against 3.5, in three pools, 2 takes up to 11 % off the mean and up to a third off the
	// 99th percentile at loads from 0.3 to 0.7 (at worst 2 % are added to the mean), and makes no difference with
	// two clients a card and more. With about as many clients as cards it adds 3 to 11 % to the mean and takes 4 to
	// 26 % off the tail. 1.5 adds a quarter to the mean there, and is worse from a load of 0.7 on.
	kappaUnknown = 2.0

	// The slack is relative to the service time that such jobs have lately. While no other job waits, few
	// gain by a fast backend that is left free.
	slackAlone  = 0.25
	slackOthers = 1.0
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
func (LatencyAware) Place(job scheduler.Job, view scheduler.View) scheduler.Placement {
	o := view.Outlook()
	if !o.Known { // (1)
		return now(view, scheduler.Best, func(c *scheduler.Candidate) int64 {
			return int64(c.Outstanding) << 32 / int64(max(c.Slots, 1))
		})
	}
	if o.Idle.OK && near(job, view, o) { // (2)
		reason := scheduler.Best
		if o.Idle.In > o.Best.In {
			reason = scheduler.Near
		}
		i := among(view, int64(o.Idle.In), func(i int) (int64, bool) {
			c := &view.Candidates[i]
			return int64(c.FreeIn + view.Predicted(i)), c.Idle
		})
		return scheduler.Placement{Backend: view.Candidates[i].Backend, Reason: reason}
	}
	return scheduler.Placement{WaitFor: view.Candidates[o.Best.Index].Backend, Reason: scheduler.Wait} // (3)
}

// near says whether a job that an idle backend would finish need not wait for the best.
func near(job scheduler.Job, view scheduler.View, o scheduler.Outlook) bool {
	return o.Idle.In-o.Best.In <= slack(view) || float64(o.Idle.In) <= kappa(job, view)*float64(o.Best.In)
}

func slack(view scheduler.View) time.Duration {
	share := slackAlone
	if view.Waiting > 0 {
		share = slackOthers
	}
	return max(unnoticed, time.Duration(share*float64(view.Typical)))
}

func kappa(job scheduler.Job, view scheduler.View) float64 {
	if job.SizeGuessed {
		return kappaUnknown
	}
	return min(max(kappaMin+(view.Spread-kappaSpread)*kappaSlope, kappaMin), kappaMax)
}
