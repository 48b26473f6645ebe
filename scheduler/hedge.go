package scheduler

import "time"

// Hedging is insurance against a backend that has become slow while it runs a job: once the job takes far longer
// than predicted (attempt.late) it is started a second time, where that takes nothing from anybody. Whoever is done
// first serves it; the other is aborted. Long jobs are long on every card, so hedging by elapsed time alone would
// do most of the work twice; hence the evidence, the idle backend and the budget (scheduling notes, 8.7).
const (
	// hedgeShare of the predicted seconds that were dispatched, and hedgeFree more, may be spent on it.
	hedgeShare = 0.02
	hedgeFree  = time.Second
)

// hedge starts jobs a second time that take far too long, after the placement of those that wait.
func (s *Scheduler) hedge() {
	if !s.cfg.Hedge || s.waiting > 0 {
		return
	}
	for _, b := range s.pool {
		for _, a := range b.running {
			if s.hedgeable(a) {
				s.hedgeOne(a)
			}
		}
	}
}

// hedgeable says whether an attempt is to be hedged: it is late, it is the only one of its job, and somebody waits
// for the answer, none of which has been sent.
func (s *Scheduler) hedgeable(a *attempt) bool {
	j := a.job
	return !a.trial && !a.aborted && s.now >= a.late() && len(j.running) == 1 && !j.canceled && !j.committed && j.band != batch
}

// hedgeOne starts an attempt's job on the idle backend that would be done with it first, if that is sooner than
// what is left of the attempt, and within the budget.
func (s *Scheduler) hedgeOne(late *attempt) {
	j := late.job
	var best *backend
	least := late.remaining(s.now)
	for _, o := range j.class.serving {
		if o == late.backend || j.failedAt(o) || o.cold > 0 || !o.sound(s.now) || !s.forClients(o) ||
			s.now < o.health.pausedUntil || len(o.running) >= s.limit(o) {
			continue
		}
		speed := s.speed(o, j.class.modelIndex)
		if speed.Observations() < fewObservations {
			continue
		}
		if takes := duration(speed.Theta(o.occupancyNext()) * speed.Cost.Of(j.AudioSeconds)); takes < least {
			best, least = o, takes
		}
	}
	if best == nil || s.hedged+least > time.Duration(hedgeShare*float64(s.spent))+hedgeFree {
		return
	}
	s.hedged += least
	s.noteHedge(late, late.remaining(s.now), best, least)
	a := s.begin(j, best, least)
	a.timeout = s.giveUpAfter(a, true)
	s.decide(Dispatch{
		Attempt: a.id, Job: j.ID, Backend: best.ID, Model: j.Model, Reason: Hedging, Timeout: a.timeout,
		Predicted: least, Waited: j.waited, Number: j.attempts,
	})
}
