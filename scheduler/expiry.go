package scheduler

import (
	"container/heap"
	"time"
)

// never is an instant that does not come.
const never = Instant(1<<63 - 1)

// graceShare of Queue.MaxWait is how much longer than that a job may wait that is in the queue. It was let in
// because it was predicted to be in time; to refuse it when it is nearly its turn would be the worst of both.
const graceShare = 0.1

// expiryOf is when a job that waits has waited too long, or its client has.
func (s *Scheduler) expiryOf(j *job) Instant {
	at := never
	if most := s.cfg.Queue.MaxWait; most > 0 {
		most += time.Duration(graceShare * float64(most))
		at = j.queuedSince.Add(max(0, most-j.waited))
	}
	if j.Deadline > 0 {
		at = min(at, j.Deadline)
	}
	if j.owes {
		at = min(at, j.owesUntil)
	}
	return at
}

// expire settles the jobs that have waited too long.
func (s *Scheduler) expire() {
	for {
		j := s.expiries.first()
		if j == nil || j.expires > s.now {
			return
		}
		reason := WaitTooLong
		if j.Deadline > 0 && j.Deadline <= s.now {
			reason = DeadlinePassed
		} else if j.owes && j.owesUntil <= s.now { // its attempt failed, and nobody could pay for another
			reason = Exhausted
		}
		s.settle(j, reason, s.drainHint(j))
	}
}

// renewExpiries follows a change of Queue.MaxWait.
func (s *Scheduler) renewExpiries() {
	for _, j := range s.expiries {
		j.expires = s.expiryOf(j)
	}
	heap.Init(&s.expiries)
}

// expiries is a heap of the jobs that wait, by expiry and then by order, for package heap.
type expiries []*job

func (e expiries) first() *job {
	if len(e) == 0 || e[0].expires == never {
		return nil
	}
	return e[0]
}

func (e expiries) Len() int { return len(e) }
func (e expiries) Less(i, j int) bool {
	if e[i].expires != e[j].expires {
		return e[i].expires < e[j].expires
	}
	return e[i].order < e[j].order
}

func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].expiryIndex, e[j].expiryIndex = i, j
}

func (e *expiries) Push(x any) {
	j := x.(*job)
	j.expiryIndex = len(*e)
	*e = append(*e, j)
}

func (e *expiries) Pop() any {
	last := len(*e) - 1
	j := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	return j
}
