package estimator

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// drain is what a backend shows while bursts on its slots drain: jobs that began with all slots taken and end with
// ever fewer beside them. Each takes as long as alone, at its mean occupancy by truth.
func drain(s *Speed, rnd *rand.Rand, slots int, sigma float64, truth func(occupancy float64) float64) {
	observe := func(occupancy float64) {
		took := truth(occupancy) * math.Exp(sigma*rnd.NormFloat64())
		s.Observe(Observation{Elapsed: time.Duration(took * 1e9), AudioSeconds: 5, Occupancy: occupancy})
	}
	for range 20 * slots {
		observe(float64(slots))
	}
	for last := range slots { // of the jobs that were there at the end, the later a job began, the emptier
		gone := float64(last) / float64(slots)
		observe(max(1, float64(slots)*(1-gone*gone/2)))
	}
}

// TestSlotsThatDoNotSlowEachOther: what a job takes alone is foretold from bursts that drained, on which nobody ever
// was alone.
func TestSlotsThatDoNotSlowEachOther(t *testing.T) {
	for _, c := range []struct {
		name        string
		truth       func(float64) float64
		bursts      int
		least, most float64 // foretold for one alone, relative to the truth, in nine of ten cases
	}{
		{"apart", func(float64) float64 { return 1 }, 2, 0.85, 1.2},
		{"one after the other", func(o float64) float64 { return 1 + 0.8*(o-1) }, 2, 0.7, 1.4},
		{"a little", func(o float64) float64 { return 1 + 0.12*(o-1) }, 6, 0.6, 1.8},
	} {
		right := 0
		const seeds = 40
		for seed := range uint64(seeds) {
			s, rnd := New(new(Shape)), rand.New(rand.NewPCG(seed, 3))
			for range c.bursts {
				drain(s, rnd, 14, 0.15, c.truth)
			}
			if got := s.Theta(1) * s.Cost.Of(5) / c.truth(1); got >= c.least && got <= c.most {
				right++
			} else {
				t.Logf("%s, seed %d: %.2f of what one alone takes is foretold; law %d", c.name, seed, got, s.sharing.law)
			}
			if got := s.Theta(14) * s.Cost.Of(5) / c.truth(14); got < 0.75 || got > 1.3 {
				t.Errorf("%s, seed %d: %.2f of what one of fourteen takes is foretold", c.name, seed, got)
			}
		}
		if right < seeds*9/10 {
			t.Errorf("%s: what one alone takes was right %d times of %d", c.name, right, seeds)
		}
	}
}

// TestNoLawWithoutEvidence: where the occupancy never changes, one law is as good as another; neither outliers nor a
// backend that becomes slow make a difference to that.
func TestNoLawWithoutEvidence(t *testing.T) {
	for seed := range uint64(20) {
		s, rnd := New(new(Shape)), rand.New(rand.NewPCG(seed, 4))
		for n := range 3000 {
			took := math.Exp(0.3 * rnd.NormFloat64())
			if rnd.Float64() < 0.03 {
				took *= 4
			}
			if n > 1000 {
				took *= 3
			}
			s.Observe(Observation{Elapsed: time.Duration(took * 1e9), AudioSeconds: 5, Occupancy: 8})
		}
		if s.sharing.law != assumed {
			t.Errorf("seed %d: law %d is taken", seed, s.sharing.law)
		}
	}
}

// TestAnotherLawKeepsThePrediction of jobs such as were seen.
func TestAnotherLawKeepsThePrediction(t *testing.T) {
	s := New(new(Shape))
	for range 20 {
		s.Observe(Observation{Elapsed: 2 * second, AudioSeconds: 12, Occupancy: 3})
		s.Observe(Observation{Elapsed: 5 * second, AudioSeconds: 12, Occupancy: 7})
	}
	three, seven := s.Theta(3), s.Theta(7)
	for law := range laws {
		was := s.sharing.law
		s.sharing.take(law)
		s.resettle(was)
		if got := s.Theta(3) / three; math.Abs(got-1) > 1e-6 {
			t.Errorf("law %d: three side by side are foretold %.3f of what they were", law, got)
		}
		if got := s.Theta(7) / seven; math.Abs(got-1) > 1e-6 {
			t.Errorf("law %d: seven side by side are foretold %.3f of what they were", law, got)
		}
	}
}

// TestFewOddJobsAreNotBelievedByThemselves: the stragglers of a burst ran nearly alone, and long for a reason of
// their own.
func TestFewOddJobsAreNotBelievedByThemselves(t *testing.T) {
	s := New(new(Shape))
	for range 50 {
		s.Observe(Observation{Elapsed: second, AudioSeconds: 5, Occupancy: 4})
		s.Observe(Observation{Elapsed: second, AudioSeconds: 5, Occupancy: 8})
	}
	s.Observe(Observation{Elapsed: 2 * second, AudioSeconds: 5, Occupancy: 1})
	if got := s.Theta(1) * s.Cost.Of(5); got < 1 || got > 1.2 {
		t.Errorf("alone: %.2f s after one job that took 2 s, where all others took 1 s", got)
	}
	for range levelTrusted {
		s.Observe(Observation{Elapsed: 2 * second, AudioSeconds: 5, Occupancy: 1})
	}
	if got := s.Theta(1) * s.Cost.Of(5); math.Abs(got-2) > 0.01 {
		t.Errorf("alone: %.2f s after many that took 2 s", got)
	}
}
