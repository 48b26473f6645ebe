package peers

import (
	"math"
	"math/rand/v2"
	"time"
)

// leastConn is HAProxy's `balance leastconn` (src/lb_fwlc.c): the lowest (n + 1) / weight with n
// requests in flight, where an idle server counts 0 whatever its weight. Servers of equal key are
// taken in turn, since one whose key changes is put behind its equals. Tuned, it has weights from the
// true speeds and maxconn from the slots: a full server is passed over, and when all are full requests
// wait in the proxy's queue.
type leastConn struct {
	tuned  bool
	weight []float64
	seen   []int    // outstanding as last seen
	turn   []uint64 // when its key last changed
	turns  uint64
	lowest []int
}

// haproxyWeightMax is the largest weight that HAProxy takes.
const haproxyWeightMax = 256

func newLeastConn(pool []Server, _ *rand.Rand) Balancer {
	l := &leastConn{weight: make([]float64, len(pool)), seen: make([]int, len(pool)), turn: make([]uint64, len(pool))}
	for i := range l.weight {
		l.weight[i] = 1
		l.turns++
		l.turn[i] = l.turns
	}
	return l
}

func newLeastConnTuned(pool []Server, chance *rand.Rand) Balancer {
	l := newLeastConn(pool, chance).(*leastConn)
	l.tuned = true
	most := 0.0
	for _, s := range pool {
		most = max(most, s.Rate)
	}
	for i, s := range pool {
		l.weight[i] = max(1, math.Round(haproxyWeightMax*s.Rate/most))
	}
	return l
}

func (l *leastConn) Pick(_ time.Duration, pool []Server) (int, bool) {
	for i := range pool {
		l.changed(i, pool[i].Outstanding)
	}
	l.lowest = lowest(pool, l.lowest, func(i int) float64 {
		n := float64(pool[i].Outstanding)
		switch {
		case l.tuned && pool[i].Outstanding >= pool[i].Slots:
			return math.Inf(1)
		case n == 0:
			return 0
		}
		return (n + 1) / l.weight[i]
	})
	if len(l.lowest) == 0 {
		return 0, false
	}
	best := l.lowest[0]
	for _, i := range l.lowest {
		if l.turn[i] < l.turn[best] {
			best = i
		}
	}
	return best, true
}

// Ended puts the server behind its new equals at once, in the order in which requests end.
func (l *leastConn) Ended(_ time.Duration, server int, _ time.Duration, _ int) {
	l.changed(server, l.seen[server]-1)
}

func (l *leastConn) changed(i, outstanding int) {
	if outstanding != l.seen[i] {
		l.turns++
		l.seen[i], l.turn[i] = outstanding, l.turns
	}
}
