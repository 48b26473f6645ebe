package peers

import (
	"math/rand/v2"
	"time"
)

// roundRobin is stock Caddy's round_robin: each server in turn, bound on arrival.
type roundRobin struct {
	deaf
	turn int
}

func newRoundRobin([]Server, *rand.Rand) Balancer { return &roundRobin{turn: -1} }

func (r *roundRobin) Pick(_ time.Duration, pool []Server) (int, bool) {
	for {
		if r.turn = (r.turn + 1) % len(pool); pool[r.turn].Up {
			return r.turn, true
		}
	}
}
