package scheduler

import (
	"time"

	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

const (
	// overdueShare is what is still to come of an attempt that runs longer than predicted, in what it
	// has taken already: the longer it has run over, the longer it will still take.
	overdueShare = 0.25
	// optimism is how fast a backend of which nothing is known is taken for, relative to the fastest
	// known: a little faster, so that it is tried.
	optimism = 0.9
	// referenceSeconds is the clip by which speeds with different cost shapes are compared.
	referenceSeconds = 10.0
)

// defaultUnits is a job's cost where it is to be added up over backends.
func defaultUnits(audioSeconds float64) float64 { return 4 + audioSeconds }

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// learn takes in what an attempt shows of its backend's speed: successes with words show it, and an
// attempt that did not finish shows only that it is not faster than that. A failure shows nothing.
func (s *Scheduler) learn(a *attempt, o Outcome) {
	elapsed := s.now.Sub(a.started)
	audio := a.job.AudioSeconds
	if o.AudioSeconds > 0 && o.AudioSeconds <= audioMax {
		audio = o.AudioSeconds
	}
	seen := estimator.Observation{
		Now: time.Duration(s.now), Elapsed: elapsed, AudioSeconds: audio, Occupancy: a.backend.occupancy(a, s.now),
		Best: s.bestOfClass(a.backend, a.job.class.modelIndex, a.speed),
	}
	switch {
	case o.Result == Success && o.Words:
		if a.speed.SeenAlone() >= discoverJobs && elapsed > 0 { // before, what it is compared with moves
			s.discover(a.backend, elapsed.Seconds()/(a.speed.Cost.Of(audio)*a.speed.Theta(1)), seen.Occupancy)
		}
		if a.speed.Observe(seen) {
			s.adopt(a.speed.Shape(), a.job.class.modelIndex)
		}
	case o.Result == Aborted, o.Result == Failed && a.timeout > 0 && elapsed >= a.timeout:
		a.speed.Exceeded(seen)
	}
}

// bestOfClass is the least seconds per unit of cost that a backend of the same GPU class is known for
// with the model, in the units of speed; 0 when the class is not told or nobody else is known.
func (s *Scheduler) bestOfClass(b *backend, model int, speed *estimator.Speed) float64 {
	if b.Class == "" {
		return 0
	}
	best := 0.0
	for _, o := range s.pool {
		if o == b || o.Class != b.Class || model >= len(o.speeds) || o.speeds[model] == nil || o.speeds[model].Observations() == 0 {
			continue
		}
		if took := o.speeds[model].Theta(1) * o.speeds[model].Cost.Of(referenceSeconds); best == 0 || took < best {
			best = took
		}
	}
	return best / speed.Cost.Of(referenceSeconds)
}

// remaining is how long an attempt is expected to run yet.
func (a *attempt) remaining(now Instant) time.Duration {
	elapsed := now.Sub(a.started)
	predicted := a.guess
	if a.speed.Known() {
		predicted = duration(a.speed.Theta(len(a.backend.running)) * a.speed.Cost.Of(a.job.AudioSeconds))
	}
	return max(predicted-elapsed, time.Duration(overdueShare*float64(elapsed)))
}
