package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

var drains = []scenario{
	{ID: "drain", Name: "a backend is drained through the admin API, and taken back", Theme: health, Short: true,
		Criterion: "nothing new is sent there, what runs is finished, no failures, a health check and a reload do not undo it; taken back it serves within 5 s", Run: drainedByAdmin},
	{ID: "slow", Name: "slow start after recovery", Theme: health, Short: true,
		Criterion: "the first 3 jobs one at a time, then all 4 slots within 20 s", Run: slowStart},
	{ID: "allout", Name: "a backend that was well is asked at once when all are out", Theme: breakers, Short: true,
		Criterion: "service within 3 s of its recovery, though it would be left alone for longer", Run: allOut},
}

// tell asks the admin API for something; the error has what it said.
func (f *front) tell(ctx context.Context, method, path string) error {
	request, err := http.NewRequestWithContext(ctx, method, f.admin+path, nil)
	if err != nil {
		return err
	}
	response, err := asking.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, oneLine(string(text)))
	}
	return nil
}

func drainedByAdmin(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 200 * time.Millisecond, PerSecond: 40 * time.Millisecond, Noise: 0.1}
	lengths := between(1, 10)
	fakes, f, err := e.warmPool(ctx, 3, card, setup{})
	if err != nil {
		return "", false, err
	}
	one := fakes[0]
	stop, done := make(chan struct{}), make(chan *tally)
	go func() { done <- loop(ctx, f.url, 5, 1, lengths, stop) }()
	end := func() *tally { close(stop); return <-done }
	if _, came := await(ctx, 5*time.Second, func() bool { return one.began.Load() > 0 }); !came {
		end()
		return "", false, errors.New("nothing was sent to the backend")
	}
	if err := f.tell(ctx, http.MethodPost, "/whisper_pool/pools/default/backends/card-1/drain"); err != nil {
		end()
		return "", false, err
	}
	drained := time.Now()
	pause(ctx, 7*time.Second) // more than a health check
	if err := f.reload(ctx, servers(fakes...), f.setup); err != nil {
		end()
		return "", false, err
	}
	pause(ctx, 7*time.Second)
	sent := one.between(drained.Add(20*time.Millisecond), time.Now())
	if err := f.tell(ctx, http.MethodPost, "/whisper_pool/pools/default/backends/card-1/undrain"); err != nil {
		end()
		return "", false, err
	}
	back, came := await(ctx, 10*time.Second, func() bool { return one.between(drained.Add(14*time.Second), time.Now()) > 0 })
	got := end()
	twice, off := ranOnce(got, fakes...)
	return fmt.Sprintf("%d sent there while drained, %d broken off, %d run twice, %d of %d failed%s, it served again after %s", sent, off, twice, len(got.failed()), got.count(), got.firstFailure(), ms(back)),
		sent == 0 && off == 0 && twice == 0 && len(got.failed()) == 0 && came && back <= 5*time.Second, nil
}

func slowStart(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 300 * time.Millisecond, PerSecond: 40 * time.Millisecond, Noise: 0.1}
	lengths := between(1, 10)
	fakes, f, err := e.warmPool(ctx, 2, card, setup{}, slots(4))
	if err != nil {
		return "", false, err
	}
	one := fakes[0]
	stop, done := make(chan struct{}), make(chan *tally)
	go func() { done <- loop(ctx, f.url, 12, 1, lengths, stop) }()
	pause(ctx, time.Second)
	one.die()
	pause(ctx, 8*time.Second)
	risen := time.Now()
	if err := one.rise(ctx); err != nil {
		return "", false, err
	}
	full, cameUp := await(ctx, 25*time.Second, func() bool { return one.began.Load() >= 4 })
	close(stop)
	got := <-done
	after := one.seen(risen)
	most := together(after[:min(3, len(after))])
	return fmt.Sprintf("the first 3 %d at a time, all 4 slots after %s, %d of %d failed%s", most, ms(full), len(got.failed()), got.count(), got.firstFailure()),
		cameUp && len(after) >= 3 && most == 1 && full <= 20*time.Second && len(got.failed()) == 0, nil
}

func allOut(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 60 * time.Millisecond, PerSecond: 10 * time.Millisecond, Noise: 0.1}
	lengths := between(1, 5)
	fakes, f, err := e.warmPool(ctx, 2, card, setup{pool: "breaker {\n open_for 60s\n max_open_for 60s\n}"})
	if err != nil {
		return "", false, err
	}
	stop, done := make(chan struct{}), make(chan *tally)
	go func() { done <- loop(ctx, f.url, 4, 1, lengths, stop) }()
	for _, one := range fakes {
		one.set(serverError)
	}
	pause(ctx, 12*time.Second)
	recovered := time.Now()
	for _, one := range fakes {
		one.set(nil)
	}
	_, came := await(ctx, 15*time.Second, func() bool {
		for _, one := range fakes {
			for _, r := range one.seen(recovered) {
				if r.served && r.clip != 0 {
					return true
				}
			}
		}
		return false
	})
	took := time.Since(recovered)
	close(stop)
	<-done
	return fmt.Sprintf("service %s after recovery", ms(took)), came && took <= 3*time.Second, nil
}
