// Package policies holds the placement policies, one a file. A policy says which eligible backend
// a job should go to, now or later; everything else is the scheduler's: the order of jobs, who is
// eligible, how backends whose speed is not known are tried, retries. Policies keep no state: what
// they need is in the view, chance and the count of placements included.
//
// To add one: a file with a type that implements [scheduler.Policy], a test beside it, and a line in
// the list below.
package policies

import "github.com/whisperpool/whisperpool/scheduler"

// Default is the name of the policy that an empty name means.
const Default = "latency_aware"

// all lists the policies, the default first.
var all = [...]scheduler.Policy{LatencyAware{}, LeastOutstanding{}, FastestIdle{}, RoundRobin{}, Random{}}

// Names lists the policies that ByName knows, the default first.
func Names() []string {
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.Name()
	}
	return names
}

// ByName returns the policy of that name, "" meaning the default; false when there is none.
func ByName(name string) (scheduler.Policy, bool) {
	if name == "" {
		name = Default
	}
	for _, p := range all {
		if p.Name() == name {
			return p, true
		}
	}
	return nil, false
}

// choice picks among candidates that come one after the other: the least by value, of those that
// are equal the one with the larger capacity, of those one at random.
type choice struct {
	index    int // -1: none yet
	value    float64
	capacity float64
	ties     int
	rand     func(n int) int
}

func newChoice(rand func(n int) int) choice { return choice{index: -1, rand: rand} }

func (c *choice) offer(index int, value, capacity float64) {
	switch {
	case c.index < 0 || value < c.value || value == c.value && capacity > c.capacity:
		c.index, c.value, c.capacity, c.ties = index, value, capacity, 1
	case value == c.value && capacity == c.capacity:
		// Reservoir sampling: each of n equal ones is left with probability 1/n.
		if c.ties++; c.rand(c.ties) == 0 {
			c.index = index
		}
	}
}
