package scheduler

import (
	"math"
	"time"
)

const (
	// An attempt is given up at giveUpFactor times its predicted service time, more where jobs vary
	// a lot or little was seen, but never before giveUpMin.
	giveUpFactor = 4.0
	giveUpMin    = 10 * time.Second
	// giveUpSpreads widens it: that many spreads above the prediction a job is still an ordinary one.
	giveUpSpreads = 4.0
	// fewObservations, and the factor for a speed learned from fewer, or for a size that is a guess.
	fewObservations = 3
	giveUpFew       = 2.0
	giveUpGuessed   = 3.0
	// While nothing was seen, an attempt gets giveUpUnknown and giveUpAudio times its audio's length:
	// a large model on a few CPU cores takes several times that.
	giveUpUnknown = time.Minute
	giveUpAudio   = 10.0
	// Where a peer is known, giveUpUnsure is enough, or what one takes that is pessimism times as slow as the
	// slowest known: nobody is to wait for minutes for a server that hangs from its beginning. One that is so slow
	// is learned by a trial, which is short.
	giveUpUnsure = 30 * time.Second
	// giveUpLast is added where nobody is left to try: giving up would save nothing.
	giveUpLast = 10 * time.Minute
)

// dispatch starts an attempt of a job that waits, on the candidate that was chosen.
func (s *Scheduler) dispatch(j *job, b *backend, chosen *Candidate, reason Reason) {
	c := j.class
	if b.idle <= 0 {
		panic("scheduler: policy " + s.policy.Name() + " chose " + string(b.ID) + ", which has no free slot")
	}
	s.dequeue(j)
	if j.attempts == 0 {
		s.charge(j)
	}
	s.note(j, chosen)
	a := s.begin(j, b, chosen.Predicted)
	// Giving up the last attempt would save nothing, nor one that nobody else could take over; but what
	// a half-open backend shows is waited for.
	last := j.paid+1 >= s.cfg.Attempts || !a.pass.Probe && !another(c, b)
	a.timeout = s.giveUpAfter(a, last)
	switch {
	case a.pass.Probe:
		reason = HalfOpen
	case !chosen.Known:
		reason = Explore
	case len(c.members) == 1:
		reason = OnlyOne
	}
	s.occupied(b, a)
	s.decide(Dispatch{
		Attempt: a.id, Job: j.ID, Backend: b.ID, Model: j.Model, Reason: reason, Timeout: a.timeout,
		Predicted: chosen.Predicted, Waited: j.waited, Number: j.attempts,
	})
}

// begin makes an attempt of a job on a backend that has a slot for it.
func (s *Scheduler) begin(j *job, b *backend, guess time.Duration) *attempt {
	s.lastAttempt++
	a := s.spareAttempts.get()
	*a = attempt{
		id: s.lastAttempt, job: j, backend: b, started: s.now, guess: guess,
		speed: s.speed(b, j.class.modelIndex), breaker: b.health.breaker,
	}
	a.pass = a.breaker.Begin(time.Duration(s.now))
	b.start(a, s.now)
	b.lastModel = j.class.modelIndex
	a.expect()
	if s.watchAt = min(s.watchAt, a.late(), a.overdue()); a.expected == 0 {
		s.watchAt = min(s.watchAt, s.now.Add(giveUpUnsure))
	}
	s.attempts[a.id] = a
	j.running = append(j.running, a)
	j.attempts++
	s.placements++
	s.spent += guess
	return a
}

// occupied follows a dispatch in what the rest of the round sees.
func (s *Scheduler) occupied(b *backend, a *attempt) {
	if b.idle--; a.pass.Probe {
		b.idle = 0
	}
	if b.idle == 0 {
		s.surveyBusy(b)
		if a.pass.Probe { // it takes no other job before this one has told
			b.freeIn = a.remaining(s.now)
			b.busy = append(b.busy[:0], b.freeIn)
		}
	}
	for _, c := range s.classes {
		if i, ok := s.memberOf(c, b); ok {
			s.rate(c, &c.members[i])
		}
		c.idle = c.idle && anyIdle(c.serving)
	}
	s.refresh(b)
}

// another says whether some other backend takes jobs of the class.
func another(c *class, b *backend) bool {
	for i := range c.members {
		if c.members[i].backend != b {
			return true
		}
	}
	return false
}

// giveUpAfter is how long an attempt may take. Requires: the backend counts it.
func (s *Scheduler) giveUpAfter(a *attempt, last bool) time.Duration {
	var limit time.Duration
	switch {
	case a.pass.Probe:
		limit = s.probeTimeout(a)
	case a.speed.Observations() == 0:
		limit = s.unknownTimeout(a)
	default:
		limit = max(a.tolerated(), giveUpMin)
	}
	if last {
		limit += giveUpLast
	}
	return limit
}

// unknownTimeout is how long an attempt of a client's job may take where nothing was seen of its backend.
func (s *Scheduler) unknownTimeout(a *attempt) time.Duration {
	most := giveUpUnknown + duration(giveUpAudio*a.job.AudioSeconds) + time.Duration(giveUpFactor*float64(a.guess))
	if byPeers, known := s.timeoutByPeers(a); known {
		most = min(most, byPeers)
	}
	return most
}

// timeoutByPeers is the same by what peers take that are well and known, if there are any.
func (s *Scheduler) timeoutByPeers(a *attempt) (limit time.Duration, known bool) {
	slowest, class := a.guess.Seconds(), a.job.class // the guess may come from a configured prior
	for _, o := range class.serving {
		if o == a.backend || !o.sound(s.now) || class.modelIndex >= len(o.speeds) || o.speeds[class.modelIndex] == nil {
			continue
		}
		if speed := o.speeds[class.modelIndex]; speed.Observations() >= fewObservations {
			known = true
			slowest = max(slowest, speed.Theta(o.slots())*speed.Cost.Of(a.job.AudioSeconds))
		}
	}
	if a.job.SizeGuessed {
		slowest *= giveUpGuessed
	}
	return max(giveUpUnsure, duration(giveUpFactor*pessimism*slowest)), known
}

// tolerated is how long an attempt may take by what was seen of its backend.
func (a *attempt) tolerated() time.Duration {
	crowded := max(len(a.backend.running), a.backend.slots())
	if a.trial { // nobody joins it
		crowded = len(a.backend.running)
	}
	predicted := a.speed.Theta(crowded) * a.speed.Cost.Of(a.job.AudioSeconds)
	factor := max(giveUpFactor, math.Exp(giveUpSpreads*a.speed.Spread()))
	if a.speed.Observations() < fewObservations {
		factor *= giveUpFew
	}
	if a.job.SizeGuessed {
		factor *= giveUpGuessed
	}
	return duration(factor * predicted)
}
