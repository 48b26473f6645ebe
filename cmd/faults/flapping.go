package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

var flappingOnes = []scenario{
	{ID: "13", Name: "flapping: up 3 s, down 3 s", Theme: breakers, Peers: true, Long: true,
		Criterion: "failed attempts at most 10 % of successes and 3 more in 10 s, the time for which it is left alone grows to 30 s or more, under 0.5 % of clients see an error",
		Run:       flapping},
	{ID: "25", Name: "retry storm: 50 % errors on half the pool", Theme: attempts, Short: true, Peers: true,
		Criterion: "attempts at most 1.15 x requests", Run: retryStorm(2, 0.5)},
	{ID: "25b", Name: "retry storm: 50 % errors on the whole pool", Theme: attempts, Short: true, Peers: true, Long: true,
		Criterion: "attempts at most 1.15 x requests", Run: retryStorm(4, 0.5)},
	{ID: "8", Name: "a card becomes half, then twice as fast", Theme: breakers, Peers: true,
		Criterion: "no breaker opens, no failures", Run: speedStep},
	{ID: "9", Name: "all backends 3 x slower together", Theme: breakers, Peers: true,
		Criterion: "no breaker opens, throughput at least 0.95 of what the slower cards can do, no failures", Run: allSlower},
}

func flapping(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond, Noise: 0.1}
	lengths := between(2, 10)
	fakes, f, err := e.warmPool(ctx, 4, card, setup{})
	if err != nil {
		return "", false, err
	}
	bad, began := fakes[0], time.Now()
	length := pick(e, 3*time.Minute, 130*time.Second)
	stop := make(chan struct{})
	var flaps sync.WaitGroup
	flaps.Go(func() {
		for up := false; ; up = !up {
			if up {
				_ = bad.rise(ctx) // else ctx has ended
			} else {
				bad.die()
			}
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Second):
			}
		}
	})
	got := play(ctx, f.url, poisson(13, rate(0.35, 4, card, lengths), length, lengths))
	close(stop)
	flaps.Wait()
	served := got.count() - len(got.failed())
	budget := int(0.1*float64(served) + 3*length.Seconds()/10)
	failed, alone, last := 0, time.Duration(0), began
	for _, r := range bad.seen(began) {
		if r.clip == 0 {
			continue
		}
		if !r.served {
			failed++
		}
		alone = max(alone, r.began.Sub(last))
		last = r.began
	}
	alone = max(alone, time.Since(last))
	if f.kind == ours { // refused connections are seen by nobody but the proxy
		if m, err := f.metrics(ctx); err == nil {
			failed = int(m.sum("whisperpool_attempts_total", `result="died"`) + m.sum("whisperpool_attempts_total", `result="failed"`))
		}
	}
	errors := float64(len(got.failed())) / float64(max(got.count(), 1))
	return fmt.Sprintf("%d failed attempts (the budget is %d), left alone for up to %s, %.2f %% of %d clients saw an error%s",
			failed, budget, ms(alone), 100*errors, got.count(), got.firstFailure()),
		failed <= budget && alone >= 30*time.Second && errors < 0.005, nil
}

// retryStorm has so many backends of four fail with a share of what they get.
func retryStorm(bad int, share float64) func(context.Context, *env) (string, bool, error) {
	return func(ctx context.Context, e *env) (string, bool, error) {
		card := law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond, Noise: 0.1}
		lengths := between(2, 10)
		fakes, f, err := e.warmPool(ctx, 4, card, setup{})
		if err != nil {
			return "", false, err
		}
		began := time.Now()
		for i, one := range fakes[:bad] {
			one.set(sometimes(share, uint64(i), serverError))
		}
		got := play(ctx, f.url, poisson(25, rate(0.4, 4, card, lengths), 90*time.Second, lengths)) // tokens that are there at first weigh less the longer it takes
		attempts := 0
		for _, one := range fakes {
			attempts += one.between(began, time.Now())
		}
		each := float64(attempts) / float64(max(1, got.count()))
		return fmt.Sprintf("%.3f attempts for each of %d requests, %d failed%s", each, got.count(), len(got.failed()), got.firstFailure()),
			each <= 1.15, nil
	}
}

// watchUp counts how often some backend was seen to be out of use.
func (f *front) watchUp(ctx context.Context, stop <-chan struct{}) func() (outs int, err error) {
	var wg sync.WaitGroup
	outs, last := 0, map[string]float64{}
	var failed error
	wg.Go(func() {
		for {
			m, err := f.metrics(ctx)
			if err != nil {
				failed = err
				return
			}
			for key, up := range m {
				if !isUp(key) {
					continue
				}
				if before, known := last[key]; known && before == 1 && up == 0 {
					outs++
				}
				last[key] = up
			}
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return func() (int, error) { wg.Wait(); return outs, failed }
}

func isUp(key string) bool {
	const name = "whisperpool_backend_up{"
	return len(key) > len(name) && key[:len(name)] == name
}

func speedStep(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 200 * time.Millisecond, PerSecond: 40 * time.Millisecond, Noise: 0.15}
	lengths := between(2, 10)
	fakes, f, err := e.warmPool(ctx, 4, card, setup{})
	if err != nil {
		return "", false, err
	}
	stop := make(chan struct{})
	watched := func() (int, error) { return 0, nil }
	if f.kind == ours {
		watched = f.watchUp(ctx, stop)
	}
	failures, all := 0, 0
	for i, factor := range []float64{2, 1, 0.5} {
		fakes[0].slowBy(factor)
		got := play(ctx, f.url, poisson(uint64(i), rate(0.4, 4, card, lengths), 15*time.Second, lengths))
		failures += len(got.failed())
		all += got.count()
	}
	close(stop)
	outs, err := watched()
	return fmt.Sprintf("%d times a backend went out of use, %d of %d failed", outs, failures, all), outs == 0 && failures == 0, err
}

func allSlower(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 500 * time.Millisecond, PerSecond: 100 * time.Millisecond}
	const clipSeconds, cards, clients = 5.0, 4, 12
	fakes, f, err := e.warmPool(ctx, cards, card, setup{})
	if err != nil {
		return "", false, err
	}
	for _, one := range fakes {
		one.slowBy(3)
	}
	stop := make(chan struct{})
	watched := func() (int, error) { return 0, nil }
	if f.kind == ours {
		watched = f.watchUp(ctx, stop)
	}
	length := 60 * time.Second
	time.AfterFunc(length, func() { close(stop) })
	got := loop(ctx, f.url, clients, 9, between(clipSeconds, clipSeconds), stop)
	outs, err := watched()
	// Of what began in the middle, so that neither end counts.
	from, to := got.began.Add(3*time.Second), got.began.Add(length)
	done := 0
	for _, one := range fakes {
		for _, r := range one.seen(from) {
			if r.served && r.ended.Before(to) {
				done++
			}
		}
	}
	best := cards / (3 * card.of(clipSeconds)).Seconds() * to.Sub(from).Seconds()
	share := float64(done+cards) / best // of what runs at either end half counts, on average
	return fmt.Sprintf("%d times a backend went out of use, throughput %.3f of the best, %d of %d failed%s", outs, share, len(got.failed()), got.count(), got.firstFailure()),
		outs == 0 && share >= 0.95 && len(got.failed()) == 0, err
}
