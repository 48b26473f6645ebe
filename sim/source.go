package sim

import (
	"math/rand/v2"
	"time"
)

// source is where jobs come from. Jobs arrive in the order of their numbers.
type source interface {
	begin()
	settled(j *job)
	// exhausted says whether every job that is measured has arrived.
	exhausted() bool
}

func newSource(e *engine) source {
	l := e.sc.Load
	switch {
	case e.sc.Recorded != nil:
		return &recordedLoad{e: e}
	case l.Clients > 0:
		return &closedLoop{e: e}
	case l.Burst > 0:
		return &burst{e: e}
	default:
		rate := l.Rate
		if l.Share > 0 {
			rate = l.Share * e.capacity(e.sample())
		}
		return &openLoop{e: e, rate: rate, chance: stream(e.sc.Seed, streamArrivals, 0)}
	}
}

func (e *engine) allArrived() bool {
	if n := e.sc.measured(); n > 0 {
		return len(e.measured) == n
	}
	return e.began && e.now >= e.start.Add(e.sc.Duration)
}

// closedLoop is clients that each have one job at a time. They go on until all that is measured is
// served, so that the last measured jobs are not alone.
type closedLoop struct {
	e    *engine
	sent int
}

func (c *closedLoop) begin() {
	for range c.e.sc.Load.Clients {
		c.think()
	}
}

// think sends a client's next job after it has thought.
func (c *closedLoop) think() {
	pause := time.Duration(0)
	if mean := c.e.sc.Load.Think; mean > 0 {
		pause = time.Duration(float64(mean) * stream(c.e.sc.Seed, streamThinking, uint64(c.sent)).ExpFloat64())
	}
	c.sent++
	c.e.agenda.at(c.e.now.Add(pause), func() { c.e.arriveNext() })
}

func (c *closedLoop) settled(*job)    { c.think() }
func (c *closedLoop) exhausted() bool { return c.e.allArrived() }

// openLoop is a Poisson process that goes on until all that is measured is served.
type openLoop struct {
	e      *engine
	rate   float64
	chance *rand.Rand
}

func (o *openLoop) begin() { o.wait() }

func (o *openLoop) wait() {
	pause := time.Duration(o.chance.ExpFloat64() / (o.rate * o.e.busier()) * float64(time.Second))
	o.e.agenda.at(o.e.now.Add(pause), func() {
		o.e.arriveNext()
		o.wait()
	})
}

func (o *openLoop) settled(*job)    {}
func (o *openLoop) exhausted() bool { return o.e.allArrived() }

// burst warms up with as many jobs at a time as the pool has slots, and when the pool is idle again
// sends what is measured at once.
type burst struct {
	e       *engine
	sent    int // of the warm-up
	running int // of these
	fired   bool
}

func (b *burst) begin() {
	slots := 0
	for _, c := range b.e.cards {
		slots += c.Slots
	}
	for range min(slots, b.e.sc.WarmUp) {
		b.warm()
	}
	b.fire()
}

func (b *burst) warm() {
	b.sent++
	b.running++
	b.e.agenda.at(b.e.now, b.e.arriveNext)
}

// fire sends the burst once the warm-up is over.
func (b *burst) fire() {
	if b.fired || b.running > 0 {
		return
	}
	b.fired = true
	b.e.agenda.at(b.e.now, func() {
		for range b.e.sc.Load.Burst {
			b.e.arriveNext()
		}
	})
}

func (b *burst) settled(*job) {
	if b.fired {
		return
	}
	b.running--
	if b.sent < b.e.sc.WarmUp {
		b.warm()
	}
	b.fire()
}

func (b *burst) exhausted() bool { return b.e.allArrived() }
