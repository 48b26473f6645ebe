package main

import (
	"context"
	"fmt"
	"time"
)

const hungCriterion = "at most 2 jobs caught, all of them served after at most 10 s (or 4 x what was predicted) and twice a job's time, no request waits for more than 200 ms beyond base while a backend that is well is idle, no failures"

var hungOnes = []scenario{
	{ID: "10a", Name: "hung: health is fine, transcriptions are never answered", Theme: attempts, Short: true, Peers: true, Criterion: hungCriterion,
		Run: hung(func(f *fake) { f.set(hanging) })},
	{ID: "10b", Name: "hung: takes connections, answers nothing at all", Theme: attempts, Short: true, Peers: true, Criterion: hungCriterion,
		Run: hung(func(f *fake) { f.mute.Store(true) })},
	{ID: "10c", Name: "hung: in the middle of the answer", Theme: attempts, Short: true, Peers: true, Criterion: hungCriterion,
		Run: hung(func(f *fake) { f.set(raw(response(500, `{"text":"This is`), never)) })},
	{ID: "10e", Name: "hung from its beginning, so that its speed is not known", Theme: attempts, Short: true, Peers: true,
		Criterion: "at most 2 jobs caught, all of them served after at most 30 s and twice a job's time, no failures", Run: hungAtFirst},
	{ID: "10d", Name: "hung: the answer's head comes a byte every half second", Theme: attempts, Peers: true, Criterion: hungCriterion,
		Run: hung(func(f *fake) { f.set(dripping) })},
}

// hung lets one backend of four hang.
func hung(begin func(*fake)) func(context.Context, *env) (string, bool, error) {
	return func(ctx context.Context, e *env) (string, bool, error) {
		card := law{Fixed: 200 * time.Millisecond, PerSecond: 100 * time.Millisecond, Noise: 0.1}
		lengths := between(2, 10)
		t, err := e.twin(ctx, 4, card, setup{})
		if err != nil {
			return "", false, err
		}
		bad := t.backend[0]
		begin(bad)
		began := time.Now()
		// A client has a limit of its own, or one that hangs would be waited for as long as this run lasts.
		limited, cancel := context.WithTimeout(ctx, pick(e, 75*time.Second, 60*time.Second))
		defer cancel()
		base, got := t.play(limited, poisson(10, rate(0.4, 4, card, lengths), pick(e, 45*time.Second, 30*time.Second), lengths))
		caught := map[uint64]bool{}
		for _, r := range bad.seen(began) {
			if r.clip != 0 {
				caught[r.clip] = true
			}
		}
		rescue, slowest := time.Duration(0), card.of(10)
		for _, a := range got.all {
			if caught[a.clip.id] {
				rescue = max(rescue, a.took)
			}
		}
		usual, _ := idleWait(base, nil, t.baseFakes...)
		wait, waiting := idleWait(got, caught, t.backend[1:]...)
		failures := len(got.failed())
		return fmt.Sprintf("%d caught, the last of them served after %s, others waited %s while a backend was idle (%s after, it took %s; without the fault %s), %d of %d failed%s",
				len(caught), ms(rescue), ms(wait), ms(waiting.began.Sub(began)), ms(waiting.took), ms(usual), failures, got.count(), got.firstFailure()),
			len(caught) <= 2 && rescue <= 10*time.Second+2*slowest && wait <= usual+200*time.Millisecond && failures == 0, nil
	}
}

// hungAtFirst is a pool of which nothing is known when it gets its first jobs, one of four hangs.
func hungAtFirst(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 200 * time.Millisecond, PerSecond: 100 * time.Millisecond, Noise: 0.1}
	lengths := between(2, 10)
	fakes, err := e.pool(ctx, 4, "card", card)
	if err != nil {
		return "", false, err
	}
	fakes[0].set(hanging)
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	limited, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	got := play(limited, f.url, poisson(10, rate(0.4, 4, card, lengths), pick(e, 60*time.Second, 15*time.Second), lengths))
	caught, rescue := map[uint64]bool{}, time.Duration(0)
	for _, r := range fakes[0].seen(got.began) {
		if r.clip != 0 {
			caught[r.clip] = true
		}
	}
	for _, a := range got.all {
		if caught[a.clip.id] {
			rescue = max(rescue, a.took)
		}
	}
	failures := len(got.failed())
	return fmt.Sprintf("%d caught, the last of them served after %s, %d of %d failed%s", len(caught), ms(rescue), failures, got.count(), got.firstFailure()),
		len(caught) <= 2 && rescue <= 30*time.Second+2*card.of(10) && failures == 0, nil
}
