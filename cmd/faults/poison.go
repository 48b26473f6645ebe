package main

import (
	"context"
	"fmt"
	"time"
)

var poisons = []scenario{
	{ID: "poison", Name: "an upload that kills every backend that works on it", Theme: attempts, Short: true, Peers: true,
		Criterion: "it kills two and is refused with x-should-retry: false; sent again it is refused at once and kills none; nobody else fails", Run: poison},
	{ID: "crash", Name: "a backend crashes with 14 jobs on it", Theme: attempts, Short: true, Peers: true,
		Criterion: "all of them are served elsewhere, no failures", Run: crash},
}

func poison(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 200 * time.Millisecond, PerSecond: 20 * time.Millisecond, Noise: 0.1}
	fakes, f, err := e.warmPool(ctx, 5, card, setup{})
	if err != nil {
		return "", false, err
	}
	deadly := newClip(7)
	deaths := make(chan string, 100)
	for _, one := range fakes {
		one.set(func(c *call) {
			if c.clip != deadly.id {
				c.serve()
				return
			}
			timer := time.NewTimer(100 * time.Millisecond)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-c.r.Context().Done():
				return
			}
			deaths <- c.fake.name
			c.fake.die()
			time.AfterFunc(time.Second, func() { _ = c.fake.rise(ctx) }) // else ctx has ended
		})
	}
	lengths := between(1, 5)
	done := make(chan *tally)
	go func() {
		done <- play(ctx, f.url, poisson(5, rate(0.3, 5, card, lengths), 20*time.Second, lengths))
	}()
	pause(ctx, time.Second)
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	first := transcribe(limited, f.url, deadly)
	killed := len(deaths)
	pause(ctx, 3*time.Second)
	second := transcribe(limited, f.url, deadly)
	again := len(deaths) - killed
	others := <-done
	final := first.header.Get("X-Should-Retry") == "false" && second.header.Get("X-Should-Retry") == "false"
	return fmt.Sprintf("killed %d, then %d; answered %q, then %q after %s; x-should-retry: %q; %d of %d others failed%s", killed, again, first.String(), second.String(), ms(second.took),
			first.header.Get("X-Should-Retry"), len(others.failed()), others.count(), others.firstFailure()),
		killed == 2 && again == 0 && final && first.status >= 400 && second.status >= 400 && second.took < time.Second && len(others.failed()) == 0, nil
}

func crash(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: time.Second, PerSecond: 100 * time.Millisecond, Noise: 0.1}
	big, err := e.fake(ctx, "big", card, slots(14))
	if err != nil {
		return "", false, err
	}
	others, err := e.pool(ctx, 2, "other", card, slots(4))
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{}, servers(append(others, big)...))
	if err != nil {
		return "", false, err
	}
	if err := f.warm(ctx, 6); err != nil {
		return "", false, err
	}
	done := make(chan *tally)
	go func() { done <- play(ctx, f.url, atOnce(22, 10)) }()
	full := int64(14)
	if f.kind != ours { // others spread jobs evenly, and let them wait there
		full = 5
	}
	_, came := await(ctx, 10*time.Second, func() bool { return big.began.Load() >= full })
	running := big.began.Load()
	big.die()
	got := <-done
	twice, _ := ranOnce(got, append(others, big)...)
	if !came && f.kind == ours {
		return fmt.Sprintf("only %d ran on it", running), false, nil
	}
	return fmt.Sprintf("%d ran on it, %d of %d failed%s, %d run twice", running, len(got.failed()), got.count(), got.firstFailure(), twice),
		len(got.failed()) == 0 && twice == 0, nil
}
