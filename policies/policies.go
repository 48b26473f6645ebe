// Package policies holds the placement policies, one a file. A policy says which eligible backend
// a job should go to, now or later; everything else is the scheduler's. Policies keep no state: what
// they need to know is in the view, chance and the count of placements included.
package policies

import "github.com/whisperpool/whisperpool/scheduler"

// Default is the name of the policy that an empty name means.
const Default = "latency_aware"

// Names lists the policies that ByName knows, the default first.
func Names() []string { return nil }

// ByName returns the policy of that name, "" meaning the default; false when there is none.
func ByName(name string) (scheduler.Policy, bool) { return nil, false }
