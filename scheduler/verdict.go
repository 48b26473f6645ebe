package scheduler

import (
	"fmt"
	"time"

	"github.com/whisperpool/whisperpool/scheduler/breaker"
)

// turn follows what an attempt's verdict did to its backend's breaker.
func (s *Scheduler) turn(b *backend, change breaker.Change, o Outcome) {
	m := b.health.breaker
	switch change {
	case breaker.OpenedByRow:
		s.opened(b, FailuresRunning, fmt.Sprintf("%s running, the last: %s", counted(m.Row(), "failure"), o.Result))
	case breaker.OpenedByRatio:
		s.opened(b, FailureRatio, fmt.Sprintf("%d of its last %d attempts failed, the last: %s", m.Bad(), m.Counted(), o.Result))
	case breaker.OpenedByProbe:
		why := "failed again when it was tried"
		if n := m.Openings(); n > 2 {
			why += fmt.Sprintf(", %d times running", n-1)
		}
		s.opened(b, ProbeFailed, fmt.Sprintf("%s: %s", why, o.Result))
	case breaker.ClosedAgain:
		b.health.cause, b.health.why, b.health.fell.again = 0, "", false
		b.health.slow.strikes, b.health.slow.givenUp = 0, 0
		s.decide(Judged{Backend: b.ID, Verdict: Closed})
	}
}

// trip opens a backend's breaker for something that the breaker cannot see. One that is not closed stays as it is.
func (s *Scheduler) trip(b *backend, cause Cause, why string) {
	if b.health.breaker.Trip(time.Duration(s.now)) == breaker.OpenedByTrip {
		s.opened(b, cause, why)
	}
}

// opened notes why a backend's breaker opened. What only a piece of speech can show is not forgotten because that
// failed otherwise.
func (s *Scheduler) opened(b *backend, cause Cause, why string) {
	h := &b.health
	if cause != ProbeFailed || !h.cause.needsTrial() {
		h.cause = cause
	}
	h.why, h.suspicion = why, 0
	b.warmUp()
	s.decide(Judged{Backend: b.ID, Verdict: Opened, Cause: cause, For: h.breaker.OpenUntil() - time.Duration(s.now)})
}

// needsTrial says whether a client's job is too good to find out if what was wrong with a backend is over: it
// might be caught, or be answered with nothing.
func (c Cause) needsTrial() bool { return c == Overdue || c == NoWords || c == RefusesAll }

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// whyNot says in words what is wrong with a backend, "" when nothing is.
func (b *backend) whyNot(now Instant) string {
	h := &b.health
	state := b.state(now)
	switch state {
	case stateDraining:
		return "no longer configured; finishes what runs there"
	case stateDrained:
		return "drained by an operator"
	case stateUnknown:
		return "waits for its first health check"
	case stateLoading:
		return "its model is loading"
	case stateDown:
		return "its health check fails"
	case stateOpen:
		return h.why
	case stateHalfOpen:
		return "was left alone and may be tried again: " + h.why
	case statePaused:
		return "asked to be left alone (429 or 503)"
	}
	switch {
	case h.suspicion == NoWords:
		return fmt.Sprintf("%d answers running without words, where others find some", h.silentRow)
	case h.suspicion == RefusesAll:
		return fmt.Sprintf("refused %d clients running, where others accept", h.refusedRow)
	case b.stalled(now):
		return "a job runs there for far longer than predicted, and nothing else has come back"
	case h.slow.penaltyAt(now) > 1.1:
		return fmt.Sprintf("taken for %.1f times slower than learned, since it was too slow and too many others are left alone", h.slow.penaltyAt(now))
	case b.cold > 0:
		return fmt.Sprintf("starts slowly: %s more, one at a time", counted(b.cold, "job"))
	}
	return ""
}
