package peers

import (
	"math/rand/v2"
	"time"
)

// random is stock Caddy's random, which is also its default: any server, bound on arrival.
type random struct {
	deaf
	chance *rand.Rand
	lowest []int
}

func newRandom(_ []Server, chance *rand.Rand) Balancer { return &random{chance: chance} }

func (r *random) Pick(_ time.Duration, pool []Server) (int, bool) {
	r.lowest = lowest(pool, r.lowest, func(int) float64 { return 0 })
	return r.lowest[r.chance.IntN(len(r.lowest))], true
}
