package estimator

import "math"

// How much of a job each other job beside it on the backend costs it. At first it is assumed that jobs side by side
// gain little over one after the other; other laws are tried: slots that do not slow each other down (a service that
// has many machines behind one address), and cards that have room for several jobs.
const (
	assumed = 0 // law
	laws    = 4
)

var interference = [laws]float64{assumed: 0.8, 1: 0.4, 2: 0.12, 3: 0}

const (
	// A law is taken when it is this much likelier than the one in use, as a logarithm, by what each has
	// foretold of the same jobs. The drain of one burst of 14 slots is worth about 5, so that 5 would miss every
	// fourth; 2 would hardly find more.
	likelierToTake = 3.0
	// likelierMax bounds what the law in use gains on another, so that a change is noticed.
	likelierMax = 5.0
)

// slowdown is the service time at an occupancy, relative to running alone (g(k) of the notes).
func slowdown(law int, occupancy float64) float64 { return 1 + interference[law]*(occupancy-1) }

// sharing finds out which law of slowdown foretells best. Each is judged by jobs of different occupancy: were all
// jobs run with equally many beside them, no law would be better than another.
type sharing struct {
	law    int            // in use
	alone  [laws]estimate // of ln θ at occupancy 1 by each law, from jobs of any occupancy
	scores [laws]float64  // how much likelier each is than the one in use, as a logarithm
}

// judge takes in the logarithm of the seconds per unit of cost that a job took at an occupancy, and says whether
// another law is the best now.
func (s *sharing) judge(y, occupancy, spread float64) (changed bool) {
	sigma := max(spreadMin, spread)
	limit := outlier * sigma
	var unlikely [laws]float64
	for i := range s.alone {
		e := &s.alone[i]
		alone := y - math.Log(slowdown(i, occupancy))
		if e.n > 0 {
			d := min(max(alone-e.ln, -limit), limit) / sigma
			unlikely[i] = d * d / 2
		}
		e.observe(alone)
	}
	best := s.law
	for i := range s.scores {
		s.scores[i] = max(s.scores[i]+unlikely[s.law]-unlikely[i], -likelierMax)
		if s.scores[i] > s.scores[best] {
			best = i
		}
	}
	if s.scores[best] < likelierToTake {
		return false
	}
	s.take(best)
	return true
}

// take takes a law into use.
func (s *sharing) take(law int) {
	by := s.scores[law]
	for i := range s.scores {
		s.scores[i] = max(s.scores[i]-by, -likelierMax)
	}
	s.law = law
}

// shift moves what is held of all laws.
func (s *sharing) shift(by float64) {
	for i := range s.alone {
		if e := &s.alone[i]; e.n > 0 {
			e.shiftRun(by)
		}
	}
}

// restore takes on the law by what it says of two jobs side by side.
func (s *sharing) restore(besideOne float64) {
	for i := range interference {
		if slowdown(i, 2) == besideOne {
			s.law = i
		}
	}
}
