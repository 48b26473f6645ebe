package policies_test

import (
	"testing"

	"github.com/whisperpool/whisperpool/scheduler"
)

// closedLoop has n clients send jobs jobs in all, each the next when the last returned, and returns
// the response times after the first tenth.
func closedLoop(t *testing.T, policy string, seed uint64, pool []card, n, jobs int) []float64 {
	w := newWorld(t, policy, seed, pool)
	sent := 0
	send := func(scheduler.JobID) {
		if sent < jobs {
			sent++
			w.arrive(w.now, length(w.rnd))
		}
	}
	w.settled = send
	for range n {
		send(0)
	}
	w.run()
	if w.lost > 0 {
		t.Fatalf("%d jobs lost", w.lost)
	}
	return w.took[jobs/10:]
}

// several runs the closed loop with several seeds and returns the means of mean and p99.
func several(t *testing.T, policy string, pool []card, n int) (meanOf, p99 float64) {
	var means, tails []float64
	for seed := range uint64(3) {
		took := closedLoop(t, policy, seed+1, pool, n, 2500)
		means, tails = append(means, mean(took)), append(tails, quantile(took, 0.99))
	}
	return mean(means), mean(tails)
}

func TestClosedLoopBeatsCountingConnections(t *testing.T) {
	pool := cards(4, a10g, 4, h100)
	for _, n := range []int{8, 16} {
		ourMean, ourTail := several(t, "latency_aware", pool, n)
		for _, policy := range []string{"least_outstanding", "fastest_idle"} {
			theirMean, theirTail := several(t, policy, pool, n)
			t.Logf("N=%d: latency_aware %.3f s (p99 %.2f), %s %.3f s (p99 %.2f): ratios %.2f and %.2f",
				n, ourMean, ourTail, policy, theirMean, theirTail, ourMean/theirMean, ourTail/theirTail)
			if policy == "least_outstanding" && ourTail > 0.75*theirTail {
				t.Errorf("N=%d: p99 %.2f s against %.2f s of %s, want at most three quarters", n, ourTail, theirTail, policy)
			}
		}
	}
}

func TestMixedPoolIsNeverWorseThanItsBestPart(t *testing.T) {
	for _, c := range []struct {
		name        string
		mixed, best []card
	}{
		{"1 A10G + 1 H100", cards(1, a10g, 1, h100), cards(1, h100)},
		{"4 A10G + 4 H100", cards(4, a10g, 4, h100), cards(4, h100)},
		{"4 T4 + 4 H100", cards(4, t4, 4, h100), cards(4, h100)},
	} {
		for _, n := range []int{1, 4, 8, 16, 32} {
			mixedMean, mixedTail := several(t, "latency_aware", c.mixed, n)
			bestMean, bestTail := several(t, "latency_aware", c.best, n)
			t.Logf("%s, N=%d: mean %.3f of the best part's, p99 %.3f", c.name, n, mixedMean/bestMean, mixedTail/bestTail)
			if mixedMean > 1.02*bestMean {
				t.Errorf("%s, N=%d: mean %.3f s, the best part alone %.3f s", c.name, n, mixedMean, bestMean)
			}
			if mixedTail > 1.05*bestTail {
				t.Errorf("%s, N=%d: p99 %.3f s, the best part alone %.3f s", c.name, n, mixedTail, bestTail)
			}
		}
	}
}

// TestSlowCardsAreLeftIdle: one client on a mixed pool is served by the fast card alone.
func TestSlowCardsAreLeftIdle(t *testing.T) {
	w := newWorld(t, "latency_aware", 1, cards(2, t4, 1, h100))
	for range 200 {
		w.arrive(w.now, 12)
		w.run()
	}
	if share := w.picks["T4"]; share > 10 {
		t.Errorf("the T4s got %d of 200 jobs that came one at a time, picks %v", share, w.picks)
	}
	if total := w.picks["T4"] + w.picks["H100"]; total != 200 {
		t.Errorf("%d attempts for 200 jobs", total)
	}
}
