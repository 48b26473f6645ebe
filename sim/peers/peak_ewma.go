package peers

import (
	"math"
	"math/rand/v2"
	"time"
)

// peakEWMA is Finagle's PeakEwma under the power of two choices (PeakEwma.scala; Linkerd's and
// tower's are the same): the load of a server is its cost times the requests that would be pending,
// its cost a moving average of the response time that rises at once to a peak and decays with
// decayTime, also while nothing is seen. A server without history that has something pending counts
// as heavily loaded. It binds on arrival.
type peakEWMA struct {
	chance *rand.Rand
	cost   []float64 // seconds
	stamp  []time.Duration
}

const (
	ewmaDecay   = 10 * time.Second
	ewmaPenalty = 1e12 // the original's Long.MaxValue >> 16, in the same role
)

func newPeakEWMA(pool []Server, chance *rand.Rand) Balancer {
	return &peakEWMA{chance: chance, cost: make([]float64, len(pool)), stamp: make([]time.Duration, len(pool))}
}

func (p *peakEWMA) Pick(now time.Duration, pool []Server) (int, bool) {
	a, b := two(pool, p.chance)
	if p.load(now, b, pool[b].Outstanding) < p.load(now, a, pool[a].Outstanding) {
		return b, true
	}
	return a, true
}

func (p *peakEWMA) load(now time.Duration, i, pending int) float64 {
	p.observe(now, i, 0)
	if p.cost[i] == 0 && pending > 0 {
		return ewmaPenalty + float64(pending)
	}
	return p.cost[i] * float64(pending+1)
}

func (p *peakEWMA) Ended(now time.Duration, server int, took time.Duration, _ int) {
	p.observe(now, server, took.Seconds())
}

func (p *peakEWMA) observe(now time.Duration, i int, seconds float64) {
	since := now - p.stamp[i]
	p.stamp[i] = now
	if seconds > p.cost[i] {
		p.cost[i] = seconds
		return
	}
	keep := math.Exp(-since.Seconds() / ewmaDecay.Seconds())
	p.cost[i] = p.cost[i]*keep + seconds*(1-keep)
}
