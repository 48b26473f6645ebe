package peers

import (
	"math/rand/v2"
	"slices"
	"time"
)

// hotCold is Prequal's hot-cold lexicographic rule (Wydrowski et al., NSDI 2024): a server is hot
// when it has more requests in flight than the quantile hotQuantile over the servers; the cold one
// with the least latency is chosen, or, if all are hot, the one with the fewest in flight.
//
// It is idealised: every server is probed afresh for every request, and the latency conditional on
// the requests in flight is the median over the last requests of latency / (in flight on arrival + 1),
// times in flight + 1 now. It binds on arrival.
type hotCold struct {
	recent [][]float64 // by server, the last latencies per request in flight, in seconds
	sorted []float64
	counts []int
}

const (
	hotQuantile   = 0.84 // the paper's 2^-0.25, as in production there
	prequalRecent = 16
)

func newHotCold(pool []Server, _ *rand.Rand) Balancer {
	return &hotCold{recent: make([][]float64, len(pool))}
}

func (h *hotCold) Pick(_ time.Duration, pool []Server) (int, bool) {
	h.counts = h.counts[:0]
	for i := range pool {
		if pool[i].Up {
			h.counts = append(h.counts, pool[i].Outstanding)
		}
	}
	slices.Sort(h.counts)
	limit := h.counts[int(hotQuantile*float64(len(h.counts)-1))]
	best, bestHot, bestValue := -1, false, 0.0
	for i := range pool {
		if !pool[i].Up {
			continue
		}
		hot := pool[i].Outstanding > limit
		value := float64(pool[i].Outstanding)
		if !hot {
			value = h.latency(i, pool[i].Outstanding)
		}
		if best < 0 || !hot && bestHot || hot == bestHot && value < bestValue {
			best, bestHot, bestValue = i, hot, value
		}
	}
	return best, true
}

// latency is next to nothing for a server that has not answered yet, so that it is tried.
func (h *hotCold) latency(i, outstanding int) float64 {
	if len(h.recent[i]) == 0 {
		return float64(outstanding) * 1e-9
	}
	h.sorted = append(h.sorted[:0], h.recent[i]...)
	slices.Sort(h.sorted)
	return h.sorted[len(h.sorted)/2] * float64(outstanding+1)
}

func (h *hotCold) Ended(_ time.Duration, server int, took time.Duration, others int) {
	if len(h.recent[server]) == prequalRecent {
		h.recent[server] = slices.Delete(h.recent[server], 0, 1)
	}
	h.recent[server] = append(h.recent[server], took.Seconds()/float64(others+1))
}
