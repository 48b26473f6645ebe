package peers

import (
	"math/rand/v2"
	"time"
)

// smoothLeastConn is nginx's least_conn: the fewest requests in flight, servers of equal count by its
// smooth round robin. It binds on arrival. Weights are left at 1: they would be by hand.
type smoothLeastConn struct {
	deaf
	current []int
	lowest  []int
}

func newSmoothLeastConn(pool []Server, _ *rand.Rand) Balancer {
	return &smoothLeastConn{current: make([]int, len(pool))}
}

func (s *smoothLeastConn) Pick(_ time.Duration, pool []Server) (int, bool) {
	s.lowest = lowest(pool, s.lowest, func(i int) float64 { return float64(pool[i].Outstanding) })
	best := s.lowest[0]
	for _, i := range s.lowest {
		if s.current[i]++; s.current[i] > s.current[best] {
			best = i
		}
	}
	s.current[best] -= len(s.lowest)
	return best, true
}
