package sim

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"
)

// The cards of the scheduling notes.
var (
	t4   = Card{Class: "T4", Slots: 1, Law: &Law{Fixed: 0.12, PerSecond: 1. / 18, Sigma: 0.15}}
	a10g = Card{Class: "A10G", Slots: 1, Law: &Law{Fixed: 0.08, PerSecond: 1. / 40, Sigma: 0.15}}
	h100 = Card{Class: "H100", Slots: 1, Law: &Law{Fixed: 0.05, PerSecond: 1. / 160, Sigma: 0.15}}
)

func (c Card) with(slots int, gain float64) Card {
	c.Slots, c.Gain = slots, gain
	return c
}

// cards lists a count and a card in turn.
func cards(sets ...any) (pool []Card) {
	for i := 0; i < len(sets); i += 2 {
		for n := range sets[i].(int) {
			c := sets[i+1].(Card)
			c.Name = c.Class + "-" + string(rune('1'+n))
			pool = append(pool, c)
		}
	}
	return pool
}

// mixed is the lengths of the scheduling notes.
var mixedLengths = Audio{Lognormal: &Lognormal{Median: 12, Sigma: 1.2, Cap: 3600}}

// scenario is a warm pool with mixed lengths.
func scenario(policy string, pool []Card, load Load, jobs int) Scenario {
	return Scenario{Policy: policy, Told: ToldNothing, Model: "base", Cards: pool, Load: load, Audio: mixedLengths,
		Jobs: jobs, WarmUp: 60 * len(pool), Seed: 1}
}

func run(t *testing.T, sc Scenario) Result {
	t.Helper()
	r, err := Run(sc)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Errorf("%s, seed %d: %s", sc.Policy, sc.Seed, v)
	}
	return r
}

// several runs a scenario with as many seeds.
func several(t *testing.T, sc Scenario, seeds int) Outcomes {
	t.Helper()
	o := Outcomes{Rival: Rival{Policy: sc.Policy}}
	for range seeds {
		o.Results = append(o.Results, run(t, sc))
		sc.Seed++
	}
	return o
}

func TestSameScenarioSameResult(t *testing.T) {
	pool := append(cards(2, a10g, 1, t4.with(3, 1.5)), Card{Name: "by class", Class: "H100", Slots: 2})
	faults := []Fault{{At: 20 * time.Second, Card: "A10G-1", Becomes: Slow, Factor: 3}, {At: 60 * time.Second, Card: "A10G-2", Becomes: Dead}}
	for _, r := range Rivals() {
		sc := scenario(r.Policy, pool, Load{Clients: 12, Think: time.Second}, 300)
		sc.Told, sc.Faults, sc.SizeError = r.Told, faults, 0.5
		text := func(seed uint64) []byte {
			sc.Seed = seed
			out, err := json.Marshal(run(t, sc))
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		first := text(1)
		if again := text(1); !bytes.Equal(first, again) {
			t.Errorf("%s: two runs of one scenario differ:\n%s\n%s", r.Name(), first, again)
		}
		if other := text(2); bytes.Equal(first, other) {
			t.Errorf("%s: another seed made no difference", r.Name())
		}
	}
}

// TestEveryPolicyMeetsTheSameJobs: sizes, chance and arrivals hang on the seed, not on who serves.
func TestEveryPolicyMeetsTheSameJobs(t *testing.T) {
	var bounds []Bound
	for _, policy := range []string{"latency_aware", "caddy_round_robin", "p2c"} {
		bounds = append(bounds, run(t, scenario(policy, cards(2, t4, 2, h100), Load{Share: 0.4}, 500)).Bound)
	}
	if bounds[0] != bounds[1] || bounds[0] != bounds[2] {
		t.Errorf("bounds differ: %+v", bounds)
	}
}

// TestOneCardOneClient is a run that can be reckoned by hand.
func TestOneCardOneClient(t *testing.T) {
	c := Card{Name: "card", Slots: 1, Law: &Law{Fixed: 1, PerSecond: 0.1}}
	sc := Scenario{Policy: "latency_aware", Told: ToldNothing, Model: "base", Cards: []Card{c}, Load: Load{Clients: 1},
		Audio: Audio{List: []float64{10, 30}}, Jobs: 100, WarmUp: 10, Seed: 1}
	r := run(t, sc)
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-6*want {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("mean", r.Mean, 3)
	near("p50", r.P50, 2)
	near("p99", r.P99, 4)
	near("elapsed", r.Elapsed, 300)
	near("throughput", r.Throughput, 1./3)
	near("bound", r.Bound.Mean, 3)
	near("eta", r.Eta, 1)
	near("busy", r.Backends[0].Busy, 1)
	if r.Jobs != 100 || r.Errors != 0 || r.Backends[0].Sent != 100 || r.Wait > 1e-6 {
		t.Errorf("result %+v", r)
	}
}

// TestQueueInsideAServer: a peer that binds on arrival has jobs wait inside the server, in order.
func TestQueueInsideAServer(t *testing.T) {
	c := Card{Name: "card", Slots: 2, Law: &Law{Fixed: 1}}
	sc := Scenario{Policy: "caddy_least_conn", Told: ToldNothing, Model: "base", Cards: []Card{c}, Load: Load{Burst: 5},
		Audio: Audio{Fixed: 5}, Seed: 1}
	r := run(t, sc)
	if r.Mean != (1+1+2+2+3)/5. || r.Max != 3 || r.Wait != (0+0+1+1+2)/5. || r.Bound.Mean != r.Mean {
		t.Errorf("result %+v", r)
	}
}

// TestJobsSideBySide: two jobs on a card whose gain is 1.5 take 4/3 as long as one alone.
func TestJobsSideBySide(t *testing.T) {
	c := Card{Name: "card", Slots: 2, Gain: 1.5, Law: &Law{Fixed: 1}}
	sc := Scenario{Policy: "latency_aware", Told: ToldNothing, Model: "base", Cards: []Card{c}, Load: Load{Clients: 2},
		Audio: Audio{Fixed: 5}, Jobs: 20, Seed: 1}
	if r := run(t, sc); math.Abs(r.Mean-4./3) > 1e-6 || math.Abs(r.Eta-1) > 0.1 {
		t.Errorf("mean %v, eta %v", r.Mean, r.Eta)
	}
}

func TestOpenLoopComesAtItsRate(t *testing.T) {
	sc := scenario("latency_aware", cards(4, h100), Load{Rate: 5}, 4000)
	if r := run(t, sc); math.Abs(r.Throughput-5) > 0.3 {
		t.Errorf("%.2f jobs a second were served, want 5", r.Throughput)
	}
	sc.Load = Load{Share: 0.5}
	if r, want := run(t, sc), sc.Capacity()/2; math.Abs(r.Throughput-want) > 0.05*want {
		t.Errorf("%.2f jobs a second were served, want half of the capacity, %.2f", r.Throughput, want)
	}
	sc.Jobs, sc.Duration = 0, 100*time.Second
	if r := run(t, sc); math.Abs(r.Elapsed-100) > 1 {
		t.Errorf("measured for %v s, want 100", r.Elapsed)
	}
}

func TestLengths(t *testing.T) {
	draw := func(a Audio) []float64 {
		w := newWorkload(&Scenario{Audio: a, Seed: 3, Cards: cards(1, h100)})
		var xs []float64
		for n := range 20000 {
			xs = append(xs, w.job(n).audio)
		}
		return xs
	}
	q := quantiles(draw(mixedLengths))
	if m := q(0.5); math.Abs(m-12) > 0.5 {
		t.Errorf("the median of the lognormal is %.2f, want 12", m)
	}
	if s := math.Log(q(0.8413)/q(0.5)) / 1.2; math.Abs(s-1) > 0.05 {
		t.Errorf("the sigma of the lognormal is %.2f of what it should be", s)
	}
	xs := draw(Audio{Lognormal: &Lognormal{12, 1.2, 20}})
	if slices.Max(xs) != 20 {
		t.Errorf("the longest is %v, want the cap of 20", slices.Max(xs))
	}
	q = quantiles(draw(Audio{Pareto: &Pareto{Alpha: 1.3, Min: 3, Cap: 7200}}))
	if m, want := q(0.5), 3*math.Pow(2, 1/1.3); math.Abs(m-want) > 0.1 {
		t.Errorf("the median of the pareto is %.2f, want %.2f", m, want)
	}
	if xs := draw(Audio{List: []float64{1, 2, 3}}); xs[0] != 1 || xs[1] != 2 || xs[3] != 1 {
		t.Errorf("the list came as %v", xs[:4])
	}
}

// TestChanceHasAMeanOfOne, so that a card's law says what it takes on average.
func TestChanceHasAMeanOfOne(t *testing.T) {
	noisy := Card{Name: "noisy", Slots: 1, Law: &Law{Fixed: 2, Sigma: 0.4}}
	odd := Card{Name: "odd", Slots: 1, Law: &Law{Fixed: 2, OutlierShare: 0.05, OutlierFactor: 5}}
	w := newWorkload(&Scenario{Audio: Audio{Fixed: 5}, Seed: 3, Cards: []Card{noisy, odd}})
	sums := [2]float64{}
	const n = 20000
	for i := range n {
		for c := range sums {
			sums[c] += w.alone(c, w.job(i)) / n
		}
	}
	if math.Abs(sums[0]-2) > 0.03 || math.Abs(sums[1]-2*1.2) > 0.05 {
		t.Errorf("means %v, want 2 and 2.4", sums)
	}
}
