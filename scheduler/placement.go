package scheduler

import (
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	lookMax = 64 // jobs of a class looked at in one round
	// A job that chose to wait is looked at again when somebody is expected to be free, but at least
	// every reviewMax: without that, nobody would notice that a backend hangs.
	reviewMin = 10 * time.Millisecond
	reviewMax = 100 * time.Millisecond
	// A job that has waited starvingFactor times what was predicted for it takes any idle backend.
	starvingFactor = 2
	starvingMin    = 2 * time.Second
	// typicalWeight is that of one job in what is typical of its class.
	typicalWeight = 0.02
)

// place starts what can be started: the jobs that wait, in the order of the queue over all classes, each on
// the backend that its policy says.
func (s *Scheduler) place(arrived *job) {
	s.round.declined, s.round.soonest = false, reviewMax
	if s.waiting == 0 || !s.survey() {
		return
	}
	s.round.number++
	s.bindAll()
	for f := s.nextFlow(); f != nil; f = s.nextFlow() {
		j := s.look(f)
		s.consider(j, j == arrived)
		s.lookedAt(j)
	}
	s.endRound()
	if s.round.declined {
		s.wakeAt(s.now.Add(max(s.round.soonest, reviewMin)))
	}
}

// consider places one job or leaves it waiting:
//
//  1. It arrives with a deadline that even the best completion misses: it is refused.
//  2. It has waited far longer than predicted: the idle backend that is fastest for it.
//  3. Else as the policy says: a backend now, or one to wait for, whose time it is charged for, so
//     that later jobs look past it. Where nobody it may go to is idle, it can only wait.
func (s *Scheduler) consider(j *job, arrived bool) {
	c := j.class
	idle := s.offer(c, j)
	view := &s.round.view
	if len(view.Candidates) == 0 {
		return
	}
	if !s.redeem(j, idle) {
		return
	}
	if arrived && j.Deadline > 0 && s.missesDeadline(j, view) { // (1)
		s.settle(j, DeadlinePassed, s.drainHint(j))
		return
	}
	var p Placement
	if idle && j.starving(s.now) { // (2)
		p = Placement{Backend: fastestIdle(view), Reason: Starving}
	} else { // (3)
		p = s.policy.Place(j.Job, *view)
	}
	switch {
	case p.Backend != "":
		c.placed(view)
		b, candidate := s.chosen(p.Backend)
		s.dispatch(j, b, candidate, p.Reason)
		return
	case p.WaitFor != "":
		b, candidate := s.chosen(p.WaitFor)
		if j.expected < 0 {
			j.expected = j.waitedBy(s.now) + candidate.FreeIn
		}
		if idle && j.declined.For == "" {
			j.decline(s.now, view, candidate)
		}
		b.reserve(candidate.Predicted)
		s.refresh(b)
	}
	s.round.declined = s.round.declined || idle
}

// placed learns from a job that is placed what is typical of its class.
func (c *class) placed(view *View) {
	o := view.Outlook()
	if !o.Known {
		return
	}
	takes := float64(view.Predicted(o.Best.Index))
	if c.typical == 0 {
		c.typical = takes
	}
	c.typical += typicalWeight * (takes - c.typical)
}

// chosen is the candidate that a policy named, with its Predicted filled in; naming another is its bug.
func (s *Scheduler) chosen(id BackendID) (*backend, *Candidate) {
	view := &s.round.view
	var at int
	if o := view.foreseen; o != nil && o.Best.OK && view.Candidates[o.Best.Index].Backend == id {
		at = o.Best.Index
	} else {
		at = slices.IndexFunc(view.Candidates, func(c Candidate) bool { return c.Backend == id })
	}
	if at >= 0 {
		c := &view.Candidates[at]
		c.Predicted = view.Predicted(at)
		return s.round.shown[at], c
	}
	panic(fmt.Sprintf("scheduler: policy %s chose %q, which is not a candidate", s.policy.Name(), id))
}

// starving says whether the job waits for far longer than was predicted.
func (j *job) starving(now Instant) bool {
	return j.expected >= 0 && j.waitedBy(now) > max(starvingFactor*j.expected, starvingMin)
}

func fastestIdle(view *View) BackendID {
	best, least := BackendID(""), time.Duration(math.MaxInt64)
	for i := range view.Candidates {
		if c := &view.Candidates[i]; c.Idle && view.Predicted(i) < least {
			best, least = c.Backend, view.Predicted(i)
		}
	}
	return best
}

// offer fills the view with the backends that a job may go to, and says whether one of them is idle.
func (s *Scheduler) offer(c *class, j *job) (idle bool) {
	view := &s.round.view
	view.Now, view.Placements = s.now, s.placements
	view.Typical, view.Waiting = time.Duration(c.typical), c.waiting-1
	view.foreseen = nil
	if !c.plain || len(j.failedOn) > 0 {
		return s.offerSome(c, j)
	}
	view.Candidates, s.round.shown = c.offers, c.takers
	if s.byOutlook {
		f := &s.round.foreseen
		f.Outlook, f.lines, f.size = c.outlook(j.size), c.lines, j.size
		view.foreseen = f
		return c.idle
	}
	for i := range c.lines {
		c.offers[i].Predicted = c.lines[i].at(j.size)
	}
	return c.idle
}
