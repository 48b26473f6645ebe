// Package breaker decides when one backend is left alone after failures, and for how long. It wraps
// sony/gobreaker's two-step circuit breaker, whose state machine it keeps, and takes from it what
// does not suit jobs that run for minutes: the window (Interval is 0; the one here counts attempts), the
// clock (Timeout is a nanosecond, and only openUntil counts) and the rule for tripping (ReadyToTrip
// returns a verdict reached here). To its callers it is as pure as the scheduler: time and chance are
// arguments. What a breaker cannot see by itself, such as slowness, is for its caller to Trip it for.
//
// Every pass that Begin gives must come back through End, whatever became of the job, or a half-open
// breaker would wait for it for ever.
package breaker

import (
	"errors"
	"math/bits"
	"time"

	"github.com/sony/gobreaker/v2"
)

// State is what a breaker is in.
type State uint8

// The states.
const (
	Closed   State = iota + 1
	Open           // left alone until OpenUntil
	HalfOpen       // one job may try, or is trying
)

// Verdict is what an attempt says of the backend.
type Verdict uint8

// The verdicts.
const (
	Good    Verdict = iota + 1
	Bad             // the backend's failure
	Ignored         // says nothing: cancelled, or the client's fault
)

// Change is what a verdict or a trip did to a breaker.
type Change uint8

// The changes.
const (
	Unchanged     Change = iota
	OpenedByRow          // Options.Failures bad verdicts running
	OpenedByRatio        // half of the last attempts were bad
	OpenedByProbe        // the half-open attempt was bad
	OpenedByTrip
	ClosedAgain
)

// Options are the limits; all must be positive.
type Options struct {
	Failures   int           // that many bad verdicts running trip it
	OpenFor    time.Duration // the first time; doubles with every opening
	MaxOpenFor time.Duration // before jitter
}

const (
	jitter = 0.2 // of the open time, both ways, so that backends that fell together do not return together
	// Half of the last window verdicts trip it, once there are windowLeast (scheduling notes, 8.5). So does
	// a backend that fails every other time and never thrice running.
	window      = 20
	windowLeast = 8
	windowShare = 0.5
	// goodToForget good verdicts, and SoundFor without an opening, make the openings forgotten, so that the
	// next one is short again. By verdicts alone a backend that comes and goes would be forgiven each time, and
	// so would one after a time that is shorter than it is left alone. SoundFor is at least soundToForget.
	goodToForget  = 10
	soundToForget = 30 * time.Second
	// openMin keeps half-open out of the instant of the trip: gobreaker's own clock has to have
	// moved on, also inside a testing/synctest bubble, where it stands still while anything runs.
	openMin = 10 * time.Millisecond
	// clockTries bounds how often a refusal by gobreaker's own clock is asked again; only a clock
	// coarser than the time between trip and probe ever needs a second try.
	clockTries = 1000
)

var (
	errBad     = errors.New("backend failed")
	errIgnored = errors.New("says nothing of the backend")
)

// Breaker is the breaker of one backend. It is not safe for concurrent use.
type Breaker struct {
	options Options
	chance  func() float64
	machine *gobreaker.TwoStepCircuitBreaker[struct{}]

	tripped   bool          // the verdict that ReadyToTrip hands on
	bad       int           // bad verdicts running, while closed
	recent    uint32        // the last verdicts while closed, a bit each, 1 for bad; the lowest is the last
	counted   int           // of them, at most window
	good      int           // good verdicts since it closed
	openings  int           // since they were last forgotten
	openedAt  time.Duration // the last opening
	openUntil time.Duration
	closedAt  time.Duration
	closed    bool
	// generation counts changes of state: a pass of an older one can neither close nor trip it.
	generation uint64
	probe      func(error) // gobreaker's done of the half-open attempt in flight, nil when none
}

// Pass is what an attempt holds from Begin to End.
type Pass struct {
	generation uint64
	Probe      bool // it is the half-open attempt
}

// New returns a closed breaker. Chance returns seeded numbers in [0, 1).
func New(o Options, chance func() float64) *Breaker {
	b := &Breaker{chance: chance, closed: true}
	b.SetOptions(o)
	b.machine = b.newMachine()
	return b
}

func (b *Breaker) newMachine() *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1,
		Interval:    0,
		Timeout:     time.Nanosecond,
		ReadyToTrip: func(gobreaker.Counts) bool { return b.tripped },
		IsExcluded:  func(err error) bool { return errors.Is(err, errIgnored) },
	})
}

// SetOptions changes the limits; an opening that has begun keeps its length.
func (b *Breaker) SetOptions(o Options) { b.options = o }

// State tells the state at now, without changing it.
func (b *Breaker) State(now time.Duration) State {
	switch {
	case b.closed:
		return Closed
	case now < b.openUntil:
		return Open
	default:
		return HalfOpen
	}
}

// Closed says whether it is closed, at any time.
func (b *Breaker) Closed() bool { return b.closed }

// Admits says whether Begin may be called at now.
func (b *Breaker) Admits(now time.Duration) bool {
	return b.closed || now >= b.openUntil && b.probe == nil
}

// Probing says whether the half-open attempt is in flight.
func (b *Breaker) Probing() bool { return b.probe != nil }

// OpenUntil is when an open breaker becomes half-open.
func (b *Breaker) OpenUntil() time.Duration { return b.openUntil }

// OpenedAt is when it last opened.
func (b *Breaker) OpenedAt() time.Duration { return b.openedAt }

// ClosedAt is when it last closed, 0 when it never opened.
func (b *Breaker) ClosedAt() time.Duration { return b.closedAt }

// SoundFor is how long a backend has to be well until it is no longer held against it that it was not: as long
// as it was last left alone, and 30 s at the least.
func (b *Breaker) SoundFor() time.Duration { return max(soundToForget, b.openUntil-b.openedAt) }

// Openings counts the openings that have not been forgotten for goodToForget good verdicts.
func (b *Breaker) Openings() int { return b.openings }

// Shorten makes an open breaker half-open at until, if that is sooner than it would be.
func (b *Breaker) Shorten(until time.Duration) {
	if !b.closed {
		b.openUntil = min(b.openUntil, max(until, b.openedAt+openMin))
	}
}

// Begin takes a pass for an attempt. Requires: Admits(now).
func (b *Breaker) Begin(now time.Duration) Pass {
	if b.closed {
		return Pass{generation: b.generation}
	}
	if !b.Admits(now) {
		panic("breaker: Begin while it admits nothing")
	}
	b.probe = b.halfOpen()
	return Pass{generation: b.generation, Probe: true}
}

// halfOpen takes gobreaker's one half-open place.
func (b *Breaker) halfOpen() func(error) {
	for range clockTries {
		if done, err := b.machine.Allow(); err == nil {
			return done
		}
	}
	// Its clock has not moved since the trip. A success then starts a fresh machine, a failure
	// leaves this one open, which is what it would have come to.
	return func(err error) {
		if err == nil {
			b.machine = b.newMachine()
		}
	}
}

// End gives a pass back with what the attempt showed, and tells what that changed.
func (b *Breaker) End(now time.Duration, p Pass, v Verdict) Change {
	switch {
	case p.generation != b.generation: // began before the last change of state
	case p.Probe:
		return b.endProbe(now, v)
	case v == Good:
		if b.bad > 0 { // one good verdict after another tells gobreaker nothing
			b.record(nil)
		}
		b.bad = 0
		b.count(0)
		if b.good++; b.good >= goodToForget && now-b.closedAt >= b.SoundFor() {
			b.openings = 0
		}
	case v == Bad:
		b.bad++
		b.count(1)
		row := b.bad >= b.options.Failures
		b.tripped = row || b.counted >= windowLeast && float64(b.Bad()) >= windowShare*float64(b.counted)
		b.record(errBad)
		if b.tripped {
			b.open(now)
		}
		switch {
		case b.closed:
		case row:
			return OpenedByRow
		default:
			return OpenedByRatio
		}
	}
	return Unchanged
}

// Trip opens a closed breaker for a reason of the caller's; one that is not closed stays as it is.
func (b *Breaker) Trip(now time.Duration) Change {
	if !b.closed {
		return Unchanged
	}
	b.tripped = true
	b.record(errBad)
	b.open(now)
	return OpenedByTrip
}

// Counted is how many of the last attempts the ratio goes by, and Bad how many of these were bad. They are
// kept while it is open, of the time before.
func (b *Breaker) Counted() int { return b.counted }

// Row is how many bad verdicts were running when it last opened for them, or are.
func (b *Breaker) Row() int { return b.bad }

// Bad is told at Counted.
func (b *Breaker) Bad() int { return bits.OnesCount32(b.recent) }

func (b *Breaker) count(bad uint32) {
	b.recent = (b.recent<<1 | bad) & (1<<window - 1)
	b.counted = min(b.counted+1, window)
}

// record tells gobreaker of a verdict while closed, with a pair taken now rather than at the
// attempt's start: a generation that ended in between would drop it.
func (b *Breaker) record(err error) {
	if done, refused := b.machine.Allow(); refused == nil {
		done(err)
	}
}

func (b *Breaker) endProbe(now time.Duration, v Verdict) Change {
	done := b.probe
	b.probe = nil
	switch v {
	case Good:
		done(nil)
		b.closed, b.bad, b.good, b.tripped = true, 0, 1, false
		b.recent, b.counted, b.closedAt = 0, 0, now
		b.generation++
		return ClosedAgain
	case Bad:
		done(errBad)
		b.open(now)
		return OpenedByProbe
	default: // frees the place for another probe
		done(errIgnored)
	}
	return Unchanged
}

// open starts an opening, twice as long as the one before.
func (b *Breaker) open(now time.Duration) {
	length := b.options.MaxOpenFor
	if doubled := b.options.OpenFor << min(b.openings, 20); doubled < length {
		length = doubled
	}
	scaled := float64(length) * (1 - jitter + 2*jitter*b.chance())
	b.closed, b.tripped, b.good = false, false, 0
	b.openings++
	b.openedAt = now
	b.openUntil = now + max(time.Duration(scaled), openMin)
	b.generation++
}
