package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

var hedges = []scenario{
	{ID: "hedge", Name: "every fortieth job hangs, on cards that are well otherwise, with hedging", Theme: attempts, Short: true, Long: true,
		Criterion: "each is served by another after at most 2 s, 3 x what was predicted and twice a job's time; the second attempts cost at most 2 % of all work, and a second; what lost is broken off; no failures",
		Run:       hedged},
}

func hedged(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 300 * time.Millisecond, PerSecond: 40 * time.Millisecond, Noise: 0.1}
	lengths := between(2, 10)
	fakes, f, err := e.warmPool(ctx, 4, card, setup{pool: "hedge on"})
	if err != nil {
		return "", false, err
	}
	// Every fortieth hangs for longer than clients would be served without.
	var n, hung atomic.Int64
	for _, one := range fakes {
		one.set(func(c *call) {
			if c.clip != 0 && n.Add(1)%40 == 20 {
				hung.Add(1)
				hanging(c)
				return
			}
			c.serve()
		})
	}
	got := play(ctx, f.url, poisson(77, rate(0.35, 4, card, lengths), pick(e, 90*time.Second, 45*time.Second), lengths))
	all, extra := time.Duration(0), time.Duration(0)
	tries, servedTwice := map[uint64]int{}, 0
	for _, one := range fakes {
		for _, r := range one.seen(got.began) {
			if r.clip == 0 {
				continue
			}
			all += card.of(r.seconds)
			if tries[r.clip]++; tries[r.clip] > 1 {
				extra += card.of(r.seconds)
			}
			if r.ended.IsZero() || !r.served && r.left.IsZero() {
				servedTwice++ // it goes on, though the other has answered
			}
		}
	}
	spent := extra.Seconds() - 1
	slowest, failures := got.longest(), len(got.failed())
	most := 2*time.Second + 5*card.of(10)
	return fmt.Sprintf("%d of %d hung, the slowest was served after %s; second attempts took %.1f s of %.0f s of work; %d that lost went on; %d failed%s", hung.Load(), got.count(), ms(slowest), extra.Seconds(), all.Seconds(), servedTwice, failures, got.firstFailure()),
		hung.Load() > 0 && slowest <= most && spent <= 0.02*all.Seconds() && servedTwice == 0 && failures == 0, nil
}
