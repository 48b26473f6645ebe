package main

import (
	"context"
	"fmt"
	"time"
)

var trialOnes = []scenario{
	{ID: "19", Name: "half-open while only recordings of ten minutes wait", Theme: breakers, Short: true,
		Criterion: "it is tried with at most 30 s of audio, known to be well or not within 10 s of its recovery, no long job is lost", Run: halfOpenWithLong},
	{ID: "deaf", Name: "a backend that finds no words where the others do", Theme: answers, Short: true,
		Criterion: "it is tried with spoken audio and taken out; no more than 12 clients get an answer without words", Run: deaf},
	{ID: "fussy", Name: "a backend that refuses with 400 what the others take", Theme: answers, Short: true,
		Criterion: "it is tried and taken out; no more than 12 clients are refused", Run: fussy},
	{ID: "silence", Name: "silence is no failure", Theme: answers, Short: true,
		Criterion: "empty text, srt and vtt are served with 200 and open no breaker", Run: silence},
}

func halfOpenWithLong(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 3 * time.Millisecond}
	fakes, f, err := e.warmPool(ctx, 2, card, setup{})
	if err != nil {
		return "", false, err
	}
	bad := fakes[0]
	bad.set(serverError)
	for range 8 { // until it is left alone
		play(ctx, f.url, atOnce(2, 3))
	}
	// 20 recordings of 10 minutes, 2 s each: more than one card does while the other is tried.
	done := make(chan *tally)
	began := time.Now()
	go func() { done <- play(ctx, f.url, atOnce(20, 600)) }()
	pause(ctx, time.Second)
	bad.set(nil)
	recovered := time.Now()
	var firstLong, firstTry time.Time
	var tried float64
	_, came := await(ctx, 30*time.Second, func() bool {
		for _, r := range bad.seen(recovered) {
			if firstTry.IsZero() && !r.read.IsZero() {
				firstTry = r.began
				tried = max(r.seconds, float64(r.bytes)/32000) // what is none of ours is 16-bit audio at 16 kHz
			}
			if r.seconds > 100 {
				firstLong = r.began
				return true
			}
		}
		return false
	})
	got := <-done
	lost := 0
	for _, r := range bad.seen(began) {
		if r.seconds > 100 && !r.served {
			lost++
		}
	}
	if firstTry.IsZero() || !came {
		return fmt.Sprintf("it was not tried with anything, %d of %d failed%s", len(got.failed()), got.count(), got.firstFailure()), false, nil
	}
	return fmt.Sprintf("tried with %.1f s of audio, the first long job %s after it was well, %d long ones failed on it, %d of %d failed%s", tried, ms(firstLong.Sub(recovered)), lost, len(got.failed()), got.count(), got.firstFailure()),
		tried <= 30 && firstLong.Sub(recovered) <= 10*time.Second && lost == 0 && len(got.failed()) == 0, nil
}

// liar is a pool of four with one backend that acts so, under load.
func liar(ctx context.Context, e *env, a act, wrong func(answer) bool) (text string, held bool, err error) {
	card := law{Fixed: 60 * time.Millisecond, PerSecond: 10 * time.Millisecond, Noise: 0.1}
	lengths := between(1, 5)
	fakes, f, err := e.warmPool(ctx, 4, card, setup{})
	if err != nil {
		return "", false, err
	}
	bad := fakes[0]
	bad.set(func(c *call) {
		if c.work() {
			a(c)
		}
	})
	began := time.Now()
	got := play(ctx, f.url, poisson(3, rate(0.4, 4, card, lengths), pick(e, 30*time.Second, 20*time.Second), lengths))
	hit, trials := 0, 0
	for _, a := range got.all {
		if wrong(a) {
			hit++
		}
	}
	for _, r := range bad.seen(began) {
		if r.clip == 0 {
			trials++
		}
	}
	others := len(got.failed()) - hit
	return fmt.Sprintf("%d of %d got it, %d trials, %d failed otherwise", hit, got.count(), trials, others), hit <= 12 && trials > 0 && others == 0, nil
}

func deaf(ctx context.Context, e *env) (string, bool, error) {
	return liar(ctx, e, func(c *call) { c.answer("") }, func(a answer) bool { return a.status == 200 && !a.served() })
}

func fussy(ctx context.Context, e *env) (string, bool, error) {
	return liar(ctx, e, answering(400, "application/json", `{"error":{"message":"Invalid file format.","type":"invalid_request_error"}}`),
		func(a answer) bool { return a.status == 400 })
}

func silence(ctx context.Context, e *env) (string, bool, error) {
	fakes, err := e.pool(ctx, 2, "card", law{Fixed: 20 * time.Millisecond})
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	for _, one := range fakes {
		one.set(func(c *call) {
			switch {
			case !c.work():
			default:
				c.answer("")
			}
		})
	}
	stop := make(chan struct{})
	watched := f.watchUp(ctx, stop)
	var wrong []string
	all := 0
	for range 10 {
		for _, format := range []string{"text", "srt", "vtt", "json", "verbose_json"} {
			body, contentType := newClip(2).form("model", "base", "response_format", format)
			a := post(ctx, f.url+transcriptions, clip{}, body, contentType)
			all++
			if a.status != 200 {
				wrong = append(wrong, format+": "+a.String())
			}
		}
	}
	close(stop)
	outs, err := watched()
	return fmt.Sprintf("%d of %d failed%s, %d times a backend went out of use", len(wrong), all, first(wrong), outs), len(wrong) == 0 && outs == 0, err
}
