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

// choice is the least of values that come one after the other, and how many are equal to it.
type choice struct {
	value int64
	index int // of the first
	ties  int // 0: none came yet
}

func (c *choice) offer(index int, value int64) {
	switch {
	case c.ties == 0 || value < c.value:
		c.value, c.index, c.ties = value, index, 1
	case value == c.value:
		c.ties++
	}
}

// among picks one of the candidates that are as good as the choice, which value tells: those with the most
// slots, and one of these at random. Chance is only asked where there is a tie.
func (c *choice) among(view scheduler.View, value func(c *scheduler.Candidate) (int64, bool)) int {
	if c.ties == 1 {
		return c.index
	}
	slots, ties := 0, 0
	for pass := range 2 {
		if pass == 1 {
			ties = view.Rand(ties) + 1
		}
		for i := range view.Candidates {
			o := &view.Candidates[i]
			v, ok := value(o)
			switch {
			case !ok || v != c.value || o.Slots < slots:
			case pass == 1:
				if ties--; ties == 0 {
					return i
				}
			case o.Slots > slots:
				slots, ties = o.Slots, 1
			default:
				ties++
			}
		}
	}
	panic("policies: the candidates changed meanwhile")
}

// least is the idle candidate with the least value; false when nobody is idle.
func least(view scheduler.View, value func(c *scheduler.Candidate) int64) (scheduler.BackendID, bool) {
	var best choice
	idle := func(c *scheduler.Candidate) (int64, bool) { return value(c), c.Idle }
	for i := range view.Candidates {
		if c := &view.Candidates[i]; c.Idle {
			best.offer(i, value(c))
		}
	}
	if best.ties == 0 {
		return "", false
	}
	return view.Candidates[best.among(view, idle)].Backend, true
}

// now is a placement on the idle candidate with the least value, or none.
func now(view scheduler.View, reason scheduler.Reason, value func(c *scheduler.Candidate) int64) scheduler.Placement {
	id, ok := least(view, value)
	if !ok {
		return scheduler.Placement{}
	}
	return scheduler.Placement{Backend: id, Reason: reason}
}
