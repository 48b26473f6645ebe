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

// among picks one of the candidates whose value is the least, which is told: those with the most slots, and one
// of these at random. Chance is only asked where there is a tie.
func among(view scheduler.View, least int64, value func(i int) (int64, bool)) int {
	slots, ties, first := 0, 0, -1
	for i := range view.Candidates {
		o := &view.Candidates[i]
		if v, ok := value(i); !ok || v != least || o.Slots < slots {
			continue
		}
		if o.Slots > slots || first < 0 {
			slots, ties, first = o.Slots, 0, i
		}
		ties++
	}
	if ties <= 1 {
		return first
	}
	nth := view.Rand(ties)
	for i := first; ; i++ {
		o := &view.Candidates[i]
		if v, ok := value(i); !ok || v != least || o.Slots != slots {
			continue
		}
		if nth == 0 {
			return i
		}
		nth--
	}
}

// least is the idle candidate with the least value; false when nobody is idle.
func least(view scheduler.View, value func(c *scheduler.Candidate) int64) (scheduler.BackendID, bool) {
	best, found := int64(0), false
	for i := range view.Candidates {
		if c := &view.Candidates[i]; c.Idle {
			if v := value(c); !found || v < best {
				best, found = v, true
			}
		}
	}
	if !found {
		return "", false
	}
	i := among(view, best, func(i int) (int64, bool) { c := &view.Candidates[i]; return value(c), c.Idle })
	return view.Candidates[i].Backend, true
}

// now is a placement on the idle candidate with the least value, or none.
func now(view scheduler.View, reason scheduler.Reason, value func(c *scheduler.Candidate) int64) scheduler.Placement {
	id, ok := least(view, value)
	if !ok {
		return scheduler.Placement{}
	}
	return scheduler.Placement{Backend: id, Reason: reason}
}
