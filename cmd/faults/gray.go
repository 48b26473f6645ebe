package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

const grayCriterion = "while it is slow: p99 at most 1.3 x base, under 1 % of picks, none longer than 4 x the longest job; after: at least 80 % of its fair share within 90 s"

var grayOnes = []scenario{
	{ID: "6+7", Name: "gray: one card 20 x slower for 5 minutes, then well", Theme: breakers, Peers: true, Beside: true, Criterion: grayCriterion, Run: gray(setup{}, 5*time.Minute)},
	{ID: "6+7h", Name: "the same with hedging", Theme: breakers, Beside: true, Criterion: grayCriterion, Run: gray(setup{pool: "hedge on"}, 5*time.Minute)},
}

// gray slows one card of sixteen, in real time: what is measured hangs on limits of ten seconds.
func gray(s setup, slowFor time.Duration) func(context.Context, *env) (string, bool, error) {
	return func(ctx context.Context, e *env) (string, bool, error) {
		const cards = 16
		card := law{Fixed: 600 * time.Millisecond, PerSecond: 150 * time.Millisecond, Noise: 0.1}
		// Of lengths as people send them: most are short, some are long.
		lengths := func(rng *rand.Rand) float64 { return min(60, max(2, 9*math.Exp(0.8*rng.NormFloat64()))) }
		t, err := e.twin(ctx, cards, card, s)
		if err != nil {
			return "", false, err
		}
		const recovery = 150 * time.Second
		perSecond := rate(0.5, cards, card, lengths)
		bad, began := t.backend[0], time.Now()
		bad.slowBy(20)
		time.AfterFunc(slowFor, func() { bad.slowBy(1) })
		base, faulty := t.play(ctx, poisson(6, perSecond, slowFor+recovery, lengths))
		if n := len(base.failed()); n > 0 {
			return "", false, fmt.Errorf("%d failed without the fault%s", n, base.firstFailure())
		}
		well := began.Add(slowFor)
		base, during := base.within(began, well), faulty.within(began, well)
		p99 := ratio(during.p99(), base.p99())
		longest := ratio(during.longest(), base.longest())
		share := t.share(bad, began, well)
		after := t.share(bad, well.Add(90*time.Second), well.Add(recovery)) * cards
		return fmt.Sprintf("p99 %.2f x base, %.2f %% of picks, the longest %.1f x the longest without; from 90 s after it %.0f %% of its fair share; %d of %d failed%s",
				p99, 100*share, longest, 100*after, len(faulty.failed()), faulty.count(), faulty.firstFailure()),
			p99 <= 1.3 && share < 0.01 && longest <= 4 && after >= 0.8 && len(faulty.failed()) == 0, nil
	}
}

// share of picks that went to a backend.
func (t *twin) share(of *fake, from, to time.Time) float64 {
	all := 0
	for _, f := range t.backend {
		all += f.between(from, to)
	}
	return float64(of.between(from, to)) / float64(max(all, 1))
}
