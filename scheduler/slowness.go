package scheduler

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"
)

// A backend is slow when its jobs take far longer than was learned of it, and those of its peers do not: so a
// card that was always slow is not, nor one in a pool that has become slow as a whole (a larger model, say). An
// absolute limit would leave out the slow class first and then, under the load that moves over, the fast one.
const (
	// slowWindow attempts are looked at, of which slowLeast have to be slow (scheduling notes, 8.5).
	slowWindow = 10
	slowLeast  = 6
	// slowSlack on top of the factor is for the network, which weighs where jobs take milliseconds.
	slowSlack = 250 * time.Millisecond
	// peersSound is how much slower than predicted peers may be in the median.
	peersSound = 2.0
	// paceWeight is that of the last attempt in how a backend does at present.
	paceWeight = 1.0 / 3
	// An attempt is late after lateFactor times its prediction, and lateSlack more at least. Where nothing
	// else has come back meanwhile, its backend may hang and gets no more jobs beside it.
	lateFactor = 3.0
	lateSlack  = 2 * time.Second
	// One that is overdue, with nothing else back, opens the breaker.
	overdueFactor = 8.0
	overdueMin    = 30 * time.Second
	// overdueAgain is when it is looked at again where nobody can do without the backend.
	overdueAgain = 5 * time.Second
	// givenUpMax attempts given up running, with no success between them, are as good as one overdue.
	givenUpMax = 2
	// slowShareMax of the capacity may be left out for being slow; beyond that a backend is only taken for
	// penalty times as slow as learned, which each attempt in time halves, and time too.
	slowShareMax    = 0.5
	penalty         = 4.0
	penaltyHalfLife = 30 * time.Second
)

// slowness is how a backend's attempts did against what was predicted.
type slowness struct {
	strikes  uint16  // the last attempts, a bit each, 1 for slow; the lowest is the last
	pace     float64 // mean of the log of actual / predicted, the last weighing most
	seen     int
	givenUp  int     // running
	penalty  float64 // above 1: see penalty
	since    Instant // of the penalty
	lastGood Instant // the last success; only meaningful when any
	any      bool
}

// expect notes how long an attempt ought to take by what was learned, 0 where too little was. It is what the
// attempt is judged by, so neither slow start nor penalty is in it. Requires: the backend counts it.
func (a *attempt) expect() {
	if a.speed.Observations() >= fewObservations {
		crowded := max(len(a.backend.running), a.backend.slots())
		a.expected = duration(a.speed.Theta(crowded) * a.speed.Cost.Of(a.job.AudioSeconds))
	}
}

// late is when an attempt is late, and overdue when it is overdue; never for those of which nothing is expected.
func (a *attempt) late() Instant {
	if a.expected == 0 || a.job.SizeGuessed {
		return never
	}
	return a.started.Add(max(time.Duration(lateFactor*float64(a.expected)), a.expected+lateSlack))
}

func (a *attempt) overdue() Instant {
	if a.expected == 0 || a.job.SizeGuessed {
		return never
	}
	return a.started.Add(max(time.Duration(overdueFactor*float64(a.expected)), overdueMin))
}

// strike takes in what the time that an attempt took says of its backend.
//
//  1. It was cancelled or given up: that it was slow shows, that it was not does not. One that we aborted
//     because a sibling won says nothing.
//  2. Nothing was expected, or the size is a guess that nobody has corrected: it says nothing.
//  3. It came back: in time or not.
func (s *Scheduler) strike(a *attempt, o Outcome) {
	slow, elapsed, expected := &a.backend.health.slow, s.now.Sub(a.started), a.expected
	ended := o.Result == Aborted || a.gaveUp(s.now, o)
	switch {
	case expected == 0 || ended && (a.job.SizeGuessed || o.Result == Aborted && !a.job.canceled), !ended && o.Result != Success: // (1) (2)
		return
	case o.AudioSeconds > 0 && o.AudioSeconds <= audioMax:
		expected = time.Duration(float64(expected) * a.speed.Cost.Of(o.AudioSeconds) / a.speed.Cost.Of(a.job.AudioSeconds))
	case a.job.SizeGuessed:
		return
	}
	isSlow := float64(elapsed) > s.cfg.Breaker.SlowFactor*float64(expected) && elapsed > expected+slowSlack
	if ended && !isSlow {
		return
	}
	slow.take(s.now, isSlow, math.Log(max(elapsed.Seconds(), 1e-3)/max(expected.Seconds(), 1e-3))) // (3)
	if isSlow && bits.OnesCount16(slow.strikes) >= slowLeast && s.peersSound(a) {
		s.leaveSlow(a.backend)
	}
}

func (w *slowness) take(now Instant, slow bool, logRatio float64) {
	w.strikes <<= 1
	if w.strikes &= 1<<slowWindow - 1; slow {
		w.strikes |= 1
	} else if w.penalty > 1 {
		w.penalty, w.since = 1+(w.penaltyAt(now)-1)/2, now
	}
	if w.seen++; w.seen == 1 {
		w.pace = logRatio
	}
	w.pace += paceWeight * (logRatio - w.pace)
}

// penaltyAt is how many times slower than learned the backend is taken for.
func (w *slowness) penaltyAt(now Instant) float64 {
	if w.penalty <= 1 {
		return 1
	}
	return 1 + (w.penalty-1)*math.Exp2(-now.Sub(w.since).Seconds()/penaltyHalfLife.Seconds())
}

// gaveUp says whether the attempt was ended because it took too long.
func (a *attempt) gaveUp(now Instant, o Outcome) bool {
	return o.Result == Failed && a.timeout > 0 && now.Sub(a.started) >= a.timeout
}

// peersSound says whether the peers of an attempt's backend keep to what was predicted of them, in the median:
// those of its GPU class where there are two, else all. Where there is none to compare with nobody can tell.
func (s *Scheduler) peersSound(a *attempt) bool {
	var alike, all []float64
	for _, b := range s.pool {
		if b == a.backend || b.health.slow.seen == 0 || !b.serves(a.job.class) {
			continue
		}
		all = append(all, b.health.slow.pace)
		if b.Class != "" && b.Class == a.backend.Class {
			alike = append(alike, b.health.slow.pace)
		}
	}
	if len(alike) >= 2 {
		all = alike
	}
	if len(all) == 0 {
		return false
	}
	slices.Sort(all)
	return all[len(all)/2] < math.Log(peersSound)
}

// leaveSlow leaves a slow backend alone, or takes it for slower where that would be one too many.
func (s *Scheduler) leaveSlow(b *backend) {
	h := &b.health
	slow := bits.OnesCount16(h.slow.strikes)
	times := math.Exp(h.slow.pace)
	h.slow.strikes = 0
	if s.mayLeaveOut(b) {
		s.trip(b, TooSlow, fmt.Sprintf("%.1f times slower than predicted, %d of its last %d jobs far too slow while its peers are not", times, slow, min(h.slow.seen, slowWindow)))
		return
	}
	h.slow.penalty, h.slow.since = penalty, s.now
	s.decide(Judged{Backend: b.ID, Verdict: Penalized, Cause: TooSlow})
}

// mayLeaveOut says whether the pool can do without a backend that still works: at most half of the capacity is
// left out so, and never the last that can do something.
func (s *Scheduler) mayLeaveOut(b *backend) bool {
	for _, c := range s.classes {
		if slices.Contains(c.serving, b) && !slices.ContainsFunc(c.serving, func(o *backend) bool { return o != b && o.sound(s.now) }) {
			return false
		}
	}
	all, out := 0.0, s.capacity(b)
	for _, o := range s.pool {
		if o.draining || o.Drained {
			continue
		}
		capacity := s.capacity(o)
		all += capacity
		if o != b && !o.sound(s.now) {
			out += capacity
		}
	}
	return out <= slowShareMax*all
}

// capacity is how many clips of ten seconds a backend does in a second, with the model that it is best known
// for; those of which nothing is known count little.
func (s *Scheduler) capacity(b *backend) float64 {
	best := 0.0
	for _, speed := range b.speeds {
		if speed != nil && speed.Observations() > 0 {
			best = max(best, 1/(speed.Theta(1)*speed.Cost.Of(referenceSeconds)))
		}
	}
	return best * float64(b.slots())
}

// watch looks at the attempts that run, as nothing else would tell of a backend that hangs, and comes back when
// the next of them is overdue.
func (s *Scheduler) watch() {
	if s.now < s.watchAt {
		return
	}
	s.watchAt = never
	for _, b := range s.pool {
		for _, a := range b.running {
			s.watchOne(a)
		}
	}
}

func (s *Scheduler) watchOne(a *attempt) {
	b := a.backend
	if a.expected == 0 {
		s.watchUnknown(a)
	}
	at := a.overdue()
	if s.now < at {
		if late := a.late(); s.now < late && (s.cfg.Trials || s.cfg.Hedge) {
			at = late
		}
		s.watchAt = min(s.watchAt, at)
		return
	}
	switch {
	case a.breaker != b.health.breaker || a.pass.Probe || b.answeredSince(a.started):
		return
	case !b.sound(s.now) || !s.mayLeaveOut(b):
		s.watchAt = min(s.watchAt, s.now.Add(overdueAgain))
		return
	}
	s.trip(b, Overdue, fmt.Sprintf("a job has run there for %v, predicted %v, and nothing else has come back",
		s.now.Sub(a.started).Round(time.Second), a.expected.Round(10*time.Millisecond)))
}

// watchUnknown gives an attempt up that began when nothing was known of anybody, once a peer shows that it takes too
// long. The driver ends it as one that is aborted, and it counts as one that failed.
func (s *Scheduler) watchUnknown(a *attempt) {
	if a.trial || a.aborted || a.speed.Observations() > 0 || a.job.committed || a.job.paid+1 >= s.cfg.Attempts {
		return
	}
	limit, known := s.timeoutByPeers(a)
	switch {
	case !known:
		s.watchAt = min(s.watchAt, s.now.Add(overdueAgain))
	case limit >= a.timeout:
	case s.now < a.started.Add(limit):
		s.watchAt = min(s.watchAt, a.started.Add(limit))
	default:
		a.timeout, a.givenUp = s.now.Sub(a.started), true
		s.abort(a)
	}
}

// answeredSince says whether an attempt on the backend has succeeded since.
func (b *backend) answeredSince(t Instant) bool {
	return b.health.slow.any && b.health.slow.lastGood >= t
}

// stalled says whether a job runs there that is late, while nothing else has come back.
func (b *backend) stalled(now Instant) bool {
	for _, a := range b.running {
		if now >= a.late() && !b.answeredSince(a.started) {
			return true
		}
	}
	return false
}
