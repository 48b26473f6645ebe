package scheduler

import "time"

const (
	// exploringMax backends are explored at a time in the pool, each with one job, unless nobody known
	// would finish the job sooner.
	exploringMax = 2
	// exploringAudioMax is the audio, in seconds, of a job that is rather not explored with.
	exploringAudioMax = 30.0
	// An unknown backend may be as slow as the slowest known, or pessimism times the fastest.
	pessimism = 3
	// A speed that has drifted by more than this factor is as good as unknown.
	unsureBelow = 0.7
)

// unsure says whether the member was not seen for so long that its speed is a guess.
func (m *member) unsure() bool { return m.theta < unsureBelow*m.held }

// offerSome fills the view where not every member is offered to the job:
//
//  1. Where an attempt of it failed, it does not go again while there is another; when there is none,
//     only after a pause.
//  2. A half-open backend gets a short job that has another attempt left, unless nobody else takes
//     any or it has waited for one long enough.
//  3. A backend whose speed is not known is taken for a little faster than the fastest known. It gets
//     no second job before the first has told, no long one, and no more than two are explored at a
//     time, as long as somebody known would finish the job sooner than it might.
func (s *Scheduler) offerSome(c *class, j *job) (idle bool) {
	again := s.mayRepeat(c, j)
	for i := range c.members {
		m := &c.members[i]
		m.open = again || !j.failedAt(m.backend)               // (1)
		m.open = m.open && (!m.probing || s.mayProbe(c, j, m)) // (2)
		m.open = m.open && (m.backend.cold == 0 || m.probing || c.mayWarm(j))
	}
	known := c.knownFor(j)
	s.round.few, s.round.fewOf = s.round.few[:0], s.round.fewOf[:0]
	for i := range c.members {
		m := &c.members[i]
		if !m.open {
			continue
		}
		o := c.offers[i]
		o.Predicted = m.predict(j.AudioSeconds)
		if m.theta == 0 {
			least := duration(m.speed.AtLeast() * m.speed.Cost.Of(j.AudioSeconds))
			o.Predicted = max(time.Duration(optimism*float64(known.fastest)), least)
		}
		if (m.theta == 0 || m.unsure()) && !mayExplore(j, m, known) { // (3)
			continue
		}
		s.round.few, s.round.fewOf = append(s.round.few, o), append(s.round.fewOf, m.backend)
		idle = idle || o.Idle
	}
	s.round.view.Candidates, s.round.shown = s.round.few, s.round.fewOf
	return idle
}

// knowledge is what the members that are open to a job say of it.
type knowledge struct {
	fastest   time.Duration // the least service time, guesses included; 0 when there is none
	slowest   time.Duration // of those whose speed is sure
	soonest   time.Duration // the first completion on one of those; 0 when there is none
	exploring int           // members that are not sure and run a job
}

func (c *class) knownFor(j *job) (k knowledge) {
	for i := range c.members {
		m := &c.members[i]
		if !m.open {
			continue
		}
		takes := m.predict(j.AudioSeconds)
		if takes > 0 && (k.fastest == 0 || takes < k.fastest) {
			k.fastest = takes
		}
		if m.theta == 0 || m.unsure() {
			if len(m.backend.running) > 0 {
				k.exploring++
			}
			continue
		}
		k.slowest = max(k.slowest, takes)
		if done := m.backend.freeIn + takes; k.soonest == 0 || done < k.soonest {
			k.soonest = done
		}
	}
	return k
}

// mayExplore says whether a job may go to a member whose speed is not known, or not any more.
func mayExplore(j *job, m *member, known knowledge) bool {
	if known.soonest == 0 {
		return true
	}
	first := len(m.backend.running) == 0
	if first && known.exploring < exploringMax && j.AudioSeconds <= exploringAudioMax {
		return true
	}
	worst := max(known.slowest, pessimism*known.fastest)
	if m.held > 0 {
		worst = duration(m.held * m.speed.Cost.Of(j.AudioSeconds))
	}
	return m.backend.freeIn+worst < known.soonest
}

// mayRepeat says whether a job may go again to where an attempt of it failed.
func (s *Scheduler) mayRepeat(c *class, j *job) bool {
	for i := range c.members {
		if m := &c.members[i]; !m.probing && !j.failedAt(m.backend) {
			return false
		}
	}
	if s.now < j.notBefore {
		s.wakeAt(j.notBefore)
		return false
	}
	return true
}

// mayProbe says whether a job may be the half-open attempt on a member.
func (s *Scheduler) mayProbe(c *class, j *job, m *member) bool {
	if j.AudioSeconds <= probeAudioMax && j.paid+1 < s.cfg.Attempts {
		return true
	}
	if s.cfg.Trials {
		return false
	}
	if s.now.Sub(Instant(m.backend.health.breaker.OpenUntil())) >= probeAnyAfter {
		return true
	}
	for i := range c.members {
		if !c.members[i].probing {
			return false
		}
	}
	return true
}
