package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim/recording"
)

// crowd is jobs of tenants and bands that come at random times, on cards of their own, as if they had been recorded.
type crowd struct {
	recording.Workload
	rnd *rand.Rand
}

func newCrowd(seed uint64, pool []Card) *crowd {
	c := &crowd{rnd: rand.New(rand.NewPCG(seed, 7))}
	c.Classes = []recording.Class{{Model: "base"}}
	c.Config.Seed = seed
	for _, card := range pool {
		c.Cards = append(c.Cards, recording.Card{
			Backend: scheduler.Backend{ID: scheduler.BackendID(card.Name), Address: card.Name, Class: card.Class, Slots: card.Slots},
			Laws:    map[string]recording.MeasuredLaw{"base": {Fixed: card.Law.Fixed, PerSecond: card.Law.PerSecond}},
		})
	}
	return c
}

// come lets jobs like one arrive at a rate per second, for as long.
func (c *crowd) come(rate float64, length time.Duration, like recording.Job) {
	for t := c.rnd.ExpFloat64() / rate; t < length.Seconds(); t += c.rnd.ExpFloat64() / rate {
		j := like
		j.At, j.Words = time.Duration(t*1e9), true
		j.Audio = min(120, 12*c.rnd.ExpFloat64())
		j.Told, j.Luck = j.Audio, math.Exp(0.15*c.rnd.NormFloat64()-0.15*0.15/2) // of mean 1
		c.Jobs = append(c.Jobs, j)
	}
}

// served runs it and returns the response times of the jobs by what group says of them.
func served[K comparable](t *testing.T, c *crowd, group func(recording.Job) K) map[K][]float64 {
	t.Helper()
	slices.SortStableFunc(c.Jobs, func(a, b recording.Job) int { return int(a.At - b.At) })
	e, err := simulate(Replay(&c.Workload).At(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	r := e.result()
	if r.Errors > 0 || len(r.Violations) > 0 {
		t.Fatalf("%d errors, %v", r.Errors, r.Violations)
	}
	took := map[K][]float64{}
	for _, j := range e.measured {
		took[group(*j.recorded)] = append(took[group(*j.recorded)], j.took)
	}
	return took
}

// TestFloodDelaysItsTenantOnly: one tenant sends nineteen times what five others send together, far more than
// the pool can do.
func TestFloodDelaysItsTenantOnly(t *testing.T) {
	const others, flood, length = 16.0, 300.0, 30 * time.Second // the pool does 42 such jobs a second
	var solo, flooded []float64
	for seed := range uint64(3) {
		for _, rate := range []float64{0, flood} {
			c := newCrowd(seed+1, cards(4, a10g, 4, h100))
			for tenant := range scheduler.Tenant(5) {
				c.come(others/5, length, recording.Job{Tenant: tenant + 1})
			}
			if rate > 0 {
				c.come(rate, length, recording.Job{Tenant: 99})
			}
			took := served(t, c, func(j recording.Job) bool { return j.Tenant == 99 })[false]
			if rate > 0 {
				flooded = append(flooded, took...)
			} else {
				solo = append(solo, took...)
			}
		}
	}
	alone, beside := quantiles(solo)(0.99), quantiles(flooded)(0.99)
	t.Logf("p99 of the others: %.3f s, beside a flood %.3f s", alone, beside)
	if beside > 1.5*alone {
		t.Errorf("p99 %.2f s beside a flood, %.2f s without", beside, alone)
	}
}

// TestBandsInOverload: while it lasts for less than a band is worth of waiting, interactive jobs do not feel it;
// however long it lasts, a band waits no more than what it is worth longer than the one above.
func TestBandsInOverload(t *testing.T) {
	took := map[scheduler.Priority][]float64{}
	for seed := range uint64(2) {
		c := newCrowd(seed+1, cards(2, a10g))
		c.Config.Queue.MaxWait = time.Hour
		for p, rate := range []float64{scheduler.Interactive: 2, scheduler.Default: 3, scheduler.Batch: 3} {
			c.come(rate, 3*time.Minute, recording.Job{Priority: scheduler.Priority(p)})
		}
		for p, seconds := range served(t, c, func(j recording.Job) scheduler.Priority { return j.Priority }) {
			took[p] = append(took[p], seconds...)
		}
	}
	quick, usual := quantiles(took[scheduler.Interactive])(0.5), quantiles(took[scheduler.Default])(0.5)
	worst, worstBatch := slices.Max(took[scheduler.Interactive]), slices.Max(took[scheduler.Batch])
	t.Logf("median: interactive %.1f s, default %.1f s; worst: interactive %.1f s, batch %.1f s", quick, usual, worst, worstBatch)
	if quick > 0.2*usual {
		t.Errorf("interactive jobs take %.1f s in the median, others %.1f s", quick, usual)
	}
	if worstBatch > worst+60+15 {
		t.Errorf("a batch job took %.1f s, an interactive one at most %.1f s", worstBatch, worst)
	}
}
