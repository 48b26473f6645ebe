package scheduler

import (
	"slices"
	"time"
)

const (
	pauseDefault = time.Second      // after 429 or 503 without Retry-After, the first time
	pauseMax     = 60 * time.Second // however long Retry-After is
	// busyRowMax answers of 429 or 503 running without Retry-After are a failure, and so are each as many
	// more: nobody that is just busy answers so.
	busyRowMax = 3
	// Each pause running is so many times as long as the one before. Twice is not enough to keep one that never
	// takes anything below a hundredth of the picks; with more, one that somebody else keeps busy for half a
	// minute would be left alone for far longer than it is busy.
	pauseGrowth = 3
)

// pause leaves the backend alone for a while and says whether that was once too often. Without Retry-After it
// is for longer each time, until something succeeds there; but not while nobody else could do its work,
// which would only make jobs wait.
func (s *Scheduler) pause(b *backend, retryAfter time.Duration) (failure bool) {
	h := &b.health
	already := s.now < h.pausedUntil // attempts that were sent together come back together
	if retryAfter > 0 {
		h.busyRow = 0
		h.pausedUntil = max(h.pausedUntil, s.now.Add(min(retryAfter, pauseMax)))
		return false
	}
	length := pauseDefault
	if !already {
		h.busyRow++
		if s.relieved(b) {
			length = s.pauseOf(h.busyRow)
		}
	}
	h.pausedUntil = max(h.pausedUntil, s.now.Add(length))
	return !already && h.busyRow%busyRowMax == 0
}

// pauseOf is how long a backend is left alone after so many busy answers running.
func (s *Scheduler) pauseOf(row int) time.Duration {
	length, most := pauseDefault, max(s.cfg.Breaker.MaxOpenFor, pauseDefault)
	for ; row > 1 && length < most; row-- {
		length *= pauseGrowth
	}
	return min(length, most)
}

// relieved says whether each class that a backend serves has another that takes its jobs now.
func (s *Scheduler) relieved(b *backend) bool {
	for _, c := range s.classes {
		if b.serves(c) && !slices.ContainsFunc(c.serving, func(o *backend) bool {
			return o != b && o.sound(s.now) && s.now >= o.health.pausedUntil
		}) {
			return false
		}
	}
	return true
}
