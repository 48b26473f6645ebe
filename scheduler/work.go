package scheduler

import (
	"container/heap"
	"math"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

// Work is the jobs behind a Snapshot's counts, for status pages.
type Work struct {
	Running []Running // by backend, in the order of Snapshot.Backends, the first started first
	Waiting []Waiting // the first of the queue, in the order in which they are predicted to be looked at
}

// Running is an attempt in flight.
type Running struct {
	Attempt      AttemptID
	Job          JobID // 0 for a trial
	Backend      BackendID
	Model        string
	AudioSeconds float64
	SizeGuessed  bool
	For          time.Duration // since it was dispatched
	// Predicted is its service time by what is known now, beside what runs there now, else what placement guessed; 0
	// when it could not even guess.
	Predicted time.Duration
	Number    int // 1 for the job's first attempt
	Trial     bool
	Hedge     bool // another attempt of the same job runs, and was there before
}

// Waiting is a job in the queue.
type Waiting struct {
	Job          JobID
	Model        string
	AudioSeconds float64
	SizeGuessed  bool
	Priority     Priority
	Waited       time.Duration
	Attempts     int // that have failed
	// Backend is who is predicted to serve it, StartsIn when it starts there, and Takes its service time there. Known
	// is false where none of those who could serve it takes jobs now, or the speed of none is known.
	Backend  BackendID
	StartsIn time.Duration
	Takes    time.Duration
	Known    bool
}

// WorkAt lists what runs, and of what waits the first few with their predictions, as of an instant after the last
// step. It changes nothing.
func (s *Scheduler) WorkAt(now Instant, waitingMax int) Work {
	var out Work
	for _, b := range s.pool {
		for _, a := range b.running {
			out.Running = append(out.Running, a.running(s, now))
		}
	}
	f := s.forecast(now)
	for len(out.Waiting) < waitingMax {
		j := f.next()
		if j == nil {
			break
		}
		out.Waiting = append(out.Waiting, f.wait(j))
	}
	return out
}

func (a *attempt) running(s *Scheduler, now Instant) Running {
	out := Running{
		Attempt: a.id, Job: a.job.ID, Backend: a.backend.ID, AudioSeconds: a.job.AudioSeconds, SizeGuessed: a.job.SizeGuessed,
		For: now.Sub(a.started), Predicted: a.guess, Trial: a.trial, Number: 1,
	}
	if a.speed.Known() {
		out.Predicted = duration(a.speed.Theta(len(a.backend.running)) * a.speed.Cost.Of(a.job.AudioSeconds))
	}
	if i := slices.Index(a.backend.speeds, a.speed); i >= 0 {
		out.Model = s.modelNames[i]
	}
	if !a.trial {
		out.Model = a.job.Model
		out.Hedge = len(a.job.running) > 1 && a.job.running[0] != a
		out.Number = a.job.attempts
		if len(a.job.running) > 1 && !out.Hedge {
			out.Number--
		}
	}
	return out
}

// forecast foretells in which order the jobs that wait are looked at and who serves them: each, in the order of
// order.go, on the backend that would be done with it first, whose next slot is taken from then on. That is what
// placement does, but that it may also take an idle backend that is nearly as good.
type forecast struct {
	now     Instant
	heads   heads
	charged map[*tenant]float64
	perUnit map[*class]float64 // see class.weigh; without entry while there is but one tenant
	able    map[*class][]able
}

// able is a backend that takes jobs of a class and whose speed is known.
type able struct {
	backend *backend
	theta   float64
	cost    estimator.Cost
	slots   *slotTimes
}

// slotTimes is how long it takes until each slot of a backend is free.
type slotTimes struct {
	free  []time.Duration
	first int // the first to be free
}

func (t *slotTimes) find() {
	t.first = 0
	for i := range t.free {
		if t.free[i] < t.free[t.first] {
			t.first = i
		}
	}
}

func (s *Scheduler) forecast(now Instant) *forecast {
	f := &forecast{now: now, charged: make(map[*tenant]float64), perUnit: make(map[*class]float64), able: make(map[*class][]able)}
	if s.waiting == 0 {
		return f
	}
	slots := make(map[*backend]*slotTimes, len(s.pool))
	for _, b := range s.pool {
		if b.takes(now) && s.forClients(b) {
			slots[b] = &slotTimes{free: s.slotsFree(b, now)}
			slots[b].find()
		}
	}
	for _, c := range s.classes {
		if c.waiting == 0 {
			continue
		}
		f.ableFor(c, slots)
		if len(s.tenants) > 1 {
			f.perUnit[c] = f.weigh(c)
		}
		for _, fl := range c.flows {
			h := &head{flow: fl}
			for band, l := range fl.jobs {
				h.at[band] = l.first
			}
			h.key = f.keyOf(h)
			f.heads = append(f.heads, h)
		}
	}
	heap.Init(&f.heads)
	return f
}

// ableFor finds who can serve a class.
func (f *forecast) ableFor(c *class, slots map[*backend]*slotTimes) {
	for _, b := range c.serving {
		times := slots[b]
		if times == nil || len(times.free) == 0 || c.modelIndex >= len(b.speeds) {
			continue
		}
		if speed := b.speeds[c.modelIndex]; speed != nil && speed.Known() {
			theta := speed.Theta(b.occupancyNext()) * b.handicap(f.now)
			f.able[c] = append(f.able[c], able{b, theta, speed.Cost, times})
		}
	}
}

// weigh is class.perUnit as a round would find it now.
func (f *forecast) weigh(c *class) float64 {
	least := math.Inf(1)
	for _, m := range f.able[c] {
		least = min(least, m.theta*m.cost.Of(referenceSeconds)/defaultUnits(referenceSeconds))
	}
	if math.IsInf(least, 1) {
		return perUnitGuess
	}
	return least
}

// slotsFree is how long it takes until each slot of a backend is free.
func (s *Scheduler) slotsFree(b *backend, now Instant) []time.Duration {
	n := s.limit(b)
	free := make([]time.Duration, 0, max(n, len(b.running)))
	for _, a := range b.running {
		free = append(free, a.remaining(now))
	}
	slices.Sort(free)
	free = free[max(0, len(free)-n):] // it had more slots before: the first to end free none
	for len(free) < n {
		free = append(free, 0)
	}
	pause := max(0, b.health.pausedUntil.Sub(now))
	for i := range free {
		free[i] = max(free[i], pause)
	}
	return free
}

// next is the job that is looked at next, nil when there is no more.
func (f *forecast) next() *job {
	for len(f.heads) > 0 {
		h := f.heads[0]
		j, band := h.next()
		if j == nil {
			heap.Pop(&f.heads)
			continue
		}
		if key := f.keyOf(h); key != h.key { // its tenant was charged meanwhile
			h.key = key
			heap.Fix(&f.heads, 0)
			continue
		}
		h.at[band] = j.next
		f.charged[j.tenant] += f.perUnit[j.class] * defaultUnits(j.AudioSeconds)
		h.key = f.keyOf(h)
		heap.Fix(&f.heads, 0)
		return j
	}
	return nil
}

// wait foretells what becomes of a job, and charges it to the backend.
func (f *forecast) wait(j *job) Waiting {
	out := Waiting{
		Job: j.ID, Model: j.Model, AudioSeconds: j.AudioSeconds, SizeGuessed: j.SizeGuessed, Priority: j.Priority,
		Waited: j.waitedBy(f.now), Attempts: j.attempts,
	}
	var best *able
	bestEnd := time.Duration(math.MaxInt64)
	all := f.able[j.class]
	for i := range all {
		m := &all[i]
		if j.failedAt(m.backend) && len(all) > 1 {
			continue
		}
		takes, starts := duration(m.theta*m.cost.Of(j.AudioSeconds)), m.slots.free[m.slots.first]
		if starts+takes < bestEnd {
			best, bestEnd = m, starts+takes
			out.StartsIn, out.Takes = starts, takes
		}
	}
	if best != nil {
		out.Backend, out.Known = best.backend.ID, true
		best.slots.free[best.slots.first] = bestEnd
		best.slots.find()
	}
	return out
}

// head is how far the forecast has come in a flow.
type head struct {
	flow *flow
	at   [bands]*job
	key  flowKey
}

func (h *head) next() (j *job, band int) {
	for b, at := range h.at {
		if at != nil && (j == nil || at.rank < j.rank) {
			j, band = at, b
		}
	}
	return j, band
}

func (f *forecast) keyOf(h *head) flowKey {
	j, band := h.next()
	if j == nil {
		return exhausted
	}
	return flowKey{h.flow.class.levels[band], h.flow.tenant.turn + f.charged[h.flow.tenant], j.rank, j.order}
}

// heads is a heap by key, for package heap.
type heads []*head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return h[i].key.before(h[j].key) }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(*head)) }
func (h *heads) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
