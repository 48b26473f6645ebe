package scheduler

import (
	"fmt"
	"time"

	"github.com/whisperpool/whisperpool/scheduler/breaker"
)

const (
	// strikesWithWork failed health checks running are needed while attempts run there, because
	// whisper-server's /health starves under load.
	strikesWithWork = 2
	awayPause       = 2 * time.Second  // of a backend that is loading or down and that no prober looks at
	probeGap        = time.Second      // between two Probe decisions for a backend
	unknownMax      = 30 * time.Second // how long a first health check is waited for
	outageHold      = 5 * time.Second  // how long jobs are held when nobody is usable any more
	earlyGap        = time.Second      // between half-open attempts that are early because everybody is out
	nextProbeGuess  = 5 * time.Second  // until a prober looks again, for Retry-After
	probeAudioMax   = 30.0             // seconds of audio of a job that may be a half-open attempt
	// probeAnyAfter is how long a half-open backend waits for such a job before it takes any.
	probeAnyAfter = 10 * time.Second
)

// condition is what is believed of a backend apart from its breaker.
type condition uint8

const (
	unknown condition = iota + 1 // waits for its first health check
	up
	loading
	down
)

// health decides whether jobs are sent to a backend.
type health struct {
	condition   condition
	checked     bool
	since       Instant // of unknown
	strikes     int     // failed health checks running
	awayUntil   Instant // loading or down, of a backend that no prober looks at
	pausedUntil Instant
	busyRow     int
	breaker     *breaker.Breaker
	fell        fall
	out         bool // not up, or its breaker not closed
	outSince    Instant
	asked       Instant // when a Probe was last decided
	wasAsked    bool

	cause      Cause  // why the breaker opened, 0 while it is closed
	why        string // the same in words
	slow       slowness
	suspicion  Cause   // NoWords or RefusesAll: a trial is to show; else 0
	silentRow  int     // answers without words running,
	silentFrom Instant // and when the first of them came
	refusedRow int     // client faults running,
	refusedAt  Instant // and when the first of them came
	lastWords  Instant // the last answer with words; only meaningful when hadWords
	hadWords   bool
}

func newHealth(s *Scheduler, checked bool) health {
	h := health{condition: up, checked: checked, since: s.now, outSince: s.now,
		breaker: breaker.New(s.breakerOptions(), s.chance.Float64)}
	if checked {
		h.condition = unknown
	}
	return h
}

// setChecked follows the configuration. Where no prober looks any more only attempts can tell, so the
// backend is tried; where one looks from now on, what is believed of it holds until that tells better.
func (h *health) setChecked(checked bool) {
	if h.checked && !checked {
		h.condition = up
	}
	h.checked = checked
}

// restarted: another instance answers at the address, so it is asked again at once, unless it flaps: one that
// dies again and again is another instance each time.
func (b *backend) restarted(now Instant) {
	h := &b.health
	h.pausedUntil, h.busyRow = 0, 0
	if !h.fell.again {
		h.breaker.Shorten(time.Duration(now))
	}
	h.slow = slowness{}
	h.silentRow, h.refusedRow, h.suspicion = 0, 0, 0
	b.proven = false
	b.warmUp()
}

// probed takes in a health check; one of a backend that is gone is ignored.
//
//  1. Healthy: it is up. After it was down, and unless it flaps, an open breaker opens no longer than it
//     would the first time; only an attempt closes it.
//  2. Loading: it gets no new jobs.
//  3. Unhealthy while attempts run there: weak evidence, two running are needed.
//  4. Unhealthy: down, for new jobs. What runs there is not given up. That soon after it came up is flapping.
func (s *Scheduler) probed(e Probed) {
	b := s.byID[e.Backend]
	if b == nil {
		return
	}
	h := &b.health
	switch {
	case e.Healthy: // (1)
		if h.condition == down {
			h.fell.rose = s.now
			if !h.fell.again {
				h.breaker.Shorten(time.Duration(s.now) + s.cfg.Breaker.OpenFor)
			}
		}
		if h.condition == down || h.condition == loading {
			b.warmUp()
		}
		h.condition, h.strikes = up, 0
	case e.Loading: // (2)
		h.condition, h.strikes = loading, 0
		h.awayUntil = s.now.Add(awayPause)
	default:
		h.strikes++
		if len(b.running) > 0 && h.condition == up && h.strikes < strikesWithWork { // (3)
			return
		}
		if h.condition == up {
			s.fall(b)
		}
		h.condition = down // (4)
		h.awayUntil = s.now.Add(awayPause)
	}
}

// judge takes in what an attempt's outcome says of the backend. The table is that of section 6.2 of
// the scheduling notes.
func (s *Scheduler) judge(a *attempt, o Outcome) {
	b, h, verdict := a.backend, &a.backend.health, breaker.Ignored
	if a.breaker != h.breaker { // it ran on another machine, which had the name before
		a.breaker.End(time.Duration(s.now), a.pass, verdict)
		return
	}
	switch o.Result {
	case Success:
		b.served++
		h.condition, h.strikes, h.busyRow = up, 0, 0
		verdict = breaker.Good
		b.succeeded(s.now)
		if h.cause == Overdue { // it did not hang, after all
			h.breaker.Shorten(time.Duration(s.now))
		}
	case Failed, Died:
		b.failed++
		verdict = breaker.Bad
		if o.Result == Died {
			s.ask(b)
		}
	case Busy:
		if b.refused(s.now) && o.RetryAfter == 0 {
			break // one job too many is no reason to leave it alone
		}
		if s.pause(b, o.RetryAfter) {
			verdict = breaker.Bad
			b.failed++
		}
	case Loading:
		h.condition = loading
		h.awayUntil = s.now.Add(awayPause)
		b.warmUp()
	case ClientError, Aborted: // say nothing of it
	}
	s.turn(b, h.breaker.End(time.Duration(s.now), a.pass, verdict), o)
	s.strike(a, o)
	s.suspect(a, o)
	if a.gaveUp(s.now, o) {
		s.gaveUpOn(a)
	}
}

// gaveUpOn leaves a backend alone on which attempts were given up running: it hangs, and would catch one more
// job each time.
func (s *Scheduler) gaveUpOn(a *attempt) {
	b, w := a.backend, &a.backend.health.slow
	if b.answeredSince(a.started) {
		return
	}
	if w.givenUp++; w.givenUp >= givenUpMax && s.mayLeaveOut(b) {
		s.trip(b, Overdue, fmt.Sprintf("%d jobs running were given up there, the last after %v", w.givenUp, s.now.Sub(a.started).Round(time.Second)))
	}
}

// away says whether it is out until awayUntil, because no prober will tell when it is back.
func (h *health) away() bool {
	return !h.checked && (h.condition == loading || h.condition == down)
}

// takes says whether new jobs may be sent there, now or when a slot or a pause ends.
func (b *backend) takes(now Instant) bool {
	return !b.draining && !b.Drained && b.health.condition == up && b.health.breaker.Admits(time.Duration(now))
}

// sound says whether it takes jobs and no doubt about it is left.
func (b *backend) sound(now Instant) bool {
	return b.takes(now) && b.health.breaker.State(time.Duration(now)) == breaker.Closed
}

// comesBack is when a backend that is left alone is looked at again without any news.
func (b *backend) comesBack(now Instant) (at Instant, ok bool) {
	h := &b.health
	switch {
	case b.draining, b.Drained:
		return 0, false
	case h.away():
		return h.awayUntil, true
	case h.condition != up:
		return 0, false
	case h.breaker.State(time.Duration(now)) == breaker.Open:
		return Instant(h.breaker.OpenUntil()), true
	case now < h.pausedUntil:
		return h.pausedUntil, true
	}
	return 0, false
}

// ask has a prober look at the backend now, unless one was asked a moment ago.
func (s *Scheduler) ask(b *backend) {
	h := &b.health
	if b.draining || b.Drained || h.wasAsked && s.now.Sub(h.asked) < probeGap {
		return
	}
	h.asked, h.wasAsked = s.now, true
	s.decide(Probe{Backend: b.ID})
}

// state is the backend's state as a word.
func (b *backend) state(now Instant) string {
	switch h := &b.health; {
	case b.draining:
		return stateDraining
	case b.Drained:
		return stateDrained
	case h.condition == unknown:
		return stateUnknown
	case h.condition == loading:
		return stateLoading
	case h.condition == down:
		return stateDown
	case h.breaker.State(time.Duration(now)) == breaker.Open:
		return stateOpen
	case h.breaker.State(time.Duration(now)) == breaker.HalfOpen:
		return stateHalfOpen
	case now < h.pausedUntil:
		return statePaused
	default:
		return stateUp
	}
}
