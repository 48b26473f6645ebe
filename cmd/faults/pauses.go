package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

var pauses = []scenario{
	{ID: "20a", Name: "503 with Retry-After 10 s from one backend", Theme: breakers, Short: true, Peers: true,
		Criterion: "at most 1 request sent there in that time, no breaker opens, it serves again within 3 s after, no failures", Run: asksForPause(http.StatusServiceUnavailable)},
	{ID: "20b", Name: "429 with Retry-After 10 s from one backend", Theme: breakers, Peers: true,
		Criterion: "at most 1 request sent there in that time, no breaker opens, it serves again within 3 s after, no failures", Run: asksForPause(http.StatusTooManyRequests)},
}

func asksForPause(status int) func(context.Context, *env) (string, bool, error) {
	return func(ctx context.Context, e *env) (string, bool, error) {
		card := law{Fixed: 60 * time.Millisecond, PerSecond: 10 * time.Millisecond, Noise: 0.1}
		lengths := between(1, 5)
		fakes, f, err := e.warmPool(ctx, 4, card, setup{})
		if err != nil {
			return "", false, err
		}
		const wait = 10 * time.Second
		bad, began := fakes[0], time.Now()
		bad.set(turning(status, wait))
		done := make(chan *tally)
		go func() { done <- play(ctx, f.url, poisson(20, rate(0.4, 4, card, lengths), 18*time.Second, lengths)) }()
		var first time.Time
		if _, came := await(ctx, 5*time.Second, func() bool {
			for _, r := range bad.seen(began) {
				first = r.began
				return true
			}
			return false
		}); !came {
			return "", false, errors.New("nothing was sent to the backend")
		}
		pause(ctx, wait/2)
		bad.set(nil)
		got := <-done
		during, again := -1, time.Duration(-1) // -1: the first of all is the one that was told to wait
		for _, r := range bad.seen(began) {
			switch at := r.began.Sub(first); {
			case at < wait-100*time.Millisecond:
				during++
			case r.served && again < 0:
				again = at - wait
			}
		}
		opened := ""
		if f.kind == ours {
			opened = findLine(f.text(), "breaker opened", "breaker is open")
		}
		return fmt.Sprintf("%d sent there in that time, served again %s after it, %d of %d failed%s %s", during, ms(again), len(got.failed()), got.count(), got.firstFailure(), opened),
			during <= 1 && again >= -wait && again <= 3*time.Second && again != -1 && len(got.failed()) == 0 && opened == "", nil
	}
}
