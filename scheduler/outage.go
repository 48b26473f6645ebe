package scheduler

import (
	"time"

	"github.com/whisperpool/whisperpool/scheduler/breaker"
)

// review looks for jobs that nobody can take, after everything that may have changed a backend.
func (s *Scheduler) review() {
	for _, b := range s.pool {
		h := &b.health
		if h.condition == loading && !h.checked && s.now >= h.loadingUntil {
			h.condition = up
		}
		out := h.condition != up || h.breaker.State(time.Duration(s.now)) != breaker.Closed
		if out && !h.out {
			h.outSince = s.now
		}
		h.out = out
	}
	for _, c := range s.classes {
		if c.waiting > 0 {
			s.reviewClass(c)
		}
	}
}

// reviewClass decides what becomes of the jobs of a class when no backend takes any:
//
//  1. Somebody takes jobs: nothing to do.
//  2. Open breakers let an attempt through early, all of them in parallel, the first time at once and
//     then every second; everybody who is out is to be probed at once.
//  3. A first health check or a half-open attempt is on its way: the jobs wait for it.
//  4. The last backend went out less than 5 s ago: the jobs wait for it to come back.
//  5. Otherwise they are refused.
func (s *Scheduler) reviewClass(c *class) {
	if s.taken(c) { // (1)
		return
	}
	since, hope := Instant(-1), false
	for _, b := range c.serving {
		h := &b.health
		if h.condition == up && h.breaker.State(time.Duration(s.now)) == breaker.Open { // (2)
			early := h.breaker.OpenedAt()
			if h.breaker.Openings() > 1 {
				early += earlyGap
			}
			h.breaker.Shorten(early)
		}
		s.ask(b)
		firstCheck := h.condition == unknown && s.now.Sub(h.since) < unknownMax
		if firstCheck {
			s.wakeAt(h.since.Add(unknownMax))
		}
		hope = hope || firstCheck || h.breaker.Probing()
		since = max(since, h.outSince)
	}
	if s.taken(c) || hope { // (3)
		return
	}
	known := len(c.serving) > 0
	if !known && c.unservedSince > 0 {
		known, since = true, c.unservedSince
	}
	if hold := since.Add(outageHold); known && s.now < hold { // (4)
		s.wakeAt(hold)
		return
	}
	for c.first != nil { // (5)
		s.settle(c.first, NoBackend, s.comeBackHint(c))
	}
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
