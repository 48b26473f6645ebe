package peers

import (
	"math/rand/v2"
	"time"
)

// instanceAware is SkyServe's instance_aware_least_load: the lowest requests in flight / target rate
// of the GPU type, which is set by hand; of equals the first that is listed. The list is in the order
// in which the machines came up, whatever their type, so here it is drawn. It binds on arrival.
type instanceAware struct {
	deaf
	target []float64
	place  []int // in the list, by server
	lowest []int
}

func newInstanceAware(pool []Server, chance *rand.Rand) Balancer {
	a := &instanceAware{place: chance.Perm(len(pool))}
	for _, s := range pool {
		a.target = append(a.target, s.Rate)
	}
	return a
}

func (a *instanceAware) Pick(_ time.Duration, pool []Server) (int, bool) {
	a.lowest = lowest(pool, a.lowest, func(i int) float64 { return float64(pool[i].Outstanding) / a.target[i] })
	first := a.lowest[0]
	for _, i := range a.lowest {
		if a.place[i] < a.place[first] {
			first = i
		}
	}
	return first, true
}
