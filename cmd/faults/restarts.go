package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const restartCriterion = "no request sent while it says that it is loading, one at a time for the first 3 after that, no failures"

var restarts = []scenario{
	{ID: "21a", Name: "restart, then the model loads", Theme: health, Short: true, Peers: true, Long: true, Criterion: restartCriterion, Run: restarting(likeOurs)},
	{ID: "21b", Name: "the same of whisper-server, which says 404 meanwhile", Theme: health, Peers: true, Long: true, Criterion: restartCriterion, Run: restarting(likeWhisperServer)},
	{ID: "21c", Name: "whisper-server's /health does not answer while it works", Theme: health, Peers: true,
		Criterion: "it keeps its work: at least 0.9 of its fair share, no failures", Run: starvedHealth},
	{ID: "keep", Name: "connections that the backend closes after 50 ms without use", Theme: attempts, Short: true, Peers: true,
		Criterion: "no failures, no failed attempts, no backend out of use, nothing run twice", Run: staleConnections},
}

func restarting(kind string) func(context.Context, *env) (string, bool, error) {
	return func(ctx context.Context, e *env) (string, bool, error) {
		card := law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond, Noise: 0.1}
		lengths := between(1, 10)
		size := 2
		if kind == likeWhisperServer {
			size = 1
		}
		fakes, f, err := e.warmPool(ctx, 4, card, setup{}, dialect(kind), slots(size))
		if err != nil {
			return "", false, err
		}
		load := pick(e, 60*time.Second, 20*time.Second)
		one := fakes[0]
		done := make(chan *tally)
		go func() {
			done <- play(ctx, f.url, poisson(21, rate(0.4, 4*size, card, lengths), load+22*time.Second, lengths))
		}()
		pause(ctx, 3*time.Second)
		one.die()
		pause(ctx, 2*time.Second)
		one.loading.Store(true)
		risen := time.Now()
		if err := one.rise(ctx); err != nil {
			return "", false, err
		}
		pause(ctx, load)
		one.loading.Store(false)
		loaded := time.Now()
		got := <-done
		sent := one.between(risen, loaded)
		after := one.seen(loaded)
		most := together(after[:min(3, len(after))])
		return fmt.Sprintf("%d sent while loading, %d after it in %.0f s, of the first three %d at a time, %d of %d failed%s",
				sent, len(after), time.Since(loaded).Seconds(), most, len(got.failed()), got.count(), got.firstFailure()),
			sent == 0 && len(after) >= 3 && most == 1 && len(got.failed()) == 0, nil
	}
}

// together is the most of them that ran at a time.
func together(all []record) int {
	most := 0
	for _, r := range all {
		n := 0
		for _, other := range all {
			if !other.began.After(r.began) && (other.ended.IsZero() || other.ended.After(r.began)) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func starvedHealth(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: time.Second, PerSecond: 200 * time.Millisecond, Noise: 0.1}
	lengths := between(10, 40)
	fakes, err := e.pool(ctx, 3, "card", card, dialect(likeWhisperServer))
	if err != nil {
		return "", false, err
	}
	one := fakes[0]
	starved := act(func(c *call) {
		for c.fake.began.Load() > 0 {
			select {
			case <-c.r.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
		c.json(200, map[string]string{"status": "ok"})
	})
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	if err := f.warm(ctx, len(fakes)); err != nil {
		return "", false, err
	}
	one.health.Store(&starved)
	length := 60 * time.Second
	stop := make(chan struct{})
	time.AfterFunc(length, func() { close(stop) })
	got := loop(ctx, f.url, 4, 21, lengths, stop)
	counts := make([]int, len(fakes))
	all := 0
	for i, one := range fakes {
		counts[i] = one.between(got.began, got.began.Add(length))
		all += counts[i]
	}
	share := float64(counts[0]) * float64(len(fakes)) / float64(max(all, 1))
	return fmt.Sprintf("%.2f of its fair share (%d of %d), %d of %d failed%s", share, counts[0], all, len(got.failed()), got.count(), got.firstFailure()),
		share >= 0.9 && len(got.failed()) == 0, nil
}

func staleConnections(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 40 * time.Millisecond, PerSecond: 10 * time.Millisecond, Noise: 0.1}
	lengths := between(1, 5)
	fakes, err := e.pool(ctx, 3, "card", card)
	if err != nil {
		return "", false, err
	}
	for _, one := range fakes {
		one.server.IdleTimeout = 50 * time.Millisecond
	}
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	if err := f.warm(ctx, len(fakes)); err != nil {
		return "", false, err
	}
	stop := make(chan struct{})
	watched := func() (int, error) { return 0, nil }
	if f.kind == ours {
		watched = f.watchUp(ctx, stop)
	}
	// Arrivals such that connections are used again just when they are being closed.
	var all []*tally
	var mu sync.Mutex
	var wg sync.WaitGroup
	length := pick(e, 30*time.Second, 15*time.Second)
	for i := range 3 {
		wg.Go(func() {
			got := play(ctx, f.url, poisson(uint64(i), rate(0.15, 3, card, lengths), length, lengths))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, got)
		})
	}
	wg.Go(func() { resetNowAndThen(ctx, length, fakes) })
	wg.Wait()
	close(stop)
	outs, err := watched()
	if err != nil {
		return "", false, err
	}
	failures, count, twice := 0, 0, 0
	first := ""
	for _, got := range all {
		failures += len(got.failed())
		count += got.count()
		n, _ := ranOnce(got, fakes...)
		twice += n
		first = max(first, got.firstFailure())
	}
	bad := 0.0
	if f.kind == ours {
		m, err := f.metrics(ctx)
		if err != nil {
			return "", false, err
		}
		bad = m.sum("whisperpool_attempts_total") - m.sum("whisperpool_attempts_total", `result="success"`)
	}
	return fmt.Sprintf("%d of %d failed%s, %.0f failed attempts, %d times a backend went out of use, %d run twice; %d connections", failures, count, first, bad, outs, twice, connectionsOf(fakes)),
		failures == 0 && bad == 0 && outs == 0 && twice == 0, nil
}

// resetNowAndThen resets connections while nothing is under way on them.
func resetNowAndThen(ctx context.Context, length time.Duration, fakes []*fake) {
	for range int(length.Seconds()) {
		pause(ctx, time.Second)
		for _, one := range fakes {
			if one.began.Load() == 0 {
				one.resetIdle()
			}
		}
	}
}

// connectionsOf counts those on which something was sent.
func connectionsOf(fakes []*fake) int {
	n := 0
	for _, one := range fakes {
		var seen []string
		for _, r := range one.seen(time.Time{}) {
			seen = append(seen, r.conn)
		}
		slices.Sort(seen)
		n += len(slices.Compact(seen))
	}
	return n
}
