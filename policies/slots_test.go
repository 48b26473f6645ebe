package policies_test

import (
	"slices"
	"testing"
)

// TestSlotsThatShareACard: backends with several slots, whose jobs slow each other down.
func TestSlotsThatShareACard(t *testing.T) {
	pool := cards(1, t4.with(2, 1.5), 1, a10g.with(4, 2.5), 1, h100.with(8, 5))
	bound := burstBound(pool, 512, 5)
	for warm, most := range map[int]float64{0: 1.10, 3: 1.03} {
		var ratios []float64
		for seed := range uint64(3) {
			ratios = append(ratios, burst(t, "latency_aware", seed+1, pool, 512, warm, 5)/bound)
		}
		t.Logf("burst after %d rounds: mean %.3f of the bound, worst %.3f", warm, mean(ratios), slices.Max(ratios))
		if slices.Max(ratios) > most {
			t.Errorf("burst after %d rounds: %.3f x the bound, want at most %.2f", warm, slices.Max(ratios), most)
		}
	}
	for _, n := range []int{2, 8, 32} {
		ourMean, ourTail := several(t, "latency_aware", pool, n)
		theirMean, theirTail := several(t, "least_outstanding", pool, n)
		bestMean, bestTail := several(t, "latency_aware", pool[2:], n)
		t.Logf("N=%d: %.3f s (p99 %.2f), least_outstanding %.3f s (p99 %.2f), the H100 alone %.3f s (p99 %.2f)",
			n, ourMean, ourTail, theirMean, theirTail, bestMean, bestTail)
		if ourMean > 1.02*bestMean || ourTail > 1.05*bestTail {
			t.Errorf("N=%d: %.3f s (p99 %.2f) is worse than the H100 alone, %.3f s (p99 %.2f)", n, ourMean, ourTail, bestMean, bestTail)
		}
		if ourTail > 0.8*theirTail {
			t.Errorf("N=%d: p99 %.2f s against %.2f s of least_outstanding", n, ourTail, theirTail)
		}
	}
}
