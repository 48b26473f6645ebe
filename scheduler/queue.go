package scheduler

import (
	"container/heap"
	"time"
)

// class is the queue of the jobs that can run on the same backends: same model, same needs. There is
// one for each, so that jobs for a model nobody is free to serve never hide others; placement merges
// them in order of arrival.
type class struct {
	capability
	modelIndex int
	first      *job
	last       *job
	waiting    int
	units      float64    // cost of the jobs that wait, in units of defaultCost
	serving    []*backend // those configured or reported for it, whatever state they are in
	// unservedSince is when the last backend that served it went from the configuration; only
	// meaningful while wasServed and serving is empty.
	unservedSince Instant
	wasServed     bool

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
	spread     float64            // of the members' jobs, on average
	gpuBest    map[string]float64 // by GPU class, see fastestOf
	cursor     *job
	looked     int
}

// classFor returns the class of a job, new if need be; nil when nobody ever served such jobs, so that
// whatever a client asks for leaves nothing behind.
func (s *Scheduler) classFor(j Job) *class {
	key := capability{j.Model, j.Needs}
	if c := s.classOf[key]; c != nil {
		return c
	}
	c := &class{capability: key, gpuBest: make(map[string]float64)}
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
	c := j.class
	after := c.last
	if after != nil && after.order > j.order {
		after = nil
		for at := c.first; at != nil && at.order < j.order; at = at.next {
			after = at
		}
	}
	j.prev = after
	if after == nil {
		j.next, c.first = c.first, j
	} else {
		j.next, after.next = after.next, j
	}
	if j.next == nil {
		c.last = j
	} else {
		j.next.prev = j
	}
	j.queued, j.queuedSince = true, s.now
	c.waiting++
	c.units += defaultUnits(j.AudioSeconds)
	s.waiting++
	s.waitingBytes += j.Bytes
	j.expires = s.expiryOf(j)
	heap.Push(&s.expiries, j)
}

// dequeue takes a job out of its queue, from wherever it is.
func (s *Scheduler) dequeue(j *job) {
	c := j.class
	if j.prev == nil {
		c.first = j.next
	} else {
		j.prev.next = j.next
	}
	if j.next == nil {
		c.last = j.prev
	} else {
		j.next.prev = j.prev
	}
	j.prev, j.next = nil, nil
	j.waited = j.waitedBy(s.now)
	j.queued = false
	c.waiting--
	if c.units -= defaultUnits(j.AudioSeconds); c.waiting == 0 {
		c.units = 0 // no rounding error outlives the queue
	}
	s.waiting--
	s.waitingBytes -= j.Bytes
	heap.Remove(&s.expiries, j.expiryIndex)
}

// never is an instant that does not come.
const never = Instant(1<<63 - 1)

// expiryOf is when a job that waits has waited too long, or its client has.
func (s *Scheduler) expiryOf(j *job) Instant {
	at := never
	if most := s.cfg.Queue.MaxWait; most > 0 {
		at = j.queuedSince.Add(max(0, most-j.waited))
	}
	if j.Deadline > 0 {
		at = min(at, j.Deadline)
	}
	return at
}

// expire settles the jobs that have waited too long.
func (s *Scheduler) expire() {
	for {
		j := s.expiries.first()
		if j == nil || j.expires > s.now {
			return
		}
		reason := WaitTooLong
		if j.Deadline > 0 && j.Deadline <= s.now {
			reason = DeadlinePassed
		}
		s.settle(j, reason, s.drainHint(j.class))
	}
}

// renewExpiries follows a change of Queue.MaxWait.
func (s *Scheduler) renewExpiries() {
	for _, j := range s.expiries {
		j.expires = s.expiryOf(j)
	}
	heap.Init(&s.expiries)
}

// oldestWait is the longest of the present stays in the queue.
func (s *Scheduler) oldestWait(now Instant) time.Duration {
	oldest := time.Duration(0)
	for _, c := range s.classes {
		if c.first != nil {
			oldest = max(oldest, c.first.waitedBy(now))
		}
	}
	return oldest
}

// expiries is a heap of the jobs that wait, by expiry and then by order, for package heap.
type expiries []*job

func (e expiries) first() *job {
	if len(e) == 0 || e[0].expires == never {
		return nil
	}
	return e[0]
}

func (e expiries) Len() int { return len(e) }
func (e expiries) Less(i, j int) bool {
	if e[i].expires != e[j].expires {
		return e[i].expires < e[j].expires
	}
	return e[i].order < e[j].order
}

func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].expiryIndex, e[j].expiryIndex = i, j
}

func (e *expiries) Push(x any) {
	j := x.(*job)
	j.expiryIndex = len(*e)
	*e = append(*e, j)
}

func (e *expiries) Pop() any {
	last := len(*e) - 1
	j := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	return j
}
