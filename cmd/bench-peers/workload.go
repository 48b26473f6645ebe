package main

import (
	"fmt"
	"slices"

	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
)

// Lengths of recordings, in seconds: equal clips as in the load tests that the project began with,
// and what people record, with a heavy tail.
const (
	equalClips = "5"
	recordings = "lognormal:12,1.2,600"
)

// workload is a load on a pool.
type workload struct {
	Pool    pool
	Lengths string
	Clients int     // closed loop of so many, or
	Share   float64 // open loop at this share of what the pool can do at the most, or
	Burst   int
	Jobs    int // of the first two
}

func (w workload) Name() string {
	switch {
	case w.Burst > 0:
		return fmt.Sprintf("burst of %d", w.Burst)
	case w.Clients > 0:
		return fmt.Sprintf("closed loop, %d clients", w.Clients)
	}
	return fmt.Sprintf("open loop, %.0f %% load", 100*w.Share)
}

// load is what the generator is told.
func (w workload) load(speedUp float64) (bench.Load, bench.Lengths, error) {
	lengths, err := bench.ParseLengths(w.Lengths)
	if err != nil {
		return bench.Load{}, lengths, err
	}
	switch {
	case w.Burst > 0:
		return bench.Load{Burst: w.Burst}, lengths, nil
	case w.Clients > 0:
		return bench.Load{Clients: w.Clients, Requests: w.Jobs, Sustain: true}, lengths, nil
	}
	return bench.Load{Rate: w.Share * w.Pool.capacity(lengths, speedUp), Requests: w.Jobs}, lengths, nil
}

// plan is how much is measured.
type plan struct {
	workloads []workload
	peers     []peer
	repeats   int
	speedUp   float64
}

// full takes an hour and a half. Handing a job over costs what it costs, so the less time is sped up, the
// more it weighs as it would on real cards.
func full() plan {
	wide, narrow := pools[0], pools[1]
	p := plan{peers: peers, repeats: 3, speedUp: 2.5}
	for _, at := range []pool{wide, narrow} {
		p.workloads = append(p.workloads, workload{Pool: at, Lengths: equalClips, Burst: 512})
	}
	for _, clients := range []int{4, 8, 16, 64} {
		p.workloads = append(p.workloads, workload{Pool: narrow, Lengths: recordings, Clients: clients, Jobs: 400})
	}
	for _, share := range []float64{0.5, 0.7, 0.85} {
		p.workloads = append(p.workloads, workload{Pool: wide, Lengths: recordings, Share: share, Jobs: 400})
	}
	return p
}

// short takes about a minute: enough to see that all of it works, and the coarse differences.
func short() plan {
	wide := pools[0]
	return plan{peers: peers, repeats: 1, speedUp: 5, workloads: []workload{
		{Pool: wide, Lengths: equalClips, Burst: 96},
		{Pool: wide, Lengths: recordings, Clients: 16, Jobs: 80},
	}}
}

// pools are those of the plan's workloads, in order.
func (p plan) pools() []pool {
	var all []pool
	for _, w := range p.workloads {
		if !slices.ContainsFunc(all, func(o pool) bool { return o.Name == w.Pool.Name }) {
			all = append(all, w.Pool)
		}
	}
	return all
}
