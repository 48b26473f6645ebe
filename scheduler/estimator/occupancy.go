package estimator

import (
	"math"
	"math/bits"
)

const (
	levels = 7 // occupancies 1, 2-3, 4-7, ... 64 and more

	// levelTrusted observations of a level are believed by themselves. Fewer are weighed against what follows from
	// the other levels, since the few jobs that ran at an occupancy where the backend seldom is, as while a burst
	// drains, are not ordinary ones: they are the last because they took long.
	levelTrusted = 8
	// levelHeaviest observations of another level weigh as much as more would.
	levelHeaviest = 20
)

// level is what was seen at an octave of occupancy, brought to its nominal one.
type level struct {
	estimate
	at   float64 // the mean occupancy of the jobs lately
	seen int     // how many there were, those before a change included
}

// take takes in an observation that has been brought to the nominal occupancy from another.
func (l *level) take(y, occupancy float64) (moved float64) {
	moved = l.observe(y)
	l.seen++
	l.at += max(weightMin, 1/float64(l.seen)) * (occupancy - l.at)
	return moved
}

func levelOf(occupancy int) int {
	return min(bits.Len(uint(max(occupancy, 1)))-1, levels-1)
}

// nominal is the occupancy that a level's observations are brought to.
func nominal(level int) int { return 1 << level }

// within is the logarithm of the slowdown at an occupancy, relative to that at the nominal one of its level.
func within(law, level int, occupancy float64) float64 {
	return math.Log(slowdown(law, occupancy) / slowdown(law, float64(nominal(level))))
}

// refresh works out thetas. Requires: n > 0.
func (s *Speed) refresh() {
	for i := range s.levels {
		l := &s.levels[i]
		own := min(1, float64(l.seen)/levelTrusted)
		if own == 1 {
			s.thetas[i] = l.theta
			continue
		}
		if others, ok := s.byOthers(i); !ok {
			s.thetas[i] = l.theta
		} else {
			s.thetas[i] = math.Exp(own*l.ln + (1-own)*others)
		}
	}
}

// byOthers is ln θ at a level, as far as other levels tell by the law of slowdown: the nearer, the more.
func (s *Speed) byOthers(level int) (ln float64, ok bool) {
	at, sum, weights := float64(nominal(level)), 0.0, 0.0
	for i := range s.levels {
		l := &s.levels[i]
		if i == level || l.seen == 0 {
			continue
		}
		weight := math.Ldexp(float64(min(l.seen, levelHeaviest)), -max(i-level, level-i))
		sum, weights = sum+weight*(l.ln+within(s.sharing.law, i, at)), weights+weight
	}
	return sum / weights, weights > 0
}

// resettle brings what was learned to another law of slowdown: what was foretold of jobs such as were seen stays.
func (s *Speed) resettle(was int) {
	alone := s.thetas[0]
	for i := range s.levels {
		if l := &s.levels[i]; l.seen > 0 {
			l.shiftRun(within(was, i, l.at) - within(s.sharing.law, i, l.at))
		}
	}
	s.refresh()
	by := math.Log(s.thetas[0] / alone)
	s.fastest += by
	s.best += by
}
