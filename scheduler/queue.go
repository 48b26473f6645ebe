package scheduler

import (
	"container/heap"
	"time"
)

// class is the queue of the jobs that can run on the same backends: same model, same needs. There is
// one for each, so that jobs for a model nobody is free to serve never hide others; placement merges
// them in the order that order.go tells.
type class struct {
	capability
	modelIndex int
	flows      flows // by key
	flowOf     map[Tenant]*flow
	levels     [bands]int
	waiting    int
	shortOnes  int // of them, see job.isShort
	waitingIn  [bands]int
	units      [bands]float64 // cost of the jobs that wait, in units of defaultCost
	serving    []*backend     // those configured or reported for it, whatever state they are in
	// unservedSince is when the last backend that served it went from the configuration; only
	// meaningful while wasServed and serving is empty.
	unservedSince Instant
	wasServed     bool
	typical       float64 // View.Typical, in nanoseconds

	// Scratch space of a placement round.
	members    []member
	offers     []Candidate        // by member
	takers     []*backend         // by member
	lines      []line             // by member
	free, busy []lane             // of the members that are idle, and of the others
	place      []int              // by the backend's number: where it is among the members, if it is one
	bound      uint64             // the round that the members are of
	idle       bool               // some member is
	plain      bool               // no member needs a closer look than its speed
	gpuBest    map[string]float64 // by GPU class, see fastestOf
	perUnit    float64            // seconds that a unit takes on the fastest member
	looked     int
}

// classFor returns the class of a job, new if need be; nil when nobody ever served such jobs, so that
// whatever a client asks for leaves nothing behind.
func (s *Scheduler) classFor(j Job) *class {
	key := capability{j.Model, j.Needs}
	if c := s.classOf[key]; c != nil {
		return c
	}
	c := &class{capability: key, gpuBest: make(map[string]float64), flowOf: make(map[Tenant]*flow), levels: plainLevels}
	s.findServing(c)
	if len(c.serving) == 0 {
		return nil
	}
	c.modelIndex = s.modelIndex(j.Model)
	s.classOf[key] = c
	s.classes = append(s.classes, c)
	return c
}

func (s *Scheduler) modelIndex(model string) int {
	i, ok := s.models[model]
	if !ok {
		i = len(s.models)
		s.models[model] = i
		s.modelNames = append(s.modelNames, model)
	}
	return i
}

// findServing lists anew who serves the class.
func (s *Scheduler) findServing(c *class) {
	c.serving = c.serving[:0]
	for _, b := range s.pool {
		if b.serves(c) {
			c.serving = append(c.serving, b)
		}
	}
	switch {
	case len(c.serving) > 0:
		c.wasServed = true
	case c.wasServed:
		c.wasServed, c.unservedSince = false, s.now
	}
}

// enqueue puts a job where its order says, which is near the front for one that is retried and at
// the end for one that arrives.
func (s *Scheduler) enqueue(j *job) {
	c, t := j.class, j.tenant
	if t.waiting == 0 { // it has had its share of what was served meanwhile, but for a little
		t.turn = max(t.turn, s.virtual-turnCredit*s.costOf(j))
	}
	f := s.flowFor(j)
	f.jobs[j.band].insert(j, s.behind(f, j))
	j.flow, j.queued, j.queuedSince = f, true, s.now
	units := defaultUnits(j.AudioSeconds)
	c.waiting++
	if j.isShort() {
		c.shortOnes++
	}
	c.waitingIn[j.band]++
	c.units[j.band] += units
	s.waiting++
	s.waitingIn[j.band]++
	s.waitingBytes += j.Bytes
	t.waiting++
	t.units += units
	f.rewind()
	j.expires = s.expiryOf(j)
	heap.Push(&s.expiries, j)
}

// behind is the job that another one goes behind, nil for the front:
//
//  1. Retried: at its old place, before all that came later.
//  2. It came last, and the shortest go first: it passes longer ones, none of which has been passed
//     overtakesMax times or has had an attempt.
//  3. Else at the end.
func (s *Scheduler) behind(f *flow, j *job) *job {
	l := &f.jobs[j.band]
	if l.last != nil && l.last.order > j.order { // (1)
		var after *job
		for at := l.first; at != nil && at.order < j.order; at = at.next {
			after = at
		}
		return after
	}
	after := l.last
	if s.cfg.Queue.Order == ShortestFirst && !j.SizeGuessed && s.predictsWell(j.class) { // (2)
		for after != nil && after.passable(j) {
			after.overtaken++
			after = after.prev
		}
	}
	return after // (3)
}

// What may be overtaken where the shortest go first.
const (
	overtakesMax   = 4
	overtakeSpread = 0.3 // where service times vary more, sizes tell too little
)

func (j *job) passable(by *job) bool {
	return !j.SizeGuessed && j.AudioSeconds > by.AudioSeconds && j.overtaken < overtakesMax && j.attempts == 0
}

// predictsWell says whether the service times of a class are learned, and vary little.
func (s *Scheduler) predictsWell(c *class) bool {
	seen := false
	for _, b := range c.serving {
		if speed := s.speed(b, c.modelIndex); speed.Observations() > 0 {
			if speed.Spread() >= overtakeSpread {
				return false
			}
			seen = true
		}
	}
	return seen
}

// insert puts a job behind another, or at the front.
func (l *list) insert(j, after *job) {
	j.prev = after
	if after == nil {
		j.next, l.first = l.first, j
	} else {
		j.next, after.next = after.next, j
	}
	if j.next == nil {
		l.last = j
	} else {
		j.next.prev = j
	}
}

func (l *list) remove(j *job) {
	if j.prev == nil {
		l.first = j.next
	} else {
		j.prev.next = j.next
	}
	if j.next == nil {
		l.last = j.prev
	} else {
		j.next.prev = j.prev
	}
	j.prev, j.next = nil, nil
}

// dequeue takes a job out of its queue, from wherever it is.
func (s *Scheduler) dequeue(j *job) {
	c, f, t := j.class, j.flow, j.tenant
	f.jobs[j.band].remove(j)
	j.waited = j.waitedBy(s.now)
	j.flow, j.queued = nil, false
	if j.owes {
		j.owes = false
		s.budget.debtors--
	}
	units := defaultUnits(j.AudioSeconds)
	c.waiting--
	if j.isShort() {
		c.shortOnes--
	}
	c.waitingIn[j.band]--
	if c.units[j.band] -= units; c.waitingIn[j.band] == 0 {
		c.units[j.band] = 0 // no rounding error outlives the queue
	}
	s.waiting--
	s.waitingIn[j.band]--
	s.waitingBytes -= j.Bytes
	t.waiting--
	if t.units -= units; t.waiting == 0 {
		t.units = 0
	}
	switch {
	case f.empty():
		s.drop(f)
	case !f.moved: // else the round does when it ends
		f.rewind()
	}
	heap.Remove(&s.expiries, j.expiryIndex)
}

// waitingUnits is the cost of all jobs of the class that wait.
func (c *class) waitingUnits() (units float64) {
	for _, u := range c.units {
		units += u
	}
	return units
}

// oldestWait is the longest of the present stays in the queue.
func (s *Scheduler) oldestWait(now Instant) time.Duration {
	oldest := time.Duration(0)
	for _, c := range s.classes {
		for _, f := range c.flows {
			for _, l := range f.jobs {
				if l.first != nil {
					oldest = max(oldest, l.first.waitedBy(now))
				}
			}
		}
	}
	return oldest
}
