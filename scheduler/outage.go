package scheduler

import (
	"time"

	"github.com/whisperpool/whisperpool/scheduler/breaker"
)

// review looks for jobs that nobody can take, after everything that may have changed a backend.
func (s *Scheduler) review() {
	for _, b := range s.pool {
		b.lapse(s.now)
		h := &b.health
		if h.away() && s.now >= h.awayUntil {
			h.condition = up
			b.warmUp()
		}
		out := b.Drained || h.condition != up || h.breaker.State(time.Duration(s.now)) != breaker.Closed
		if out && !h.out {
			h.outSince = s.now
		}
		h.out = out
	}
	for _, c := range s.classes {
		if c.waiting > 0 && !s.taken(c) {
			s.hurry(c)
		}
	}
}

// hurry does not leave it at waiting when nobody takes jobs of a class: open breakers let an attempt
// through early, all of them in parallel, the first time at once and then every second; and everybody
// is to be probed.
func (s *Scheduler) hurry(c *class) {
	for _, b := range c.serving {
		h := &b.health
		if h.condition == up && h.breaker.State(time.Duration(s.now)) == breaker.Open {
			early := h.breaker.OpenedAt()
			if h.breaker.Openings() > 1 {
				early += earlyGap
			}
			h.breaker.Shorten(early)
		}
		s.ask(b)
	}
}

// refuse settles the jobs that still wait and that nobody is there for, after placement:
//
//  1. Somebody is sound: they wait for a slot.
//  2. A first health check or a half-open attempt is on its way: they wait for what it shows.
//  3. The last backend went out less than 5 s ago: they wait for it to come back.
//  4. Otherwise they are refused.
func (s *Scheduler) refuse() {
	for _, c := range s.classes {
		if c.waiting == 0 || s.hopeful(c) {
			continue
		}
		for c.waiting > 0 { // (4)
			j, _ := c.flows[0].next()
			s.settle(j, NoBackend, s.comeBackHint(c))
		}
	}
}

// hopeful says whether jobs of a class are worth holding.
func (s *Scheduler) hopeful(c *class) bool {
	since, known := Instant(-1), len(c.serving) > 0
	if !known && c.unservedSince > 0 {
		since, known = c.unservedSince, true
	}
	for _, b := range c.serving {
		h := &b.health
		if b.sound(s.now) { // (1)
			return true
		}
		if firstCheck := h.since.Add(unknownMax); h.condition == unknown && s.now < firstCheck { // (2)
			s.wakeAt(firstCheck)
			return true
		}
		if h.breaker.Probing() {
			return true
		}
		since = max(since, h.outSince)
	}
	if hold := since.Add(outageHold); known && s.now < hold { // (3)
		s.wakeAt(hold)
		return true
	}
	return false
}

// taken says whether somebody takes jobs of the class.
func (s *Scheduler) taken(c *class) bool {
	for _, b := range c.serving {
		if b.takes(s.now) {
			return true
		}
	}
	return false
}

// comeBackHint is the Retry-After of a job that nobody takes: until somebody is looked at again.
func (s *Scheduler) comeBackHint(c *class) time.Duration {
	hint := retryAfterMax
	for _, b := range c.serving {
		if at, ok := b.comesBack(s.now); ok {
			hint = min(hint, at.Sub(s.now))
		} else {
			hint = min(hint, nextProbeGuess)
		}
	}
	return retryAfter(hint)
}
