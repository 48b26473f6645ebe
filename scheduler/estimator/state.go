package estimator

import (
	"errors"
	"math"
	"time"
)

// State is what has been learned of a speed, as plain data.
type State struct {
	Cost         Cost
	Levels       []Level
	Observations int
	Fastest      float64 // the least seconds per unit that were ever held for a job alone; 0: not known
	// BesideOne is how many times as long as alone a job is expected to take beside another, where that has not
	// been seen; 0: as assumed at first.
	BesideOne float64 `json:",omitempty"`
}

// Level is what has been learned at one occupancy.
type Level struct {
	Occupancy    int
	Theta        float64 // seconds per unit of cost
	Spread       float64
	Observations int
}

// State copies what has been learned.
func (s *Speed) State() State {
	st := State{Cost: s.Cost, Observations: s.n, BesideOne: slowdown(s.sharing.law, 2)}
	if !math.IsInf(s.fastest, 1) {
		st.Fastest = math.Exp(s.fastest)
	}
	for i := range s.levels {
		if l := &s.levels[i]; l.n > 0 {
			st.Levels = append(st.Levels, Level{Occupancy: nominal(i), Theta: l.theta, Spread: l.spread(), Observations: l.seen})
		}
	}
	return st
}

// Validate says what is wrong with a state that comes from outside.
func (st State) Validate() error {
	positive := func(x float64) bool { return x > 0 && x < 1e9 }
	if st.BesideOne != 0 && !(st.BesideOne >= 1 && st.BesideOne <= 2) {
		return errors.New("how much a job takes beside another is out of range")
	}
	c := st.Cost
	if c.Fixed < 0 || c.PerSecond < 0 || c.PerWindow < 0 || !positive(c.Of(referenceSeconds)) {
		return errors.New("the cost is not one of a job")
	}
	if st.Observations < 1 || len(st.Levels) == 0 || st.Fastest < 0 || !(st.Fastest < 1e9) {
		return errors.New("nothing has been learned")
	}
	for _, l := range st.Levels {
		if l.Occupancy < 1 || !positive(l.Theta) || !(l.Spread >= 0 && l.Spread < 10) || l.Observations < 1 {
			return errors.New("an occupancy, its speed, spread or count is out of range")
		}
	}
	return nil
}

// restoredSeen is how many jobs the offsets of a restored speed count as: they hold for the reference clip only,
// where the shape is not the one that was learned.
const restoredSeen = 2

// referenceSeconds is the clip by which costs of different shapes are compared.
const referenceSeconds = 10.0

// Restore takes on what was learned before; last is when. Requires: the state is valid, and the speed new.
func (s *Speed) Restore(st State, last time.Duration) {
	s.is = own
	for i, c := range tried {
		if c == st.Cost {
			s.is = i
		}
	}
	s.Cost = s.costOf(s.is)
	scale := math.Log(st.Cost.Of(referenceSeconds) / s.Cost.Of(referenceSeconds)) // 0 but for a law that has changed
	for _, l := range st.Levels {
		e := &s.levels[levelOf(l.Occupancy)]
		e.n, e.seen, e.variance, e.at = l.Observations, l.Observations, l.Spread*l.Spread, float64(l.Occupancy)
		e.set(math.Log(l.Theta) + scale)
		s.recent = levelOf(l.Occupancy)
	}
	s.n, s.last = st.Observations, last
	s.sharing.restore(st.BesideOne)
	s.refresh()
	if st.Fastest > 0 {
		s.fastest = math.Log(st.Fastest) + scale
		s.best = s.fastest
	}
	reference := math.Log(s.Theta(1) * s.Cost.Of(referenceSeconds))
	for i := range s.offsets {
		s.offsets[i] = reference - math.Log(s.costOf(i).Of(referenceSeconds))
	}
	s.seen = min(st.Observations, restoredSeen)
	if s.shape.n == 0 {
		s.shape.best = s.is
	}
	s.Adopt()
}
