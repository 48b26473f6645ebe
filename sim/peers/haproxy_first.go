package peers

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// first is HAProxy's `balance first` with maxconn: the first server in the configuration's order that
// has room, so the fastest are listed first; when none has, requests wait in the proxy's queue, and a
// slot that comes free takes the oldest.
type first struct {
	deaf
	order []int
}

func newFirst(pool []Server, _ *rand.Rand) Balancer {
	f := &first{order: make([]int, len(pool))}
	for i := range f.order {
		f.order[i] = i
	}
	perSlot := func(i int) float64 { return pool[i].Rate / float64(pool[i].Slots) }
	slices.SortStableFunc(f.order, func(a, b int) int { return cmp.Compare(perSlot(b), perSlot(a)) })
	return f
}

func (f *first) Pick(_ time.Duration, pool []Server) (int, bool) {
	for _, i := range f.order {
		if pool[i].Up && pool[i].Outstanding < pool[i].Slots {
			return i, true
		}
	}
	return 0, false
}
