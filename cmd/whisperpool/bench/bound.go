package bench

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"slices"
	"time"
)

// Bound is the least mean that any way of placing the jobs can reach, knowing all in advance.
type Bound struct {
	Mean float64 `json:"mean_s"`
	P95  float64 `json:"p95_s,omitempty"` // where it is known
	What string  `json:"what"`

	sorted []float64 // the least response times, where they are known
}

// Kind is a kind of card: so many slots in all that take so long for each job.
type Kind struct {
	Slots   int
	Seconds []float64 // by job
}

// Bounds is the highest bound that holds for jobs that have arrived at such times (in order; those
// of a burst and of a closed loop are not looked at) on such cards.
//
//   - Always: every job alone in the slot that is fastest for it.
//   - Burst of equal jobs: the exact schedule, every slot's finish times in order.
//   - Closed loop of N clients: N / X, X the most jobs a second. With any price v on the kinds of
//     slot, a job costs at least y = min over kinds of v * seconds, and N slots at most earn the sum
//     of the N highest v a second; so X is at most that sum over the mean of y, for the v that makes
//     it least.
//   - Open loop and burst: one server as fast as all slots together, at these prices, that always
//     does the job with the least work left.
func Bounds(load Load, kinds []Kind, arrived []time.Duration) *Bound {
	n := len(kinds[0].Seconds)
	if n == 0 {
		return nil
	}
	least := make([]float64, n)
	for j := range least {
		least[j] = math.Inf(1)
		for _, k := range kinds {
			least[j] = min(least[j], k.Seconds[j])
		}
	}
	slices.Sort(least)
	b := &Bound{Mean: mean(least), P95: percentile(least, 0.95), sorted: least, What: "every clip alone on the fastest card"}
	higher := func(mean float64, what string) {
		if mean > b.Mean {
			*b = Bound{Mean: mean, What: what}
		}
	}
	switch {
	case load.Burst > 0 && equalJobs(kinds):
		if ends := burstEnds(kinds, n); mean(ends) >= b.Mean {
			*b = Bound{Mean: mean(ends), P95: percentile(ends, 0.95), sorted: ends, What: "the exact schedule of equal clips on these slots"}
		}
	case load.Clients > 0:
		p := price(kinds, load.Clients)
		higher(float64(load.Clients)/p.throughput(load.Clients), fmt.Sprintf("what keeps %d clients waiting at the pool's highest throughput", load.Clients))
	default:
		p := price(kinds, math.MaxInt)
		if load.Burst > 0 {
			arrived = make([]time.Duration, n)
		}
		higher(p.pooled(arrived), "one server as fast as all cards, shortest first")
	}
	return b
}

// Throughput is the most such jobs a second that any placement can do on these cards, X above.
func Throughput(kinds []Kind) float64 { return price(kinds, math.MaxInt).throughput(math.MaxInt) }

func equalJobs(kinds []Kind) bool {
	return !slices.ContainsFunc(kinds, func(k Kind) bool {
		return slices.ContainsFunc(k.Seconds, func(s float64) bool { return s != k.Seconds[0] })
	})
}

// burstEnds are the first n of every slot's finish times.
func burstEnds(kinds []Kind, n int) []float64 {
	var ends []float64
	for _, k := range kinds {
		for at := range n {
			ends = append(ends, k.Seconds[0]*float64(at/max(1, k.Slots)+1))
		}
	}
	slices.Sort(ends)
	return ends[:n]
}

// prices are what a second of each kind of slot is worth.
type prices struct {
	kinds []Kind
	v     []float64
}

// price finds the prices that bound the throughput with so many jobs at once best: from prices in
// proportion to speed, each is changed for as long as that helps, by smaller and smaller steps.
func price(kinds []Kind, atOnce int) prices {
	p := prices{kinds: kinds}
	for _, k := range kinds {
		p.v = append(p.v, mean(kinds[0].Seconds)/mean(k.Seconds))
	}
	least := p.throughput(atOnce)
	for step := 0.5; step >= 0.002; {
		better := false
		for i := 1; i < len(p.v); i++ {
			for _, factor := range []float64{1 + step, 1 / (1 + step)} {
				before := p.v[i]
				p.v[i] *= factor
				if x := p.throughput(atOnce); x < least {
					least, better = x, true
				} else {
					p.v[i] = before
				}
			}
		}
		if !better {
			step /= 2
		}
	}
	return p
}

// cost is what a job costs where it is cheapest.
func (p prices) cost(job int) float64 {
	least := math.Inf(1)
	for i, k := range p.kinds {
		least = min(least, p.v[i]*k.Seconds[job])
	}
	return least
}

// speed is what the dearest slots earn a second, so many of them.
func (p prices) speed(slots int) float64 {
	order := make([]int, len(p.v))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(p.v[b], p.v[a]) })
	sum := 0.0
	for _, i := range order {
		used := min(slots, p.kinds[i].Slots)
		sum += float64(used) * p.v[i]
		slots -= used
	}
	return sum
}

func (p prices) throughput(atOnce int) float64 {
	n, sum := len(p.kinds[0].Seconds), 0.0
	for j := range n {
		sum += p.cost(j)
	}
	return p.speed(atOnce) * float64(n) / sum
}

// pooled is the mean response time on the one server.
func (p prices) pooled(arrived []time.Duration) float64 {
	speed := p.speed(math.MaxInt)
	waiting := &work{}
	now, total := 0.0, 0.0
	advance := func(to float64) {
		for waiting.Len() > 0 {
			first := &(*waiting)[0]
			end := now + first.left/speed
			if end > to {
				first.left -= (to - now) * speed
				break
			}
			now, total = end, total+end-first.arrived
			heap.Pop(waiting)
		}
		now = to
	}
	for j, at := range arrived {
		advance(at.Seconds())
		heap.Push(waiting, piece{at.Seconds(), p.cost(j)})
	}
	advance(math.Inf(1))
	return total / float64(max(1, len(arrived)))
}

// piece is a job that is not done.
type piece struct{ arrived, left float64 }

// work is a heap with the least left on top.
type work []piece

func (w work) Len() int           { return len(w) }
func (w work) Less(i, j int) bool { return w[i].left < w[j].left }
func (w work) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *work) Push(x any)        { *w = append(*w, x.(piece)) }
func (w *work) Pop() any {
	old := *w
	x := old[len(old)-1]
	*w = old[:len(old)-1]
	return x
}
