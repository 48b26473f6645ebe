// Package peers re-implements how other load balancers choose a server, one rule a file, to compare
// with in simulation. Each follows its original's published rule and defaults; what had to be
// simplified is said at the rule. They decide as the real ones do: most bind a request to a server
// when it arrives, so that it queues inside that server; those with a queue of their own keep it
// until a server has room. Whatever an operator sets by hand (weights, limits, order, target rates)
// is set here from the true speeds, which is the best that static knowledge can do.
package peers

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Server is one server as a balancer sees it.
type Server struct {
	Outstanding int  // requests sent to it that have not ended, those that queue inside it included
	Up          bool // by its health checks
	// Slots and Rate are for what is set by hand: how many requests it works on at a time, and how
	// many of the average length it does in a second with all its slots at work.
	Slots int
	Rate  float64
}

// Balancer is one balancer at work. Its methods are called in order of time.
type Balancer interface {
	// Pick is the index of the server that the next request goes to; false: the request waits in the
	// balancer until another ends. Some server is Up. Outstanding counts it from the next call on.
	Pick(now time.Duration, pool []Server) (server int, ok bool)
	// Ended tells of a request that was answered: how long that took from sending it, and how many
	// others were outstanding at that server when it was sent.
	Ended(now time.Duration, server int, took time.Duration, others int)
}

// Peer is a rule that can be set to work.
type Peer struct {
	Name string
	// Told says what an operator has to set by hand for it, "" for nothing.
	Told string
	New  func(pool []Server, chance *rand.Rand) Balancer
}

// All lists the peers.
func All() []Peer {
	return []Peer{
		{"haproxy_first", "order, maxconn", newFirst},
		{"haproxy_leastconn_tuned", "weights, maxconn", newLeastConnTuned},
		{"haproxy_leastconn", "", newLeastConn},
		{"skyserve", "target rates", newInstanceAware},
		{"traefik_leasttime", "", newLeastTime},
		{"prequal", "", newHotCold},
		{"peak_ewma", "", newPeakEWMA},
		{"p2c", "", newTwoChoices},
		{"nginx_least_conn", "", newSmoothLeastConn},
		{"caddy_least_conn", "", newScan},
		{"caddy_round_robin", "", newRoundRobin},
		{"caddy_random", "", newRandom},
	}
}

// ByName finds a peer; false when there is none of that name.
func ByName(name string) (Peer, bool) {
	all := All()
	i := slices.IndexFunc(all, func(p Peer) bool { return p.Name == name })
	if i < 0 {
		return Peer{}, false
	}
	return all[i], true
}

// Names lists the names of the peers.
func Names() []string {
	var names []string
	for _, p := range All() {
		names = append(names, p.Name)
	}
	return names
}

// deaf is for balancers that learn nothing from answers.
type deaf struct{}

func (deaf) Ended(time.Duration, int, time.Duration, int) {}

// lowest lists the servers that are up with the lowest value; a value of infinity is never chosen.
func lowest(pool []Server, into []int, value func(i int) float64) []int {
	into = into[:0]
	least := math.Inf(1)
	for i := range pool {
		if !pool[i].Up {
			continue
		}
		switch v := value(i); {
		case v < least:
			least, into = v, append(into[:0], i)
		case v == least && !math.IsInf(v, 1):
			into = append(into, i)
		}
	}
	return into
}

// two picks two different servers that are up at random; the same one twice when it is alone.
func two(pool []Server, chance *rand.Rand) (a, b int) {
	var up []int
	for i := range pool {
		if pool[i].Up {
			up = append(up, i)
		}
	}
	i := chance.IntN(len(up))
	if len(up) == 1 {
		return up[0], up[0]
	}
	j := chance.IntN(len(up) - 1)
	if j >= i {
		j++
	}
	return up[i], up[j]
}
