package sim

import (
	"container/heap"
	"math"
	"slices"

	"github.com/whisperpool/whisperpool/scheduler"
)

// Bound is the least that any scheduler can reach on the jobs of a run, one that knows everything in
// advance included: section 4.5 of the scheduling notes, computed on the realised sizes and service
// times. Faults are not counted in, so with them it is lower than what could be reached.
type Bound struct {
	// Kind says which of the bounds is the highest, and so the one that counts.
	Kind string  `json:"kind"`
	Mean float64 `json:"mean_s"`
	// Throughput is the most jobs a second that the pool can do of this mix (L2).
	Throughput float64 `json:"throughput_per_s"`
	// For bursts: the quantiles of the least possible response times where the jobs are equal, and the
	// least time until the last job is done.
	P50      float64 `json:"p50_s,omitempty"`
	P95      float64 `json:"p95_s,omitempty"`
	P99      float64 `json:"p99_s,omitempty"`
	Makespan float64 `json:"makespan_s,omitempty"`
}

// The kinds of bound.
const (
	BoundFastest  = "fastest"  // (L1): each job alone on the card that is fastest for it
	BoundPrices   = "prices"   // (a): clients / throughput
	BoundPooled   = "pooled"   // (b): one server as fast as the pool, shortest remaining work first
	BoundSchedule = "schedule" // (e): every slot's finish times
)

// prices are the dual prices of section 4.5: v of a card says what a second of it is worth, and a job's
// work is what it costs where it is cheapest. No policy can do more work in a second than the cards in
// use are worth.
type prices struct {
	e       *engine
	kinds   []int       // the first card of each kind
	v       []float64   // by kind
	seconds [][]float64 // by kind and job: alone
	of      map[*job]int
	gains   [][]float64 // by kind: what each job more adds to what a card gets done
	cards   []int       // by kind: how many
}

func (e *engine) newPrices(jobs []*job) *prices {
	p := &prices{e: e, of: make(map[*job]int, len(jobs))}
	for i := range e.cards {
		if e.kinds[i] != i {
			p.cards[slices.Index(p.kinds, e.kinds[i])]++
			continue
		}
		p.kinds, p.cards, p.v = append(p.kinds, i), append(p.cards, 1), append(p.v, 1)
		p.gains = append(p.gains, e.gainSteps(i))
		seconds := make([]float64, len(jobs))
		for n, j := range jobs {
			seconds[n] = e.alone(i, j)
		}
		p.seconds = append(p.seconds, seconds)
	}
	for n, j := range jobs {
		p.of[j] = n
	}
	return p
}

// gainSteps are what each job more on a card adds at most, the largest first. Where the gain falls
// again nobody has to go that far, so the most of fewer jobs holds.
func (e *engine) gainSteps(card int) []float64 {
	var steps []float64
	most := 0.0
	for k := 1; k <= e.cards[card].Slots; k++ {
		g := max(most, e.gain(card, k))
		steps, most = append(steps, g-most), g
	}
	slices.SortFunc(steps, func(a, b float64) int { return compare(b, a) })
	return steps
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// price finds the prices that give the least throughput, by coordinate search from prices in
// proportion to speed.
func (e *engine) price(jobs []*job) *prices {
	p := e.newPrices(jobs)
	if len(jobs) == 0 {
		return p
	}
	for i := range p.v {
		p.v[i] = finiteMean(p.seconds[0]) / finiteMean(p.seconds[i])
	}
	least := p.throughput(e.atOnce())
	for step := 0.5; step >= 0.002; {
		better := false
		for i := 1; i < len(p.v); i++ {
			for _, by := range []float64{1 + step, 1 / (1 + step)} {
				before := p.v[i]
				p.v[i] *= by
				if x := p.throughput(e.atOnce()); x < least {
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

// atOnce is how many jobs can be at work at a time: no more than there are clients, or slots.
func (e *engine) atOnce() int {
	slots := 0
	for _, c := range e.cards {
		slots += c.Slots
	}
	if n := e.sc.Load.Clients; n > 0 {
		return min(n, slots)
	}
	if n := e.sc.Load.Burst; n > 0 {
		return min(n, slots)
	}
	return slots
}

// speed is the most work that the pool can do in a second with so many jobs at once.
func (p *prices) speed(atOnce int) float64 {
	var steps []float64
	for i, gains := range p.gains {
		for range p.cards[i] {
			for _, g := range gains {
				steps = append(steps, p.v[i]*g)
			}
		}
	}
	slices.SortFunc(steps, func(a, b float64) int { return compare(b, a) })
	sum := 0.0
	for _, s := range steps[:min(atOnce, len(steps))] {
		sum += s
	}
	return sum
}

// work is what a job costs where it is cheapest.
func (p *prices) work(j *job) float64 {
	n, known := p.of[j]
	least := math.Inf(1)
	for i := range p.v {
		var s float64
		if known {
			s = p.seconds[i][n]
		} else {
			s = p.e.alone(p.kinds[i], j)
		}
		least = min(least, p.v[i]*s)
	}
	return least
}

// throughput is the most jobs a second at these prices.
func (p *prices) throughput(atOnce int) float64 {
	n, sum := len(p.of), 0.0
	for k := range n {
		least := math.Inf(1)
		for i := range p.v {
			least = min(least, p.v[i]*p.seconds[i][k])
		}
		sum += least
	}
	return p.speed(atOnce) * float64(n) / sum
}

// fastest is the mean time of the jobs each alone on the card that is fastest for it, and the longest.
func (p *prices) fastest() (average, longest float64) {
	n := len(p.of)
	for k := range n {
		least := math.Inf(1)
		for i := range p.seconds {
			least = min(least, p.seconds[i][k])
		}
		average += least / float64(n)
		longest = max(longest, least)
	}
	return average, longest
}

// bound is the highest of those that hold for the load.
func (e *engine) bound(p *prices) Bound {
	if len(e.measured) == 0 {
		return Bound{}
	}
	if e.sc.Recorded != nil {
		return e.recordedBound(p)
	}
	average, longest := p.fastest()
	b := Bound{Kind: BoundFastest, Mean: average, Throughput: p.throughput(e.atOnce())}
	higher := func(kind string, mean float64) {
		if mean > b.Mean {
			b.Kind, b.Mean = kind, mean
		}
	}
	switch l := e.sc.Load; {
	case l.Clients > 0:
		higher(BoundPrices, float64(l.Clients)/b.Throughput-l.Think.Seconds())
	case l.Burst > 0:
		work := 0.0
		for _, j := range e.measured {
			work += p.work(j)
		}
		b.Makespan = max(work/p.speed(e.atOnce()), longest)
		if ends := e.schedule(p); ends != nil {
			q := quantiles(ends)
			higher(BoundSchedule, mean(ends))
			b.P50, b.P95, b.P99, b.Makespan = q(0.5), q(0.95), q(0.99), max(b.Makespan, q(1))
			break
		}
		higher(BoundPooled, p.pooled(e.measured))
	default:
		higher(BoundPooled, p.pooled(e.measured))
	}
	return b
}

// schedule is the least finish times of a burst of equal recordings, sorted; nil when they are not
// equal. With slots that do not slow each other down it is the exact one, (e): every slot's k times its
// service time. Where they do, a card finishes its k-th job not before it has done k jobs' work at the
// most it can do side by side, and not before one job's time alone.
//
// The service time is the mean of the realised ones: nobody can know before which of equal recordings
// takes longer.
func (e *engine) schedule(p *prices) []float64 {
	n := len(e.measured)
	for _, j := range e.measured {
		if j.audio != e.measured[0].audio {
			return nil
		}
	}
	var ends []float64
	for i, first := range p.kinds {
		service := mean(p.seconds[i])
		c := e.cards[first]
		most := 0.0
		for _, g := range p.gains[i] {
			most += g
		}
		apart := most == float64(c.Slots)
		for range p.cards[i] {
			for k := 1; k <= n; k++ {
				at := max(service, float64(k)*service/most)
				if apart {
					at = float64((k+c.Slots-1)/c.Slots) * service
				}
				ends = append(ends, at)
			}
		}
	}
	slices.Sort(ends)
	return ends[:n]
}

// pooled is the mean response time of the jobs, with their arrivals, on one server as fast as the pool
// that always does the job with the least work left, (b).
func (p *prices) pooled(jobs []*job) float64 {
	speed := p.speed(math.MaxInt)
	var left workHeap
	now, total := 0.0, 0.0 // now in seconds since the run began
	until := func(t float64) {
		for len(left) > 0 {
			ends := now + left[0].left/speed
			if ends > t {
				left[0].left -= (t - now) * speed
				break
			}
			now = ends
			total += ends - left[0].arrived
			heap.Pop(&left)
		}
		now = t
	}
	for _, j := range jobs {
		at := seconds(j.arrived)
		until(at)
		heap.Push(&left, pooledJob{at, p.work(j)})
	}
	until(math.Inf(1))
	return total / float64(len(jobs))
}

func seconds(at scheduler.Instant) float64 { return at.Sub(0).Seconds() }

type pooledJob struct{ arrived, left float64 }

type workHeap []pooledJob

func (h workHeap) Len() int           { return len(h) }
func (h workHeap) Less(i, j int) bool { return h[i].left < h[j].left }
func (h workHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *workHeap) Push(x any)        { *h = append(*h, x.(pooledJob)) }
func (h *workHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
