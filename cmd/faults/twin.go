package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// twin is a pool twice, each with a balancer of its own. Both get the same requests at the same times,
// one has the fault; so what else this machine does at the moment slows both, and the first is the
// base for the second.
type twin struct {
	base, faulty       *front
	baseFakes, backend []*fake
}

func (e *env) twin(ctx context.Context, n int, law law, s setup) (*twin, error) {
	t := &twin{}
	var err error
	if t.baseFakes, err = e.pool(ctx, n, "base", law); err != nil {
		return nil, err
	}
	if t.backend, err = e.pool(ctx, n, "card", law); err != nil {
		return nil, err
	}
	if t.base, err = e.front(ctx, "base", s, servers(t.baseFakes...)); err != nil {
		return nil, err
	}
	if t.faulty, err = e.front(ctx, "front", s, servers(t.backend...)); err != nil {
		return nil, err
	}
	return t, errors.Join(t.base.warm(ctx, n), t.faulty.warm(ctx, n))
}

// warm sends a few requests for each backend, so that speeds are known.
func (f *front) warm(ctx context.Context, backends int) error { return f.warmBy(ctx, client, backends) }

func (f *front) warmBy(ctx context.Context, by *http.Client, backends int) error {
	for round := range 6 {
		var wg sync.WaitGroup
		got := make([]answer, backends)
		for i := range got {
			wg.Go(func() { got[i] = transcribeBy(ctx, by, f.url, newClip(2+float64(round))) })
		}
		wg.Wait()
		for _, a := range got {
			if !a.served() {
				return fmt.Errorf("%s did not serve while nothing was wrong: %s", f.kind, a)
			}
		}
	}
	return nil
}

// play sends the orders to both.
func (t *twin) play(ctx context.Context, orders []order, headers ...string) (base, faulty *tally) {
	var wg sync.WaitGroup
	wg.Go(func() { base = play(ctx, t.base.url, orders, headers...) })
	faulty = play(ctx, t.faulty.url, orders, headers...)
	wg.Wait()
	return base, faulty
}

// rate is how many clips of such lengths a second keep so many backends busy for a share of the time.
func rate(busy float64, backends int, l law, seconds func(*rand.Rand) float64) float64 {
	rng := rand.New(rand.NewPCG(1, 1))
	total := time.Duration(0)
	const samples = 2000
	for range samples {
		total += l.of(seconds(rng))
	}
	return busy * float64(backends) / (total.Seconds() / samples)
}

// idleWait is the longest time that some request waited while a backend that was well stood idle: what
// a decision costs that is not looked at again. Of requests that were caught elsewhere nothing is said.
func idleWait(t *tally, caught map[uint64]bool, well ...*fake) (longest time.Duration, of answer) {
	type span struct{ from, to time.Time }
	started := map[uint64]time.Time{}
	busy := make([][]span, len(well))
	for i, f := range well {
		for _, r := range f.seen(t.began) {
			if r.clip == 0 {
				continue
			}
			if at, ok := started[r.clip]; !ok || r.began.Before(at) {
				started[r.clip] = r.began
			}
			end := r.ended
			if end.IsZero() {
				end = time.Now()
			}
			busy[i] = append(busy[i], span{r.began, end})
		}
		slices.SortFunc(busy[i], func(a, b span) int { return a.from.Compare(b.from) })
	}
	for _, a := range t.all {
		before := longest
		at, ok := started[a.clip.id]
		if !ok || caught[a.clip.id] {
			continue
		}
		for i := range busy {
			idleFrom := a.began
			for _, s := range busy[i] {
				if s.from.After(idleFrom) {
					longest = max(longest, min(s.from.Sub(idleFrom), at.Sub(idleFrom)))
				}
				if s.to.After(idleFrom) {
					idleFrom = s.to
				}
				if idleFrom.After(at) {
					break
				}
			}
			longest = max(longest, at.Sub(idleFrom))
		}
		if longest > before {
			of = a
		}
	}
	return longest, of
}
