package scheduler

import (
	"container/heap"
	"time"
)

// A retry of a failure that was answered costs a token. Successes earn Config.RetryBudget of one each and time
// budgetRate a second, so that where everything fails retries cannot multiply the load. Deaths of connections and
// backends that are busy or loading cost nothing: they took no time of a card.
//
// A budget is there to stop storms, not to lose transcripts. So a job that cannot pay goes free where it harms
// nobody, which is when no other job of its class waits and another backend is idle; else it waits for a token, at
// its old place, for debtMax at most, while others pass. Only then is it over.
const (
	budgetMax  = 10.0 // tokens kept, and there at first
	budgetRate = 0.3  // per second: 3 in 10 s
	debtMax    = 10 * time.Second
	// debtorsMax jobs wait for a token at a time: in a real storm more would only wait in vain.
	debtorsMax = 32
)

// budget is the tokens for retries.
type budget struct {
	tokens  float64
	at      Instant
	debtors int // jobs that wait for one
}

func (b *budget) refill(now Instant) {
	b.tokens = min(b.tokens+budgetRate*now.Sub(b.at).Seconds(), budgetMax)
	b.at = now
}

// earn takes in a success.
func (s *Scheduler) earn() { s.budget.tokens = min(s.budget.tokens+s.cfg.RetryBudget, budgetMax) }

// pay takes a token if there is one.
func (b *budget) pay(now Instant) bool {
	if b.refill(now); b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// lend has a job wait for a token that is to be retried and could not pay; false where too many do.
func (s *Scheduler) lend(j *job) bool {
	if s.budget.debtors >= debtorsMax {
		return false
	}
	s.budget.debtors++
	j.owes, j.owesUntil = true, s.now.Add(debtMax)
	return true
}

// redeem says whether a job may start that waits for a token. Idle: a backend that it may go to is.
func (s *Scheduler) redeem(j *job, idle bool) bool {
	switch {
	case !j.owes:
		return true
	case idle && j.class.waiting == 1:
	case !s.budget.pay(s.now):
		s.wakeAt(s.now.Add(duration((1 - s.budget.tokens) / budgetRate)))
		return false
	}
	s.budget.debtors--
	j.owes = false
	j.expires = s.expiryOf(j)
	heap.Fix(&s.expiries, j.expiryIndex)
	return true
}
