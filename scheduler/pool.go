package scheduler

import (
	"maps"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler/breaker"
	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

// backend is one server of the pool and everything that is known of it.
type backend struct {
	Backend
	draining bool // no longer configured; forgotten when its last attempt ends
	load     Load // what it last reported
	running  []*attempt
	// area is the time integral of len(running), in seconds: its difference between two moments,
	// divided by the time between them, is how many ran side by side on average.
	area   float64
	areaAt Instant

	speeds    []*estimator.Speed // by model index; nil where never asked for
	presumed  string             // the instance that restored speeds are of, until one is reported
	discovery discovery
	health    health
	served    uint64
	failed    uint64
	cold      int  // jobs that its slow start still lasts
	proven    bool // the instance has answered a job
	lastModel int  // of the last attempt, for trials
	trial     *attempt
	tryAt     Instant   // not tried before for having become slow
	doubtAt   Instant   // nor for failing before this
	crashes   []Instant // when it died, the last ones
	// fallenTries are the trials of one that has become slow, running.
	fallenTries int

	// Scratch space of a placement round.
	idle     int             // slots that a job could start in at once
	freeIn   time.Duration   // until one is free, reservations included; 0 while idle > 0
	busy     []time.Duration // when idle is 0, until each slot is free
	wanted   bool            // a class that waits could start a job on it, or on another of its backends
	number   int             // its place in the pool
	taking   bool            // it takes jobs
	halfOpen bool            // one job may try
}

// configurePool brings the pool to the configuration: backends are matched by ID and keep what they
// run and what is known of them; those that are gone drain.
func (s *Scheduler) configurePool() {
	old := s.pool
	s.pool = make([]*backend, 0, len(s.cfg.Backends))
	for _, told := range s.cfg.Backends {
		b := s.byID[told.ID]
		if b == nil {
			b = &backend{areaAt: s.now}
			s.byID[told.ID] = b
			s.introduce(b, told)
			if len(s.jobs) > 0 { // new while there is work
				b.warmUp()
			}
		} else {
			s.reconfigure(b, told)
		}
		s.pool = append(s.pool, b)
	}
	for _, b := range old {
		if slices.Contains(s.pool, b) {
			continue
		}
		b.draining = true
		if len(b.running) == 0 {
			s.forget(b)
		} else {
			s.pool = append(s.pool, b)
		}
	}
	s.servingChanged()
}

// introduce makes a backend one of which nothing is known but its configuration.
func (s *Scheduler) introduce(b *backend, told Backend) {
	s.remember(b) // of the address that it had
	b.Backend = told
	b.load = Load{}
	b.speeds, b.presumed = nil, ""
	b.discovery = discovery{}
	b.cold, b.proven = 0, false
	b.health = newHealth(s, told.Checked)
	b.draining = false
	s.recall(b)
}

func (s *Scheduler) reconfigure(b *backend, told Backend) {
	switch {
	case told.Address != b.Address: // another machine under an old name
		s.introduce(b, told)
		return
	case told.Class != b.Class:
		s.remember(b)
		b.speeds = nil
	case told.Prior != b.Prior || !maps.Equal(told.Priors, b.Priors):
		b.dropUnlearned()
	}
	b.health.setChecked(told.Checked)
	b.Backend = told
	b.draining = false
	b.health.breaker.SetOptions(s.breakerOptions())
}

func (s *Scheduler) breakerOptions() breaker.Options {
	c := s.cfg.Breaker
	return breaker.Options{Failures: c.Failures, OpenFor: c.OpenFor, MaxOpenFor: c.MaxOpenFor}
}

// forget drops a backend that drained.
func (s *Scheduler) forget(b *backend) {
	s.remember(b)
	delete(s.byID, b.ID)
	if i := slices.Index(s.pool, b); i >= 0 {
		s.pool = slices.Delete(s.pool, i, i+1)
	}
}

// servingChanged lists anew who serves which class.
func (s *Scheduler) servingChanged() {
	for _, c := range s.classes {
		s.findServing(c)
	}
}

// reported takes in what a backend says of itself; news of one that is gone is ignored.
func (s *Scheduler) reported(e Reported) {
	b := s.byID[e.Backend]
	if b == nil || b.draining {
		return
	}
	was, before := b.load, b.instance()
	b.load = Load{
		Instance: e.Load.Instance,
		Slots:    e.Load.Slots,
		Models:   slices.Clone(e.Load.Models),
		Can:      maps.Clone(e.Load.Can),
	}
	if b.load.Instance == "" {
		b.load.Instance = was.Instance
	} else if before != "" && before != b.load.Instance { // another server at a known address starts anew
		s.unlearn(b)
		if was.Instance != "" {
			b.restarted(s.now)
		}
	}
	if b.load.Slots <= 0 {
		b.load.Slots = was.Slots
	}
	if b.load.Models == nil {
		b.load.Models = was.Models
	}
	if b.load.Can == nil {
		b.load.Can = was.Can
	}
	s.servingChanged()
}

// slots is the useful parallelism: configured, else reported, else discovered where that is allowed, else 1.
func (b *backend) slots() int {
	switch {
	case b.Slots > 0:
		return b.Slots
	case b.load.Slots > 0:
		return min(b.load.Slots, slotsMax)
	case b.Discover:
		return b.discovery.slots()
	default:
		return 1
	}
}

// modelsServed is what may be sent there: configured, else reported, else nil for any.
func (b *backend) modelsServed() []string {
	if b.Models != nil {
		return b.Models
	}
	return b.load.Models
}

// serves says whether jobs of the class can run there at all.
func (b *backend) serves(c *class) bool {
	if b.draining {
		return false
	}
	if models := b.modelsServed(); models != nil && !slices.Contains(models, c.model) {
		return false
	}
	can, told := b.load.Can[c.model]
	if !told {
		can, told = b.load.Can[""]
	}
	return !told || can&c.needs == c.needs
}

// start and stop keep account of an attempt.
func (b *backend) start(a *attempt, now Instant) {
	b.advance(now)
	a.areaThen = b.area
	b.running = append(b.running, a)
}

func (b *backend) stop(a *attempt, now Instant) {
	b.advance(now)
	i := slices.Index(b.running, a)
	b.running = slices.Delete(b.running, i, i+1)
}

func (b *backend) advance(now Instant) {
	b.area += float64(len(b.running)) * now.Sub(b.areaAt).Seconds()
	b.areaAt = now
}

// occupancy is how many attempts ran beside and including this one, on average. Requires: stop was
// called for it at now, or advance.
func (b *backend) occupancy(a *attempt, now Instant) float64 {
	if elapsed := now.Sub(a.started).Seconds(); elapsed > 0 {
		return (b.area - a.areaThen) / elapsed
	}
	return 1
}

// occupancyNext is how many would run there with one job more, once it can start.
func (b *backend) occupancyNext() int { return max(1, min(len(b.running)+1, b.slots())) }
