package breaker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"
)

var options = Options{Failures: 3, OpenFor: 5 * time.Second, MaxOpenFor: 60 * time.Second}

func middle() float64 { return 0.5 } // no jitter

func run(b *Breaker, now time.Duration, v Verdict) { b.End(now, b.Begin(now), v) }

func trip(t *testing.T, b *Breaker, now time.Duration) {
	t.Helper()
	for range options.Failures {
		run(b, now, Bad)
	}
	if got := b.State(now); got != Open {
		t.Fatalf("after %d failures the state is %d, want Open", options.Failures, got)
	}
}

func TestOpensAfterFailuresRunning(t *testing.T) {
	b := New(options, middle)
	for _, v := range []Verdict{Bad, Bad, Good, Bad, Bad, Ignored} {
		run(b, 0, v)
	}
	if b.State(0) != Closed {
		t.Fatal("two failures running, an ignored one between them or not, must not open it")
	}
	run(b, 0, Bad)
	if b.State(0) != Open || b.Admits(0) {
		t.Fatal("the third failure running must open it")
	}
	if b.OpenUntil() != 5*time.Second {
		t.Fatalf("open until %v, want 5s", b.OpenUntil())
	}
}

func TestJobLongerThanAnyWindowCounts(t *testing.T) {
	b := New(options, middle)
	passes := []Pass{b.Begin(0), b.Begin(0), b.Begin(0)}
	for _, p := range passes {
		b.End(10*time.Minute, p, Bad)
	}
	if b.State(10*time.Minute) != Open {
		t.Fatal("failures of ten-minute jobs were dropped")
	}
}

func TestLateResultsChangeNothing(t *testing.T) {
	b := New(options, middle)
	early := []Pass{b.Begin(0), b.Begin(0), b.Begin(0), b.Begin(0)}
	trip(t, b, time.Second)
	b.End(2*time.Second, early[0], Good)
	if b.State(2*time.Second) != Open {
		t.Fatal("a success from before the trip closed it")
	}
	run(b, 7*time.Second, Good) // half-open, and back to closed
	if b.State(7*time.Second) != Closed {
		t.Fatal("a good probe must close it")
	}
	for _, p := range early[1:] {
		b.End(8*time.Second, p, Bad)
	}
	if b.State(8*time.Second) != Closed {
		t.Fatal("failures from before the trip opened it again")
	}
}

func TestHalfOpenAdmitsOne(t *testing.T) {
	b := New(options, middle)
	trip(t, b, 0)
	now := b.OpenUntil()
	if !b.Admits(now) || b.State(now) != HalfOpen {
		t.Fatal("it must be half-open at openUntil")
	}
	probe := b.Begin(now)
	if !probe.Probe || b.Admits(now) || !b.Probing() {
		t.Fatal("half-open must admit one probe and no second")
	}
	b.End(now+time.Second, probe, Ignored)
	if !b.Admits(now+time.Second) || b.Probing() {
		t.Fatal("an ignored probe must free its place")
	}
	run(b, now+2*time.Second, Good)
	if b.State(now+2*time.Second) != Closed {
		t.Fatal("a good probe must close it")
	}
}

func TestOpensLongerEachTimeAndForgets(t *testing.T) {
	b := New(options, middle)
	trip(t, b, 0)
	now := time.Duration(0)
	for _, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
		if got := b.OpenUntil() - now; got != want*time.Second {
			t.Fatalf("open for %v, want %v", got, want*time.Second)
		}
		now = b.OpenUntil()
		run(b, now, Bad)
	}
	now = b.OpenUntil()
	for range goodToForget {
		run(b, now, Good)
	}
	now += soundToForget
	run(b, now, Good)
	if b.Openings() != 7 {
		t.Fatalf("%d openings: forgotten after it was well for %v, shorter than it was left alone", b.Openings(), soundToForget)
	}
	now = b.ClosedAt() + 60*time.Second
	run(b, now, Good)
	trip(t, b, now)
	if got := b.OpenUntil() - now; got != 5*time.Second {
		t.Fatalf("after %d successes and a minute it opens for %v, want 5s again", goodToForget, got)
	}
}

func TestJitterStaysWithinAFifth(t *testing.T) {
	for _, c := range []struct {
		chance float64
		want   time.Duration
	}{{0, 4 * time.Second}, {1, 6 * time.Second}} {
		b := New(options, func() float64 { return c.chance })
		trip(t, b, 0)
		if b.OpenUntil() != c.want {
			t.Errorf("chance %v: open until %v, want %v", c.chance, b.OpenUntil(), c.want)
		}
	}
}

func TestShorten(t *testing.T) {
	b := New(options, middle)
	b.Shorten(0) // closed: nothing to shorten
	if b.State(0) != Closed {
		t.Fatal("Shorten changed a closed breaker")
	}
	trip(t, b, time.Second)
	b.Shorten(time.Minute)
	if b.OpenUntil() != 6*time.Second {
		t.Fatal("Shorten must not lengthen")
	}
	b.Shorten(0)
	if b.OpenUntil() != time.Second+openMin {
		t.Fatalf("shortened to %v, want %v after the trip", b.OpenUntil(), openMin)
	}
}

// TestClockNeverDecides: whatever gobreaker's own clock says, a probe is admitted when ours says so.
func TestClockNeverDecides(t *testing.T) {
	rounds := func(t *testing.T, n int) {
		b := New(options, middle)
		now := time.Duration(0)
		for range n {
			trip(t, b, now)
			now = b.OpenUntil()
			b.End(now, b.Begin(now), Ignored)
			run(b, now, Bad)
			now = b.OpenUntil()
			run(b, now, Good)
			if b.State(now) != Closed || b.machine.State() != gobreaker.StateClosed {
				t.Fatalf("state %d, gobreaker's %v, want both closed", b.State(now), b.machine.State())
			}
		}
	}
	t.Run("real clock", func(t *testing.T) { rounds(t, 10000) })
	t.Run("clock that stands still", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { rounds(t, 20) })
	})
}

func TestBeginWithoutAdmissionPanics(t *testing.T) {
	b := New(options, middle)
	trip(t, b, 0)
	defer func() {
		if recover() == nil {
			t.Fatal("Begin on an open breaker must panic")
		}
	}()
	b.Begin(0)
}
