// Package estimator learns how fast one backend is with one model, from what jobs took there. It is
// robust to outliers, notices within a few jobs that a speed has changed for good, and forgets
// slowly what it has not seen for a while. The formulas are those of section 8.1 of the scheduling
// notes. Time is an argument; a Speed is not safe for concurrent use.
package estimator

import "math"

const (
	spreadAtFirst = 0.3  // assumed until observations tell
	spreadMin     = 0.1  // below it an ordinary job would count as an outlier
	outlier       = 2.5  // in spreads, where an observation is clipped
	weightMin     = 0.1  // of an observation, once there are many
	spreadWeight  = 0.05 // the same for the spread
	spreadPrior   = 3    // observations that the first spread counts as
	// Outliers to the same side, running, that make a change: one more where jobs vary a lot anyway.
	runToChange      = 2
	runToChangeWide  = 3
	spreadCalledWide = 0.3
)

// estimate is a robust running mean of a logarithm.
type estimate struct {
	ln       float64 // of seconds of service per unit of cost
	theta    float64 // exp(ln), kept because placement asks for it far more often than it changes
	variance float64 // of the logarithm of actual / predicted
	n        int     // observations; 2 again after a change
	run      int     // outliers to the same side, running: positive above, negative below
	runSum   float64 // of their logarithms
	runNeeds int     // how many make a change, by the spread before the first of them
}

func (e *estimate) spread() float64 { return math.Sqrt(e.variance) }

func (e *estimate) threshold() float64 { return outlier * max(spreadMin, e.spread()) }

func (e *estimate) set(ln float64) { e.ln, e.theta = ln, math.Exp(ln) }

// observe takes in one logarithm and returns by how much a change moved the estimate, 0 when the
// observation was an ordinary one.
func (e *estimate) observe(y float64) (moved float64) {
	if e.n == 0 {
		e.n = 1
		if e.variance == 0 {
			e.variance = spreadAtFirst * spreadAtFirst
		}
		e.set(y)
		return 0
	}
	e.n++
	d, limit := y-e.ln, e.threshold()
	if before := e.ln; e.changed(y, d, limit) {
		return e.ln - before
	}
	clipped := min(max(d, -limit), limit)
	e.set(e.ln + max(weightMin, 1/float64(e.n))*clipped)
	e.variance += max(spreadWeight, 1/float64(e.n+spreadPrior)) * (clipped*clipped - e.variance)
	return 0
}

// changed counts outliers that run to the same side, and moves there once there are enough of them.
func (e *estimate) changed(y, d, limit float64) bool {
	if math.Abs(d) <= limit {
		e.run, e.runSum = 0, 0
		return false
	}
	if side := int(math.Copysign(1, d)); e.run*side > 0 {
		e.run, e.runSum = e.run+side, e.runSum+y
	} else {
		e.run, e.runSum, e.runNeeds = side, y, runToChange
		if e.spread() > spreadCalledWide {
			e.runNeeds = runToChangeWide
		}
	}
	length := max(e.run, -e.run)
	if length < e.runNeeds {
		return false
	}
	e.set(e.runSum / float64(length))
	e.n, e.run, e.runSum = 2, 0, 0
	return true
}

// shift moves the estimate without an observation.
func (e *estimate) shift(by float64) { e.set(e.ln + by) }

// shiftRun moves it together with the outliers that may become a change: they are in other units now.
func (e *estimate) shiftRun(by float64) {
	e.shift(by)
	e.runSum += float64(max(e.run, -e.run)) * by
}
