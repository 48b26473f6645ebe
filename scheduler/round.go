package scheduler

import (
	"math"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler/breaker"
	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

// member is a backend that takes jobs of a class, as one placement round sees it.
type member struct {
	backend *backend
	speed   *estimator.Speed
	theta   float64 // seconds per unit of cost, for one job more; 0 when not known
	held    float64 // the same without drift: what it was when last seen
	probing bool    // half-open: one job may try
	open    bool    // to the job that is looked at, in offerSome
	free    bool    // its lane is among the free ones,
	lane    int     // at this place; -1: it has none yet
}

// round is the scratch space of a placement round, reused from one to the next.
type round struct {
	view     View
	foreseen foreseen      // of the view
	few      []Candidate   // the candidates of a job that not all members are offered to,
	fewOf    []*backend    // and who they are
	shown    []*backend    // by candidate in the view
	declined bool          // a job left an idle backend alone
	soonest  time.Duration // until the first busy slot is free
	number   uint64        // of the round, from 1
	moved    []*flow       // whose keys are not what they are outside of rounds
	charged  []*tenant     // for jobs that were looked at
}

// bindAll prepares the classes that wait: those with an idle member, and those that share a member
// with one of these, whose jobs may come first and are charged to it.
func (s *Scheduler) bindAll() {
	for _, b := range s.pool {
		b.wanted = false
	}
	for _, c := range s.classes {
		c.looked, c.idle = 0, false
		if c.waiting > 0 && anyIdle(c.serving) {
			for _, b := range c.serving {
				b.wanted = true
			}
		}
	}
	for _, c := range s.classes {
		if c.waiting > 0 && slices.ContainsFunc(c.serving, func(b *backend) bool { return b.wanted }) {
			s.bind(c)
			s.lift(c)
		}
	}
}

// survey counts the idle slots of the backends that take jobs and says whether a class that waits
// has any. Only then is it worth while to look at what the busy ones still have to do.
func (s *Scheduler) survey() (worthwhile bool) {
	for i, b := range s.pool {
		b.number, b.idle = i, 0
		b.taking, b.halfOpen = b.takes(s.now) && s.forClients(b), b.health.breaker.State(time.Duration(s.now)) == breaker.HalfOpen
		if b.taking && s.now >= b.health.pausedUntil {
			b.idle = max(0, s.limit(b)-len(b.running))
			if b.halfOpen {
				b.idle = min(b.idle, 1)
			}
		}
	}
	for _, c := range s.classes {
		if c.waiting > 0 && anyIdle(c.serving) {
			worthwhile = true
		}
	}
	if worthwhile {
		for _, b := range s.pool {
			s.surveyBusy(b)
		}
	}
	return worthwhile
}

func anyIdle(backends []*backend) bool {
	for _, b := range backends {
		if b.idle > 0 {
			return true
		}
	}
	return false
}

// surveyBusy foretells when each slot of a backend without an idle one is free.
func (s *Scheduler) surveyBusy(b *backend) {
	b.busy, b.freeIn = b.busy[:0], 0
	if b.idle > 0 || !b.taking {
		return
	}
	for _, a := range b.running {
		b.busy = append(b.busy, a.remaining(s.now))
	}
	slots := s.limit(b)
	if over := len(b.busy) - slots; over > 0 { // it had more slots before: the first to end free none
		slices.Sort(b.busy)
		b.busy = slices.Delete(b.busy, 0, over)
	}
	for len(b.busy) < slots {
		b.busy = append(b.busy, 0)
	}
	pause := max(0, b.health.pausedUntil.Sub(s.now))
	for i := range b.busy {
		b.busy[i] = max(b.busy[i], pause)
	}
	b.freeIn = slices.Min(b.busy)
	s.round.soonest = min(s.round.soonest, b.freeIn)
}

// reserve charges a job that waits for the backend: later jobs see its next free slot taken.
func (b *backend) reserve(predicted time.Duration) {
	if b.idle > 0 { // a policy waits for a backend that is idle; its slot is kept
		if b.idle--; b.idle > 0 {
			return
		}
		b.busy = append(b.busy, predicted)
	} else {
		next := 0
		for i, free := range b.busy {
			if free < b.busy[next] {
				next = i
			}
		}
		b.busy[next] += predicted
	}
	b.freeIn = slices.Min(b.busy)
}

// bind lists the members of a class with their speeds. Mostly they are those of the last round.
func (s *Scheduler) bind(c *class) {
	c.free, c.busy = c.free[:0], c.busy[:0]
	c.plain, c.bound, c.idle = true, s.round.number, anyIdle(c.serving)
	clear(c.gpuBest)
	n := 0
	for _, b := range c.serving {
		if !b.taking {
			continue
		}
		if n == len(c.members) {
			c.members, c.offers = append(c.members, member{}), append(c.offers, Candidate{})
			c.takers, c.lines = append(c.takers, nil), append(c.lines, line{})
		}
		m, o := &c.members[n], &c.offers[n]
		if c.takers[n] != b {
			c.takers[n], m.backend, o.Backend = b, b, b.ID
		}
		for len(c.place) <= b.number {
			c.place = append(c.place, 0)
		}
		c.place[b.number] = n
		m.speed, m.probing, m.lane = s.speed(b, c.modelIndex), b.halfOpen, -1
		o.Slots, o.Known = b.slots(), m.speed.Known()
		n++
	}
	c.members, c.offers, c.takers, c.lines = c.members[:n], c.offers[:n], c.takers[:n], c.lines[:n]
	for i := range c.members {
		m := &c.members[i]
		s.rate(c, m)
		if m.theta == 0 || m.unsure() || m.probing || m.backend.cold > 0 {
			c.plain = false
		}
		c.refresh(i)
	}
	if len(s.tenants) > 1 {
		c.weigh()
	}
}

// perUnitGuess stands in where no speed is known.
const perUnitGuess = 0.1

// weigh finds what a unit of cost takes on the fastest member.
func (c *class) weigh() {
	c.perUnit = math.Inf(1)
	for i := range c.lines {
		if took := c.lines[i].at(sizeOf(referenceSeconds)); took > 0 {
			c.perUnit = min(c.perUnit, took.Seconds()/defaultUnits(referenceSeconds))
		}
	}
	if math.IsInf(c.perUnit, 1) {
		c.perUnit = perUnitGuess
	}
}

// rate sets what a member is expected to take per unit of cost.
func (s *Scheduler) rate(c *class, m *member) {
	m.theta, m.held = 0, 0
	if !m.speed.Known() {
		return
	}
	b := m.backend
	m.held = m.speed.Theta(b.occupancyNext()) * b.handicap(s.now)
	m.theta = m.held
	if m.speed.Stale(time.Duration(s.now)) {
		var best float64
		if b.Class != "" {
			var seen bool
			if best, seen = c.gpuBest[b.Class]; !seen {
				best = c.fastestOf(b.Class)
				c.gpuBest[b.Class] = best
			}
		}
		m.theta *= m.speed.Drift(time.Duration(s.now), best/m.speed.Cost.Of(referenceSeconds))
	}
}

// fastestOf is the least time that a member of the GPU class has been seen to need for the
// reference clip, 0 when none was seen.
func (c *class) fastestOf(gpu string) float64 {
	best := 0.0
	for i := range c.members {
		m := &c.members[i]
		if m.backend.Class != gpu || m.speed.Observations() == 0 {
			continue
		}
		if took := m.speed.Theta(1) * m.speed.Cost.Of(referenceSeconds); best == 0 || took < best {
			best = took
		}
	}
	return best
}

// predict is the service time of a job on a member, 0 when its speed is not known.
func (m *member) predict(audioSeconds float64) time.Duration {
	return duration(m.theta * m.speed.Cost.Of(audioSeconds))
}

// refresh brings the offers to what has become of a backend during the round.
func (s *Scheduler) refresh(b *backend) {
	for _, c := range s.classes {
		if i, ok := s.memberOf(c, b); ok {
			c.refresh(i)
		}
	}
}

// memberOf is where a backend is among the members of a class, if the class takes part in the round.
func (s *Scheduler) memberOf(c *class, b *backend) (int, bool) {
	if c.bound != s.round.number || b.number >= len(c.place) {
		return 0, false
	}
	i := c.place[b.number]
	return i, i < len(c.members) && c.members[i].backend == b
}

func (c *class) refresh(i int) {
	m, o := &c.members[i], &c.offers[i]
	o.Outstanding, o.FreeIn, o.Idle = len(m.backend.running), m.backend.freeIn, m.backend.idle > 0
	perUnit := m.theta * float64(time.Second)
	cost := m.speed.Cost
	c.lines[i] = line{perUnit * cost.Fixed, perUnit * cost.PerSecond, perUnit * cost.PerWindow}
	c.direct(i)
}
