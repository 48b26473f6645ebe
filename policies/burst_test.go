package policies_test

import (
	"slices"
	"testing"
)

// burstBound is the least mean response time of n equal clips that come at once: every slot's finish
// times, with all slots of the card at work, sorted, the first n.
func burstBound(pool []card, n int, audio float64) float64 {
	var ends []float64
	for _, c := range pool {
		for range c.slots {
			for k := 1; k <= n; k++ {
				ends = append(ends, float64(k)*c.service(audio)/c.pace(c.slots))
			}
		}
	}
	slices.Sort(ends)
	return mean(ends[:n])
}

// burst lets n equal clips come at once, after as many rounds of warming up, and returns the mean
// response time of the last burst.
func burst(t *testing.T, policy string, seed uint64, pool []card, n, warm int, audio float64) float64 {
	w := newWorld(t, policy, seed, pool)
	for range warm {
		for range 4 * len(pool) {
			w.arrive(w.now, audio)
		}
		w.run()
	}
	w.took = nil
	for range n {
		w.arrive(w.now, audio)
	}
	w.run()
	if w.lost > 0 {
		t.Fatalf("%d jobs lost", w.lost)
	}
	return mean(w.took)
}

func TestBurstIsCloseToTheBound(t *testing.T) {
	const n, clip = 512, 5.0
	for _, pool := range []struct {
		name  string
		cards []card
	}{
		{"4 T4 + 4 H100", cards(4, t4, 4, h100)},
		{"2 T4 + 2 A10G + 1 H100", cards(2, t4, 2, a10g, 1, h100)},
		{"4 A10G + 4 H100", cards(4, a10g, 4, h100)},
		{"1 T4 + 1 H100", cards(1, t4, 1, h100)},
	} {
		t.Run(pool.name, func(t *testing.T) {
			bound := burstBound(pool.cards, n, clip)
			for _, c := range []struct {
				name string
				warm int
				most float64
			}{{"cold", 0, 1.10}, {"warm", 3, 1.03}} {
				var ratios []float64
				for seed := range uint64(3) {
					ratios = append(ratios, burst(t, "latency_aware", seed+1, pool.cards, n, c.warm, clip)/bound)
				}
				t.Logf("%s: mean %.3f of the bound (%.3f s), worst %.3f", c.name, mean(ratios), bound, slices.Max(ratios))
				if slices.Max(ratios) > c.most {
					t.Errorf("%s: %.3f x the bound, want at most %.2f", c.name, slices.Max(ratios), c.most)
				}
			}
		})
	}
}
