package caddymodule

import (
	"slices"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// The phases of a request, which add up to its duration: at each moment it is in one of them.
const (
	phaseUpload  = iota // until the upload was there, or refused
	phaseQueue          // from then on, while nothing ran: looking at the upload, and waiting for a backend
	phaseFailed         // in attempts that came to nothing
	phaseService        // in the attempt that gave the answer
	phaseReply          // from then on; what was left of an upload that is refused comes in here, too
	phaseCount
)

var phaseNames = [phaseCount]string{"upload", "queue", "failed_attempt", "service", "reply"}

// course is a request's attempts, which may run side by side, and may go on when it has been answered.
type course struct {
	mu    sync.Mutex
	spans []span
}

type span struct {
	attempt      scheduler.AttemptID
	began, ended time.Time        // ended is zero while it runs,
	result       scheduler.Result // and result too
}

// begin tells how the last attempt that has ended so far did, 0 when none has.
func (c *course) begin(d scheduler.Dispatch, at time.Time) (before scheduler.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := time.Time{}
	for _, s := range c.spans {
		if s.result != 0 && !s.ended.Before(last) {
			before, last = s.result, s.ended
		}
	}
	c.spans = append(c.spans, span{attempt: d.Attempt, began: at})
	return before
}

func (c *course) end(d scheduler.Dispatch, result scheduler.Result, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.spans {
		if s := &c.spans[i]; s.attempt == d.Attempt && s.result == 0 {
			s.ended, s.result = at, result
		}
	}
}

// within is how much of the time from one moment to another some attempt ran, and some that counts as the service.
func (c *course) within(from, to time.Time, service func(span) bool) (ran, served time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortStableFunc(c.spans, func(a, b span) int { return a.began.Compare(b.began) })
	all, some := from, from // up to where it has been counted
	for _, s := range c.spans {
		end := to
		if s.result != 0 && s.ended.Before(to) {
			end = s.ended
		}
		ran += cover(&all, s.began, end)
		if service(s) {
			served += cover(&some, s.began, end)
		}
	}
	return ran, served
}

// cover counts what of a span lies behind a mark, which it moves to the span's end.
func cover(mark *time.Time, began, ended time.Time) time.Duration {
	if began.Before(*mark) {
		began = *mark
	}
	if !ended.After(began) {
		return 0
	}
	*mark = ended
	return ended.Sub(began)
}

// phases splits the time from the request's arrival to its end. Where there is an answer, the attempt that gave it is
// the service; else it is those that did not fail, as when the client left.
func (t *transcription) phases(end time.Time) (took [phaseCount]time.Duration) {
	replying := t.replying
	if replying.IsZero() {
		replying = end
	}
	queued := replying
	if t.uploaded > 0 {
		queued = t.arrived.Add(t.uploaded)
	}
	answer := t.answer.Load()
	ran, served := t.course.within(queued, replying, func(s span) bool {
		if answer != nil {
			return s.attempt == answer.attempt.Attempt
		}
		switch s.result {
		case 0, scheduler.Success, scheduler.ClientError, scheduler.Aborted:
			return true
		}
		return false
	})
	took[phaseUpload] = queued.Sub(t.arrived)
	took[phaseQueue] = replying.Sub(queued) - ran
	took[phaseFailed] = ran - served
	took[phaseService] = served
	took[phaseReply] = end.Sub(replying)
	return took
}
