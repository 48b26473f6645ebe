package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

var cancellations = []scenario{
	{ID: "14", Name: "cancellation storm: 50 % leave at random, also from the queue", Theme: attempts, Short: true, Peers: true, Alone: true,
		Criterion: "no breaker opens; queue, slots and uploads back to exactly 0; the backend's connection closed within 100 ms, beyond what this machine takes without a balancer; the others all served",
		Run:       cancellationStorm},
	{ID: "14b", Name: "the same with backends that do not notice that a client left", Theme: attempts, Short: true,
		Criterion: "their slots count as taken until the job was predicted to end: nobody waits there for more than a quarter of a job's time; the others all served; everything back to 0", Run: unnoticed},
}

func cancellationStorm(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 200 * time.Millisecond, PerSecond: 40 * time.Millisecond, Noise: 0.1}
	fakes, f, err := e.warmPool(ctx, 4, card, setup{})
	if err != nil {
		return "", false, err
	}
	control, err := e.fake(ctx, "control", card, slots(1000))
	if err != nil {
		return "", false, err
	}
	stop := make(chan struct{})
	watched := func() (int, error) { return 0, nil }
	if f.kind == ours {
		watched = f.watchUp(ctx, stop)
	}
	length := pick(e, 25*time.Second, 15*time.Second)
	time.AfterFunc(length, func() { close(stop) })
	var direct *tally
	var wg sync.WaitGroup
	wg.Go(func() { direct = storm(ctx, "http://"+control.address, 2, stop) })
	got := storm(ctx, f.url, 12, stop)
	wg.Wait()
	outs, err := watched()
	if err != nil {
		return "", false, err
	}
	closing, seen := closings(got, fakes...)
	alone, _ := closings(direct, control)
	left := 0
	for _, a := range got.all {
		if !a.canceled.IsZero() {
			left++
		}
	}
	back := "not looked at"
	zero := true
	if f.kind == ours {
		back, zero = f.backToZero(ctx)
	}
	running := int64(0)
	for _, one := range fakes {
		running += one.began.Load()
	}
	return fmt.Sprintf("%d of %d left; %d times a backend went out of use; afterwards %s, %d running on backends; connections closed within %s of leaving (p50 %s, %d seen; without a balancer %s); %d others failed%s",
			left, got.count(), outs, back, running, ms(quantile(closing, 1)), ms(quantile(closing, 0.5)), seen, ms(quantile(alone, 1)), len(got.failed()), got.firstFailure()),
		outs == 0 && zero && running == 0 && seen > 0 && quantile(closing, 1) <= 100*time.Millisecond+quantile(alone, 1) && len(got.failed()) == 0, nil
}

// storm has n clients send clips one after the other and leave half of them, at a random moment of
// the time that they would take.
func storm(ctx context.Context, url string, n int, stop <-chan struct{}) *tally {
	t := &tally{began: time.Now()}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(14, uint64(i)))
			for ctx.Err() == nil {
				select {
				case <-stop:
					return
				default:
				}
				impatient, leave := context.WithCancel(ctx)
				var left time.Time
				var timer *time.Timer
				if rng.Float64() < 0.5 {
					timer = time.AfterFunc(time.Duration(rng.Float64()*1.2*float64(time.Second)), func() {
						left = time.Now()
						leave()
					})
				}
				a := transcribe(impatient, url, newClip(2+8*rng.Float64()))
				if timer != nil && !timer.Stop() {
					<-impatient.Done()
					a.canceled = left
				}
				leave()
				t.add(a)
			}
		})
	}
	wg.Wait()
	return t
}

// closings are how long after a client left the backend saw that, sorted, of those that were at work.
func closings(t *tally, fakes ...*fake) (all []time.Duration, n int) {
	left := map[uint64]time.Time{}
	for _, a := range t.all {
		if !a.canceled.IsZero() && !a.served() {
			left[a.clip.id] = a.canceled
		}
	}
	for _, f := range fakes {
		for _, r := range f.seen(t.began) {
			at, ok := left[r.clip]
			if ok && !r.left.IsZero() && r.read.Before(at) {
				all = append(all, r.left.Sub(at))
			}
		}
	}
	slices.Sort(all)
	return all, len(all)
}

// backToZero waits a moment and reads what a pool holds when there is nothing to hold.
func (f *front) backToZero(ctx context.Context) (text string, zero bool) {
	names := []string{"whisperpool_queue_depth", "whisperpool_backend_outstanding", "whisperpool_upload_bytes"}
	var sums [3]float64
	_, zero = await(ctx, 3*time.Second, func() bool {
		m, err := f.metrics(ctx)
		if err != nil {
			return false
		}
		total := 0.0
		for i, name := range names {
			sums[i] = m.sum(name)
			total += sums[i]
		}
		return total == 0
	})
	return fmt.Sprintf("%.0f queued, %.0f outstanding, %.0f bytes", sums[0], sums[1], sums[2]), zero
}

// unnoticed has servers of OpenAI's kind that go on with what nobody waits for.
func unnoticed(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 300 * time.Millisecond, PerSecond: 60 * time.Millisecond}
	fakes, f, err := e.warmPool(ctx, 3, card, setup{}, dialect(likeOpenAI))
	if err != nil {
		return "", false, err
	}
	var mu sync.Mutex
	longest, abandoned := time.Duration(0), 0
	for _, one := range fakes {
		one.set(func(c *call) {
			came := time.Now()
			<-c.fake.places
			waited := time.Since(came)
			pause(ctx, c.fake.took(c.seconds)) // whether or not the client is there
			c.fake.places <- struct{}{}
			left := c.r.Context().Err() != nil
			mu.Lock()
			longest = max(longest, waited)
			if left {
				abandoned++
			}
			mu.Unlock()
			if !left {
				c.answer(clipText(c.clip))
			}
		})
	}
	stop := make(chan struct{})
	time.AfterFunc(pick(e, 25*time.Second, 15*time.Second), func() { close(stop) })
	got := storm(ctx, f.url, 8, stop)
	pause(ctx, time.Second)
	back, zero := f.backToZero(ctx)
	mu.Lock()
	defer mu.Unlock()
	return fmt.Sprintf("%d were left while they ran; jobs waited up to %s at a backend (they take up to %s); afterwards %s; %d of %d others failed%s", abandoned, ms(longest), ms(card.of(10)), back, len(got.failed()), got.count(), got.firstFailure()),
		abandoned > 5 && longest <= card.of(10)/4 && zero && len(got.failed()) == 0, nil
}
