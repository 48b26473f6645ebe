package scheduler

import (
	"container/heap"
	"iter"
	"math"
)

// list is jobs in the order in which they are to be looked at.
type list struct{ first, last *job }

// flow is the jobs of one tenant that wait in one class. There are only such with jobs.
type flow struct {
	class  *class
	tenant *tenant
	jobs   [bands]list
	index  int // in the heap of the class

	// As the round in progress sees it; outside of rounds as if none were.
	cursors [bands]*job
	key     flowKey // the heap is ordered by it; it may lag behind, as the tenant's turn grows
	moved   bool    // the round has changed it
}

// flowKey says which flow is next.
type flowKey struct {
	level int
	turn  float64
	rank  Instant
	order uint64
}

func (k flowKey) before(o flowKey) bool {
	switch {
	case k.level != o.level:
		return k.level < o.level
	case k.turn != o.turn:
		return k.turn < o.turn
	case k.rank != o.rank:
		return k.rank < o.rank
	default:
		return k.order < o.order
	}
}

// exhausted is the key of a flow that has no more jobs to look at.
var exhausted = flowKey{level: math.MaxInt}

func (f *flow) empty() bool {
	for _, l := range f.jobs {
		if l.first != nil {
			return false
		}
	}
	return true
}

// all goes through the jobs, band by band.
func (f *flow) all() iter.Seq[*job] {
	return func(yield func(*job) bool) {
		for _, l := range f.jobs {
			for j := l.first; j != nil; j = j.next {
				if !yield(j) {
					return
				}
			}
		}
	}
}

// next is the job to look at and its band, nil when there is none.
func (f *flow) next() (j *job, band int) {
	for b, at := range f.cursors {
		if at != nil && (j == nil || at.rank < j.rank) {
			j, band = at, b
		}
	}
	return j, band
}

// keyNow is what the key ought to be.
func (f *flow) keyNow() flowKey {
	j, band := f.next()
	if j == nil {
		return exhausted
	}
	return flowKey{f.class.levels[band], f.tenant.turn + f.tenant.charged, j.rank, j.order}
}

// rewind makes a flow as if no round had looked at it.
func (f *flow) rewind() {
	for b := range f.jobs {
		f.cursors[b] = f.jobs[b].first
	}
	f.key = f.keyNow()
	if len(f.class.flows) > 1 {
		heap.Fix(&f.class.flows, f.index)
	}
}

// flowFor returns the flow of a job that comes into the queue.
func (s *Scheduler) flowFor(j *job) *flow {
	c := j.class
	f := c.flowOf[j.Tenant]
	if f == nil {
		f = s.spareFlows.get()
		*f = flow{class: c, tenant: j.tenant, key: exhausted}
		c.flowOf[j.Tenant] = f
		heap.Push(&c.flows, f)
	}
	return f
}

// drop forgets a flow without jobs.
func (s *Scheduler) drop(f *flow) {
	heap.Remove(&f.class.flows, f.index)
	delete(f.class.flowOf, f.tenant.id)
	f.index = -1
	s.spareFlows.put(f)
}

// flows is a heap by key, for package heap.
type flows []*flow

func (h flows) Len() int           { return len(h) }
func (h flows) Less(i, j int) bool { return h[i].key.before(h[j].key) }
func (h flows) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *flows) Push(x any) {
	f := x.(*flow)
	f.index = len(*h)
	*h = append(*h, f)
}

func (h *flows) Pop() any {
	last := len(*h) - 1
	f := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return f
}

// nextFlow is the flow whose next job is to be looked at in the round, nil when there is none or nobody that
// a job could go to is idle any more.
func (s *Scheduler) nextFlow() (next *flow) {
	idle := false
	for _, c := range s.classes {
		f := s.top(c)
		if f == nil {
			continue
		}
		idle = idle || c.idle
		if next == nil || f.key.before(next.key) {
			next = f
		}
	}
	if !idle {
		return nil
	}
	return next
}

// top is the flow of a class that comes first. Keys only grow during a round, so that those that lag behind
// are found here.
func (s *Scheduler) top(c *class) *flow {
	if c.bound != s.round.number || c.looked >= lookMax {
		return nil
	}
	for len(c.flows) > 0 {
		f := c.flows[0]
		switch key := f.keyNow(); key {
		case exhausted:
			return nil
		case f.key:
			return f
		}
		s.rekey(f)
	}
	return nil
}

// rekey brings a flow to its place in the order during a round.
func (s *Scheduler) rekey(f *flow) {
	if !f.moved {
		f.moved = true
		s.round.moved = append(s.round.moved, f)
	}
	f.key = f.keyNow()
	if len(f.class.flows) > 1 {
		heap.Fix(&f.class.flows, f.index)
	}
}

// look takes the next job of a flow.
func (s *Scheduler) look(f *flow) *job {
	j, band := f.next()
	f.cursors[band] = j.next
	f.class.looked++
	s.rekey(f)
	return j
}

// endRound forgets what the round charged.
func (s *Scheduler) endRound() {
	for _, t := range s.round.charged {
		t.charged = 0
	}
	for _, f := range s.round.moved {
		if f.moved = false; f.index >= 0 {
			f.rewind()
		}
	}
	clear(s.round.moved)
	clear(s.round.charged)
	s.round.moved, s.round.charged = s.round.moved[:0], s.round.charged[:0]
}
