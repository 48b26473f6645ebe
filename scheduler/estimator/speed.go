package estimator

import (
	"math"
	"time"
)

const (
	// patience is how long a speed is held without an observation, and then the half-life of its drift. One
	// that changed for the worse fewer than sureFrom observations ago is doubted sooner, by as much: two jobs
	// that took long of themselves look like a backend that has become slow.
	patience = 30 * time.Second
	sureFrom = 20
)

// Speed is what is known of one backend's speed with one model: seconds of service per unit of cost
// (θ of the notes), apart for each octave of occupancy, since jobs side by side slow each other down.
type Speed struct {
	Cost    Cost
	shape   *Shape
	is      int // which shape Cost is
	own     Cost
	guessed bool // own is a law in seconds of service, so that θ is 1 until observed
	levels  [levels]level
	sharing sharing
	// thetas are what Theta says of the levels' nominal occupancies: what was seen there, and as far as that
	// is little also what follows from the other levels.
	thetas [levels]float64
	// offsets are the means of ln θ at occupancy 1 that the jobs since the last change give with each shape,
	// and seen is how many these are.
	offsets [shapes]float64
	seen    int
	n       int // observations over all levels
	since   int // observations since it changed for the worse, sureFrom at the most
	last    time.Duration
	recent  int     // the level observed last
	fastest float64 // the least ln θ at occupancy 1 that was ever held, as far as that is not forgotten; see settleDrift
	best    float64 // the same, which is never forgotten
	// atLeast is the highest θ at occupancy 1 that a job is known to have exceeded while nothing
	// else was known.
	atLeast float64
}

// New returns a speed of which nothing is known; backends that are alike share a shape.
func New(shape *Shape) *Speed { return speedOf(shape, Cost{Fixed: fixedAtFirst, PerSecond: 1}) }

// FromLaw returns a speed that is expected to follow a law, in seconds, until jobs show better.
func FromLaw(fixed, perSecond time.Duration, shape *Shape) *Speed {
	s := speedOf(shape, Cost{Fixed: fixed.Seconds(), PerSecond: perSecond.Seconds()})
	s.guessed = true
	return s
}

func speedOf(shape *Shape, c Cost) *Speed {
	return &Speed{Cost: c, own: c, shape: shape, fastest: math.Inf(1), best: math.Inf(1), since: sureFrom}
}

// Shape is what the speed shares with those alike.
func (s *Speed) Shape() *Shape { return s.shape }

// Known says whether anything has been learned or was told.
func (s *Speed) Known() bool { return s.n > 0 || s.guessed }

// Observations counts what it was learned from.
func (s *Speed) Observations() int { return s.n }

// SeenAlone counts the jobs that ran alone and were observed, since the last change.
func (s *Speed) SeenAlone() int { return s.levels[0].n }

// Spread is the standard deviation of the log of actual / predicted.
func (s *Speed) Spread() float64 {
	if s.n == 0 {
		return spreadAtFirst
	}
	return s.levels[s.recent].spread()
}

// LastSeen is when a job was last observed.
func (s *Speed) LastSeen() time.Duration { return s.last }

// AtLeast is the least θ at occupancy 1 that unfinished jobs leave possible, 0 when none tell.
func (s *Speed) AtLeast() float64 { return s.atLeast }

// Theta is the expected seconds of service per unit of cost when that many jobs, this one included,
// run there side by side. Requires: Known.
func (s *Speed) Theta(occupancy int) float64 {
	law := s.sharing.law
	if s.n == 0 {
		return slowdown(law, float64(occupancy))
	}
	level := levelOf(occupancy)
	if occupancy == nominal(level) {
		return s.thetas[level]
	}
	return s.thetas[level] * slowdown(law, float64(occupancy)) / slowdown(law, float64(nominal(level)))
}

// Drift is the factor, at most 1, that Theta is to be multiplied with because nothing was seen for a
// while: the speed drifts to the best that is known, which is best, the least θ at occupancy 1 of the
// backend's class (0: nobody's), or what it once was itself. Without it a backend that was slow for a
// time would never be asked again.
func (s *Speed) Drift(now time.Duration, best float64) float64 {
	if !s.Stale(now) {
		return 1
	}
	return math.Exp(-s.drift(now, best))
}

func (s *Speed) drift(now time.Duration, best float64) float64 {
	if !s.Stale(now) {
		return 0
	}
	goal, own := s.fastest, math.Log(s.Theta(1))
	if best > 0 {
		goal = min(goal, math.Log(best))
	}
	if goal >= own {
		return 0
	}
	idle := now - s.last - s.held()
	return (own - goal) * (1 - math.Exp2(-idle.Seconds()/s.held().Seconds()))
}

// Fallen is how many times slower than it ever was the speed is, or than best, which is as Drift's; 1 at the least.
func (s *Speed) Fallen(best float64) float64 {
	goal := s.best
	if best > 0 {
		goal = min(goal, math.Log(best))
	}
	return max(1, math.Exp(math.Log(s.Theta(1))-goal))
}

// Observation is a job that ran.
type Observation struct {
	Now, Elapsed time.Duration // Elapsed from dispatch to the last byte
	AudioSeconds float64
	Occupancy    float64 // how many jobs ran there meanwhile, itself included, on average
	Best         float64 // see Drift
}

// Observe takes in a job that succeeded. It says whether the shape that the speed shares has changed: then the
// others are to Adopt it.
func (s *Speed) Observe(o Observation) (reshaped bool) {
	if o.Elapsed <= 0 || s.Cost.Of(o.AudioSeconds) <= 0 {
		return false
	}
	y := math.Log(o.Elapsed.Seconds() / s.Cost.Of(o.AudioSeconds))
	moved := s.learn(o, y)
	if moved != 0 {
		s.seen = 0
	}
	if s.since = min(s.since+1, sureFrom); moved > 0 {
		s.since = runToChange
	}
	if was := s.sharing.law; s.sharing.judge(y, max(o.Occupancy, 1), s.Spread()) {
		s.resettle(was)
	}
	reshaped = s.judgeShapes(o)
	s.Adopt()
	return reshaped
}

// learn takes an observation into the estimate of its level, and returns by how much a change moved that. y is the
// logarithm of the seconds per unit that it took.
func (s *Speed) learn(o Observation, y float64) (moved float64) {
	occupancy := max(o.Occupancy, 1)
	at := levelOf(int(math.Round(occupancy)))
	y -= within(s.sharing.law, at, occupancy)
	s.settleDrift(o.Now, at, y, o.Best)
	l := &s.levels[at]
	if l.n == 0 && s.n > 0 { // first seen at this occupancy: the spread is the backend's all the same
		l.variance = s.levels[s.recent].variance
	}
	if moved = l.take(y, occupancy); moved != 0 {
		for i := range s.levels {
			if i != at && s.levels[i].n > 0 {
				s.levels[i].shift(moved)
			}
		}
	}
	s.n++
	s.recent, s.last = at, o.Now
	s.refresh()
	if l.n >= 2 {
		own := math.Log(s.Theta(1))
		s.fastest, s.best = min(s.fastest, own), min(s.best, own)
	}
	return moved
}

// judgeShapes says what each shape would have made of a job, had it been the speed's. The first job after a change
// judges none, but is where each starts from.
func (s *Speed) judgeShapes(o Observation) (reshaped bool) {
	alone := math.Log(o.Elapsed.Seconds() / s.slowdownLearned(max(o.Occupancy, 1)))
	limit := outlier * max(spreadMin, s.Spread())
	s.seen++
	weight := max(weightMin, 1/float64(s.seen))
	var errors [shapes]float64
	for i := range s.offsets {
		y := alone - math.Log(s.costOf(i).Of(o.AudioSeconds))
		if s.seen == 1 {
			s.offsets[i] = y
			continue
		}
		errors[i] = min(max(y-s.offsets[i], -limit), limit)
		s.offsets[i] += weight * errors[i]
	}
	return s.seen > 1 && s.shape.take(&errors)
}

// slowdownLearned is how much longer a job takes at an occupancy than alone.
func (s *Speed) slowdownLearned(occupancy float64) float64 {
	level := nominal(levelOf(int(math.Round(occupancy))))
	law := s.sharing.law
	return s.Theta(level) / s.Theta(1) * slowdown(law, occupancy) / slowdown(law, float64(level))
}

func (s *Speed) costOf(shape int) Cost {
	if shape == own {
		return s.own
	}
	return tried[shape]
}

// Adopt takes on the shape that those alike have found best. What is predicted for an ordinary job stays.
func (s *Speed) Adopt() {
	best := s.shape.best
	if best == s.is || s.n == 0 {
		return
	}
	by := s.offsets[best] - s.offsets[s.is]
	for i := range s.levels {
		if l := &s.levels[i]; l.n > 0 {
			l.shiftRun(by)
		}
	}
	s.sharing.shift(by)
	s.fastest += by
	s.best += by
	s.Cost, s.is = s.costOf(best), best
	s.refresh()
}

// Exceeded takes in a job that did not finish and had already run for Elapsed. It can only raise θ.
func (s *Speed) Exceeded(o Observation) {
	cost := s.Cost.Of(o.AudioSeconds)
	if o.Elapsed <= 0 || cost <= 0 {
		return
	}
	occupancy := max(o.Occupancy, 1)
	theta, assumed := o.Elapsed.Seconds()/cost, slowdown(s.sharing.law, occupancy)
	switch {
	case s.n == 0 && !s.guessed:
		s.atLeast = max(s.atLeast, theta/assumed)
	case s.n == 0 && theta > assumed, s.n > 0 && theta > s.Theta(int(math.Round(occupancy))):
		if s.learn(o, math.Log(theta)) != 0 || s.seen == 0 {
			s.seen = 0
			s.judgeShapes(o) // judges none, see there
		}
		s.since = sureFrom // whoever did not answer at all is no case of bad luck
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
	for i := range s.offsets {
		s.offsets[i] -= by
	}
	s.sharing.shift(-by)
	s.refresh()
}

// Stale says whether so long nothing was seen that Drift may be less than 1.
func (s *Speed) Stale(now time.Duration) bool { return s.n > 0 && now-s.last > s.held() }

// held is how long the speed is held without an observation.
func (s *Speed) held() time.Duration {
	return patience * time.Duration(s.since) / sureFrom
}
