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

	// near is a difference that nobody notices, and not worth leaving a backend idle for.
	near = 50 * time.Millisecond
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
	best, bestIdle := newChoice(view.Rand), newChoice(view.Rand)
	known := false
	for i := range view.Candidates {
		c := &view.Candidates[i]
		known = known || c.Predicted > 0
		done := float64(c.FreeIn + c.Predicted)
		capacity := float64(c.Slots)
		best.offer(i, done, capacity)
		if c.Idle {
			bestIdle.offer(i, done, capacity)
		}
	}
	if !known { // (1)
		return mostRoom(view)
	}
	if best.index < 0 {
		return scheduler.Placement{}
	}
	first := view.Candidates[best.index]
	if bestIdle.index >= 0 { // (2)
		id := view.Candidates[bestIdle.index].Backend
		late := bestIdle.value - best.value
		switch {
		case late <= 0:
			return scheduler.Placement{Backend: id, Reason: scheduler.Best}
		case late <= float64(near) || bestIdle.value <= kappa(job, view)*best.value:
			return scheduler.Placement{Backend: id, Reason: scheduler.Near}
		}
	}
	return scheduler.Placement{WaitFor: first.Backend, Reason: scheduler.Wait} // (3)
}

func kappa(job scheduler.Job, view scheduler.View) float64 {
	if job.SizeGuessed {
		return kappaUnknown
	}
	return min(max(kappaMin+(view.Spread-kappaSpread)*kappaSlope, kappaMin), kappaMax)
}

// mostRoom is the idle backend that has the least outstanding for its slots.
func mostRoom(view scheduler.View) scheduler.Placement {
	room := newChoice(view.Rand)
	for i := range view.Candidates {
		if c := &view.Candidates[i]; c.Idle {
			room.offer(i, float64(c.Outstanding)/float64(max(c.Slots, 1)), float64(c.Slots))
		}
	}
	if room.index < 0 {
		return scheduler.Placement{}
	}
	return scheduler.Placement{Backend: view.Candidates[room.index].Backend, Reason: scheduler.Best}
}
