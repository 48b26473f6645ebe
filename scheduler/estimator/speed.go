package estimator

import (
	"math"
	"math/bits"
	"time"
)

const (
	// fixedAtFirst is the fixed part of a job's cost in seconds of audio (w0 of the notes): what a
	// job takes however short it is, as far as anybody can tell without a law for the backend.
	fixedAtFirst = 4.0
	// interference is how much of a job each other job on the same GPU costs it, as long as that has
	// not been seen: 0.8 says that jobs side by side gain little over one after the other.
	interference = 0.8
	levels       = 7 // occupancies 1, 2-3, 4-7, ... 64 and more

	driftAfter    = 30 * time.Second // without an observation
	driftHalfLife = 30 * time.Second
)

// Cost is the shape of a job's cost: Fixed + PerSecond times the seconds of audio.
type Cost struct{ Fixed, PerSecond float64 }

// Of is the cost of a job with that much audio.
func (c Cost) Of(audioSeconds float64) float64 { return c.Fixed + c.PerSecond*audioSeconds }

// Speed is what is known of one backend's speed with one model: seconds of service per unit of cost
// (θ of the notes), apart for each octave of occupancy, since jobs side by side slow each other down.
type Speed struct {
	Cost    Cost
	guessed bool // Cost is a law in seconds of service, so that θ is 1 until observed
	levels  [levels]estimate
	n       int // observations over all levels
	last    time.Duration
	recent  int     // the level observed last
	fastest float64 // the least ln θ at occupancy 1 that was ever held
	// atLeast is the highest θ at occupancy 1 that a job is known to have exceeded while nothing
	// else was known.
	atLeast float64
}

// New returns a speed of which nothing is known.
func New() *Speed { return &Speed{Cost: Cost{fixedAtFirst, 1}, fastest: math.Inf(1)} }

// FromLaw returns a speed that is expected to follow a law, in seconds, until jobs show better.
func FromLaw(fixed, perSecond time.Duration) *Speed {
	return &Speed{Cost: Cost{fixed.Seconds(), perSecond.Seconds()}, guessed: true, fastest: math.Inf(1)}
}

// Known says whether anything has been learned or was told.
func (s *Speed) Known() bool { return s.n > 0 || s.guessed }

// Observations counts what it was learned from.
func (s *Speed) Observations() int { return s.n }

// SeenAlone says whether a job that ran alone has been observed.
func (s *Speed) SeenAlone() bool { return s.levels[0].n > 0 }

// Spread is the standard deviation of the log of actual / predicted.
func (s *Speed) Spread() float64 {
	if s.n == 0 {
		return spreadAtFirst
	}
	return s.levels[s.recent].spread()
}

// AtLeast is the least θ at occupancy 1 that unfinished jobs leave possible, 0 when none tell.
func (s *Speed) AtLeast() float64 { return s.atLeast }

// Theta is the expected seconds of service per unit of cost when that many jobs, this one included,
// run there side by side. Requires: Known.
func (s *Speed) Theta(occupancy int) float64 {
	if s.n == 0 {
		return slowdown(float64(occupancy))
	}
	level := levelOf(occupancy)
	if l := &s.levels[level]; l.n > 0 {
		if occupancy == nominal(level) {
			return l.theta
		}
		return l.theta * slowdown(float64(occupancy)) / slowdown(float64(nominal(level)))
	}
	near := s.nearest(level)
	return s.levels[near].theta * slowdown(float64(occupancy)) / slowdown(float64(nominal(near)))
}

// Drift is the factor, at most 1, that Theta is to be multiplied with because nothing was seen for a
// while: the speed drifts to the best that is known, which is best, the least θ at occupancy 1 of the
// backend's class (0: nobody's), or what it once was itself. Without it a backend that was slow for a
// time would never be asked again.
func (s *Speed) Drift(now time.Duration, best float64) float64 {
	if s.n == 0 || now-s.last <= driftAfter {
		return 1
	}
	return math.Exp(-s.drift(now, best))
}

func (s *Speed) drift(now time.Duration, best float64) float64 {
	if s.n == 0 || now-s.last <= driftAfter {
		return 0
	}
	goal, own := s.fastest, math.Log(s.Theta(1))
	if best > 0 {
		goal = min(goal, math.Log(best))
	}
	if goal >= own {
		return 0
	}
	idle := now - s.last - driftAfter
	return (own - goal) * (1 - math.Exp2(-idle.Seconds()/driftHalfLife.Seconds()))
}

// Observe takes in a job that succeeded: what it cost, how long it took from dispatch to the last
// byte, and how many jobs ran there meanwhile, itself included, on average.
func (s *Speed) Observe(now, elapsed time.Duration, cost, occupancy, best float64) {
	if elapsed <= 0 || cost <= 0 {
		return
	}
	y := math.Log(elapsed.Seconds() / cost)
	occupancy = max(occupancy, 1)
	level := levelOf(int(math.Round(occupancy)))
	y -= math.Log(slowdown(occupancy) / slowdown(float64(nominal(level))))
	s.settleDrift(now, level, y, best)
	l := &s.levels[level]
	if l.n == 0 && s.n > 0 { // first seen at this occupancy: the spread is the backend's all the same
		l.variance = s.levels[s.recent].variance
	}
	if moved := l.observe(y); moved != 0 {
		for i := range s.levels {
			if i != level && s.levels[i].n > 0 {
				s.levels[i].shift(moved)
			}
		}
	}
	s.n++
	s.recent, s.last = level, now
	if l.n >= 2 {
		s.fastest = min(s.fastest, math.Log(s.Theta(1)))
	}
}

// Exceeded takes in a job that did not finish and had already run for elapsed. It can only raise θ.
func (s *Speed) Exceeded(now, elapsed time.Duration, cost, occupancy, best float64) {
	if elapsed <= 0 || cost <= 0 {
		return
	}
	occupancy = max(occupancy, 1)
	theta := elapsed.Seconds() / cost
	if s.n == 0 {
		if alone := theta / slowdown(occupancy); !s.guessed {
			s.atLeast = max(s.atLeast, alone)
		} else if alone > 1 {
			s.Observe(now, elapsed, cost, occupancy, best)
		}
		return
	}
	if theta > s.Theta(int(math.Round(occupancy))) {
		s.Observe(now, elapsed, cost, occupancy, best)
	}
}

// settleDrift decides, now that there is an observation again, whether the speed is what it was or
// what it drifted to: whichever is nearer. What it once was itself counts less after each time that
// it was not.
func (s *Speed) settleDrift(now time.Duration, level int, y, best float64) {
	by := s.drift(now, best)
	if by == 0 {
		return
	}
	held := math.Log(s.Theta(nominal(level)))
	if math.Abs(y-held) < math.Abs(y-(held-by)) {
		if own := math.Log(s.Theta(1)); s.fastest < own {
			s.fastest += (own - s.fastest) / 2
		}
		return
	}
	for i := range s.levels {
		if s.levels[i].n > 0 {
			s.levels[i].shift(-by)
		}
	}
}

// nearest is the observed level nearest to one that is not. Requires: n > 0.
func (s *Speed) nearest(level int) int {
	for d := 1; d < levels; d++ {
		if low := level - d; low >= 0 && s.levels[low].n > 0 {
			return low
		}
		if high := level + d; high < levels && s.levels[high].n > 0 {
			return high
		}
	}
	return s.recent
}

// slowdown is the assumed service time at an occupancy, relative to running alone (g(k) of the notes).
func slowdown(occupancy float64) float64 { return 1 + interference*(occupancy-1) }

func levelOf(occupancy int) int {
	return min(bits.Len(uint(max(occupancy, 1)))-1, levels-1)
}

// nominal is the occupancy that a level's observations are brought to.
func nominal(level int) int { return 1 << level }

// Stale says whether so long nothing was seen that Drift may be less than 1.
func (s *Speed) Stale(now time.Duration) bool { return s.n > 0 && now-s.last > driftAfter }
