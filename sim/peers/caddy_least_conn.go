package peers

import (
	"math/rand/v2"
	"time"
)

// scan is stock Caddy's least_conn: the fewest requests in flight over all servers, ties at random.
// It binds on arrival. (The real one counts a request only after it has chosen, so that requests that
// come at once may not see each other; here they do.)
type scan struct {
	deaf
	chance *rand.Rand
	lowest []int
}

func newScan(_ []Server, chance *rand.Rand) Balancer { return &scan{chance: chance} }

func (s *scan) Pick(_ time.Duration, pool []Server) (int, bool) {
	s.lowest = lowest(pool, s.lowest, func(i int) float64 { return float64(pool[i].Outstanding) })
	return s.lowest[s.chance.IntN(len(s.lowest))], true
}
