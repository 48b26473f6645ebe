package scheduler

import (
	"fmt"
	"slices"
	"time"
)

const (
	// A job that was running when two backends died is taken to be what killed them. One death says less where the
	// backend has died under others a moment ago, and nothing where it did so again and again.
	deathsMax   = 4
	deathClear  = 2
	deathDoubts = 30 * time.Second
	// crashSpan is how far apart the attempts end that one crash has ended.
	crashSpan = 250 * time.Millisecond
	// crashesKept of a backend are more than say nothing any more, and those of one job.
	crashesKept = diedMax + deathClear
	// The attempts that are free of Config.Attempts are bounded too, so that nothing is retried for ever:
	// diedMax deaths, and turnedAwayMax answers of a backend that was busy or loading, between which there
	// are pauses.
	diedMax       = 10
	turnedAwayMax = 60
	// The pause before a job goes again to where it failed, because there is nobody else; it doubles.
	repeatPause    = 500 * time.Millisecond
	repeatPauseMax = 8 * time.Second
)

// arrive takes a job in. It is placed, held or refused at the end of the step.
func (s *Scheduler) arrive(told Job) *job {
	if s.jobs[told.ID] != nil {
		panic(fmt.Sprintf("scheduler: job %d arrived twice", told.ID))
	}
	c := s.classFor(told)
	if c == nil {
		s.decide(Settle{Job: told.ID, Reason: NoBackend, RetryAfter: retryAfterMax})
		return nil
	}
	j := s.newJob(told, c)
	s.jobs[j.ID] = j
	s.heldBytes += j.Bytes
	s.enqueue(j)
	if most := s.cfg.Queue.MaxBytes; most > 0 && s.heldBytes > most {
		s.settle(j, QueueFull, s.drainHint(j))
	}
	return j
}

// cancel ends a job whose client left: at once when it waits, else when its attempt has ended.
func (s *Scheduler) cancel(id JobID) {
	j := s.jobs[id]
	switch {
	case j == nil || j.canceled:
	case j.queued:
		s.settle(j, ClientGone, 0)
	default:
		j.canceled = true
		s.abortAll(j, nil)
	}
}

// abortAll ends a job's attempts but one.
func (s *Scheduler) abortAll(j *job, but *attempt) {
	for _, a := range j.running {
		if a != but {
			s.abort(a)
		}
	}
}

func (s *Scheduler) abort(a *attempt) {
	if !a.aborted {
		a.aborted = true
		s.decide(Abort{Attempt: a.id})
	}
}

// commit notes that the answer is about to reach the client, so that no attempt may follow this one.
func (s *Scheduler) commit(id AttemptID) {
	a := s.attempts[id]
	if a == nil || a.trial {
		panic(fmt.Sprintf("scheduler: Committed for attempt %d, which does not run or is a trial", id))
	}
	a.job.committed = true
	s.abortAll(a.job, a)
}

// finish takes in how an attempt ended and decides what becomes of its job.
func (s *Scheduler) finish(id AttemptID, o Outcome) {
	a := s.attempts[id]
	if a == nil {
		panic(fmt.Sprintf("scheduler: Finished for attempt %d, which does not run", id))
	}
	if o.Result < Success || o.Result > Aborted {
		panic(fmt.Sprintf("scheduler: attempt %d finished with the unknown result %d", id, o.Result))
	}
	if o.Result == Aborted && !a.aborted {
		panic(fmt.Sprintf("scheduler: attempt %d finished as aborted, and was not", id))
	}
	if o.Result == Aborted && a.givenUp && !a.job.canceled && a.job.decided == 0 {
		o.Result = Failed
	}
	delete(s.attempts, id)
	b, j := a.backend, a.job
	b.stop(a, s.now)
	if a.trial {
		s.finishTrial(a, o)
	} else {
		s.learn(a, o)
		s.judge(a, o)
	}
	if b.draining && len(b.running) == 0 {
		s.forget(b)
	}
	if a.trial {
		s.spareAttempts.put(a)
		return
	}
	i := slices.Index(j.running, a)
	j.running = slices.Delete(j.running, i, i+1)
	if j.decided == 0 && (o.Result != Aborted || j.canceled) || o.Result == Success {
		j.last, j.lastBackend = o, b.ID
	}
	s.follow(j, a, o)
	s.spareAttempts.put(a)
}

// follow decides what becomes of a job after an attempt:
//
//  1. A success, or a refusal that any backend would repeat, decides it; siblings are aborted.
//  2. It pays for the attempt, or not: an answered failure does; a death, a backend that is busy or one
//     that is loading does not, up to a bound.
//  3. A sibling runs yet: that is waited for.
//  4. The client left: that is all.
//  5. It is decided: it is over.
//  6. Something of the answer has reached the client: it cannot be tried again.
//  7. It has no attempt left, or backends die of it: it is over.
//  8. It waits again, at its old place, if the retry budget allows.
func (s *Scheduler) follow(j *job, a *attempt, o Outcome) {
	switch {
	case o.Result == Success: // (1)
		j.decided = Served
		s.earn()
	case o.Result == ClientError && j.decided == 0:
		j.decided = Refused
	default:
		j.account(a, o, s.now) // (2)
	}
	if len(j.running) > 0 { // (3)
		if j.decided != 0 {
			s.abortAll(j, nil)
		}
		return
	}
	switch {
	case j.canceled: // (4)
		s.settle(j, ClientGone, 0)
	case j.decided != 0: // (5)
		s.settle(j, j.decided, 0)
	case j.committed: // (6)
		s.settle(j, Exhausted, 0)
	case j.deaths >= deathsMax: // (7)
		s.settle(j, Poison, 0)
	case j.paid >= s.cfg.Attempts || j.died >= diedMax || j.turnedAway >= turnedAwayMax:
		s.settle(j, Exhausted, retryAfterMin)
	case o.Result == Failed && !s.budget.pay(s.now) && !s.lend(j): // (8)
		s.settle(j, Exhausted, retryAfter(debtMax))
	default:
		j.notBefore = s.now.Add(min(repeatPause<<max(0, len(j.failedOn)-1), repeatPauseMax))
		s.enqueue(j)
	}
}

// account counts an attempt that has come to nothing.
func (j *job) account(a *attempt, o Outcome, now Instant) {
	switch o.Result {
	case Failed:
		j.paid++
		j.failedOn = append(j.failedOn, a.backend)
	case Died:
		j.died++
		if !o.Unreached {
			j.deaths += j.blame(a, a.backend.crashed(now))
		}
		j.failedOn = append(j.failedOn, a.backend)
	case Busy, Loading:
		j.turnedAway++
	}
}

// blame is how much it says against a job that a backend died which had done so before, of late.
func (j *job) blame(a *attempt, before int) int {
	if a.pass.Probe { // a half-open backend was dying before
		return 0
	}
	for _, b := range j.failedOn {
		if b == a.backend { // under this job
			before--
		}
	}
	return max(0, deathClear-max(0, before))
}

// crashed notes that a backend died, and returns how often it had before, of late.
func (b *backend) crashed(now Instant) (before int) {
	if last := len(b.crashes) - 1; last < 0 || now.Sub(b.crashes[last]) > crashSpan {
		if b.crashes = append(b.crashes, now); len(b.crashes) > crashesKept {
			b.crashes = slices.Delete(b.crashes, 0, 1)
		}
	}
	for _, at := range b.crashes[:len(b.crashes)-1] {
		if now.Sub(at) < deathDoubts {
			before++
		}
	}
	return before
}

// settle ends a job. Requires: no attempt of it runs.
func (s *Scheduler) settle(j *job, reason SettleReason, retryAfter time.Duration) {
	if len(j.running) > 0 {
		panic(fmt.Sprintf("scheduler: job %d settled while attempt %d runs", j.ID, j.running[0].id))
	}
	if j.queued {
		s.dequeue(j)
	}
	delete(s.jobs, j.ID)
	s.heldBytes -= j.Bytes
	s.decide(Settle{
		Job: j.ID, Reason: reason, RetryAfter: retryAfter, Attempts: j.attempts, Waited: j.waited,
		Last: j.last, Backend: j.lastBackend,
	})
	s.leave(j.tenant)
	clear(j.failedOn)
	s.spareJobs.put(j)
}
