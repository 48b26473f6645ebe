package peers

import (
	"math/rand/v2"
	"time"
)

// twoChoices is the power of two choices by outstanding requests, as in Envoy's LEAST_REQUEST with
// its choice_count of 2, or Traefik's p2c: of two servers at random the one with fewer. It binds on
// arrival.
type twoChoices struct {
	deaf
	chance *rand.Rand
}

func newTwoChoices(_ []Server, chance *rand.Rand) Balancer { return &twoChoices{chance: chance} }

func (t *twoChoices) Pick(_ time.Duration, pool []Server) (int, bool) {
	a, b := two(pool, t.chance)
	if pool[b].Outstanding < pool[a].Outstanding {
		return b, true
	}
	return a, true
}
