package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

var ejections = []scenario{
	{ID: "cap", Name: "two of four are dead, one is 20 x slower; then the slow one is the last", Theme: breakers, Short: true,
		Criterion: "no more than half of the pool is left out for being slow, and never the last: the slow one stays in use, serves all when it is the last, no failures", Run: capped},
}

// capped has one that is too slow to be kept, and cannot be done without.
func capped(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond, Noise: 0.1}
	fakes, f, err := e.warmPool(ctx, 4, card, setup{})
	if err != nil {
		return "", false, err
	}
	slow := fakes[3]
	slow.slowBy(20)
	fakes[0].die()
	fakes[1].die()
	began := time.Now()
	watch, stopped := context.WithCancel(ctx)
	defer stopped()
	outs := 0
	var watching sync.WaitGroup
	watching.Go(func() {
		for watch.Err() == nil {
			m, err := f.metrics(watch)
			if err == nil && m.sum("whisperpool_backend_up", fmt.Sprintf("upstream=%q", slow.name)) == 0 {
				outs++
			}
			pause(watch, 100*time.Millisecond)
		}
	})
	stop := make(chan struct{})
	time.AfterFunc(pick(e, 30*time.Second, 15*time.Second), func() { close(stop) })
	first := loop(ctx, f.url, 5, 1, between(1, 5), stop)
	picks := slow.between(began, time.Now())
	fakes[2].die()
	last := time.Now()
	stop = make(chan struct{})
	time.AfterFunc(12*time.Second, func() { close(stop) })
	second := loop(ctx, f.url, 2, 2, between(1, 3), stop)
	stopped()
	watching.Wait()
	served := 0
	for _, r := range slow.seen(last) {
		if r.served && r.clip != 0 {
			served++
		}
	}
	failures := len(first.failed()) + len(second.failed())
	return fmt.Sprintf("seen out of use %d times; got %d of %d jobs, then served %d of the last %d; %d failed%s%s", outs, picks, first.count(), served, second.count(), failures, first.firstFailure(), second.firstFailure()),
		outs == 0 && served > 0 && failures == 0, nil
}
