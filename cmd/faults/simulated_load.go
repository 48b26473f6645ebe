package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim"
)

var simulatedLoads = []scenario{
	{ID: "s14", Name: "simulated: 50 % of 2,000 clients leave, from the queue and from cards", Theme: simulations, Short: true,
		Criterion: "no breaker opens, nothing waits or runs at the end, whoever runs is aborted within 100 ms, the others are served", Run: simulatedLeaving},
	{ID: "s18", Name: "simulated: overload, 1.5 x what the pool can do for 10 minutes, then 0.5 x", Theme: simulations, Short: true,
		Criterion: "served at least 0.95 of what it can do, nobody waits longer than 1.1 x max_wait, refusals within 10 ms, 2 x max_wait after it means are at most 1.1 x those without", Run: simulatedOverload},
	{ID: "s23", Name: "simulated: one tenant sends 95 %, far more than the pool can do; batch jobs beside more than it can do", Theme: simulations, Short: true,
		Criterion: "the others' p99 at most 1.5 x that without it; no batch job waits longer than 10 minutes", Run: simulatedFlood},
}

func simulatedLeaving(ctx context.Context, e *env) (string, bool, error) {
	sc := simulated(mixedCards(), sim.Load{Burst: 2000})
	sc.Leaving = sim.Leaving{Share: 0.5, After: 40 * time.Second}
	runs, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	out := atMost{held: true}
	left, running := 0, 0
	slow := time.Duration(0)
	for _, r := range runs {
		left += r.Left
		for _, t := range r.tries {
			if t.job < 0 || r.jobs[t.job].reason != scheduler.ClientGone {
				continue
			}
			running++
			slow = max(slow, t.ended-r.jobs[t.job].left)
		}
	}
	out.check("breakers opened", float64(worst(runs, func(r simRun) int { return r.opened() })), 0)
	out.check("held at the end", float64(worst(runs, func(r simRun) int {
		held := r.rest.Queued + r.rest.Running + int(r.rest.HeldBytes)
		for _, b := range r.rest.Backends {
			held += b.Outstanding
		}
		return held
	})), 0)
	out.check("aborted after ms", 1e3*slow.Seconds(), 100)
	out.check("errors", float64(worst(runs, errorsOf)), 0)
	return fmt.Sprintf("%d left, %d of them while their job ran; %s", left, running, out.say()), out.held && left > 0 && running > 0, nil
}

func simulatedOverload(ctx context.Context, e *env) (string, bool, error) {
	const length, wait, after = 10 * time.Minute, time.Minute, 5 * time.Minute
	sc := simulated(mixedCards(), sim.Load{Share: 1.5, Changes: []sim.LoadChange{{At: length, Times: 0.5 / 1.5}}})
	sc.MaxWait, sc.Duration = wait, length+2*wait+after
	runs, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	sc.Load, sc.Duration = sim.Load{Share: 0.5}, after
	base, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	out := atMost{held: true}
	refused := 0
	least := -worst(runs, func(r simRun) float64 {
		served := 0
		for _, j := range r.jobs[r.warm:] {
			if j.reason == scheduler.Served && j.ended < length {
				served++
			}
		}
		refused += r.Errors
		return -float64(served) / length.Seconds() / r.Bound.Throughput
	})
	out.check(fmt.Sprintf("served %.3f of what can be, so short of it by", least), 1-least, 0.05)
	out.check("longest wait, of max_wait", worst(runs, func(r simRun) float64 {
		longest := time.Duration(0)
		for _, j := range r.served(0, forEver) {
			longest = max(longest, j.waited)
		}
		return longest.Seconds() / wait.Seconds()
	}), 1.1)
	late := worst(runs, func(r simRun) (n int) {
		for _, j := range r.jobs[r.warm:] {
			if j.ended < forEver && j.reason != scheduler.Served && j.ended-j.arrived > 10*time.Millisecond {
				n++
			}
		}
		return n
	})
	out.check(fmt.Sprintf("of %d refused, in the worst seed later than 10 ms", refused), float64(late), 0)
	out.check("means afterwards, times base", meanOf(times(runs, length+2*wait, forEver))/meanOf(times(base, 0, forEver)), 1.1)
	return out.say(), out.held, nil
}

func simulatedFlood(ctx context.Context, e *env) (string, bool, error) {
	const others, flood, length = 16.0, 304.0, 30 * time.Second
	pool := slices.Concat(simCards(4, simA10G), simCards(4, simH100))
	sc := simulated(pool, sim.Load{Rate: others})
	sc.Audio, sc.Duration = sim.Audio{Lognormal: &sim.Lognormal{Median: 8, Sigma: 0.9, Cap: 120}}, length
	for tenant := range scheduler.Tenant(5) {
		sc.Senders = append(sc.Senders, sim.Sender{Share: others / 5, Tenant: tenant + 1})
	}
	solo, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	const guilty = 99
	sc.Load = sim.Load{Rate: others + flood, Changes: []sim.LoadChange{{At: length, Times: 0.001}}}
	sc.Senders = append(sc.Senders, sim.Sender{Share: flood, Tenant: guilty})
	sc.WarmUp = 60 * len(pool)
	flooded, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	// The flood is on during the warm-up, too; it lasts from the first job on.
	innocent := func(r simRun) (all []float64) {
		for _, j := range r.served(0, length) {
			if j.Tenant != guilty {
				all = append(all, j.took())
			}
		}
		return all
	}
	out := atMost{held: true}
	alone, beside := quantileOf(pooled(solo, innocent), 0.99), quantileOf(pooled(flooded, innocent), 0.99)
	out.check(fmt.Sprintf("p99 of the others %.2f s, beside a flood %.2f s, times", alone, beside), beside/alone, 1.5)

	bands := simulated(pool, sim.Load{Share: 1.2, Changes: []sim.LoadChange{{At: 15 * time.Minute, Times: 0.25}}})
	bands.Duration = 20 * time.Minute
	bands.Senders = []sim.Sender{{Share: 3, Priority: scheduler.Interactive}, {Share: 6, Priority: scheduler.Default}, {Share: 1, Priority: scheduler.Batch}}
	runs, err := simulate(ctx, bands, e.seeds())
	if err != nil {
		return "", false, err
	}
	longest := math.Inf(-1)
	for _, r := range runs {
		for _, j := range r.jobs[r.warm:] {
			if j.Priority == scheduler.Batch && j.arrived < bands.Duration {
				longest = max(longest, j.waited.Seconds())
			}
		}
	}
	out.check("1.2 x what the pool can do for 15 minutes: the longest wait of a batch job in s", longest, 600)
	out.check("errors", float64(worst(slices.Concat(flooded, runs), errorsOf)), 0)
	return out.say(), out.held, nil
}
