package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var nonsense = []scenario{
	{ID: "input", Name: "changed uploads: bytes flipped, cut, doubled, in form, header and audio", Theme: parsers, Short: true,
		Criterion: "each answered within 5 s with 200, 4xx or 503; no panic; others served; nothing left", Run: changedUploads},
	{ID: "output", Name: "changed answers and load reports of a backend: bytes flipped, cut, doubled", Theme: parsers, Short: true,
		Criterion: "a whole answer or none reaches a client, no panic, no failures while another backend is well", Run: changedAnswers},
	{ID: "leak", Name: "files, goroutines and memory after faults of every kind", Theme: parsers, Short: true,
		Criterion: "no more goroutines than before, no more than 5 files more, memory at most 1.3 x and 32 MiB more", Run: leaks},
}

// change spoils a text: up to three times a byte is flipped, or a piece cut out or doubled.
func change(rng *rand.Rand, text []byte) []byte {
	text = append([]byte(nil), text...)
	for range 1 + rng.IntN(3) {
		if len(text) < 4 {
			return text
		}
		at := rng.IntN(len(text) - 2)
		if rng.IntN(2) == 0 { // what is at the beginning matters most
			at = rng.IntN(min(len(text)-2, 400))
		}
		length := 1 + rng.IntN(min(len(text)-at-1, 1+rng.IntN(1000)))
		switch rng.IntN(4) {
		case 0:
			text[at] ^= 1 << rng.IntN(8)
		case 1:
			text = append(text[:at:at], text[at+length:]...)
		case 2:
			text = append(append(append([]byte(nil), text[:at+length]...), text[at:at+length]...), text[at+length:]...)
		case 3:
			text = text[:at+1]
		}
	}
	return text
}

func changedUploads(ctx context.Context, e *env) (string, bool, error) {
	fakes, err := e.pool(ctx, 2, "card", law{Fixed: 5 * time.Millisecond}, slots(4))
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{level: "WARN"}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	stop, done := make(chan struct{}), make(chan *tally)
	go func() { done <- loop(ctx, f.url, 1, 1, between(1, 3), stop) }()
	deadline := time.Now().Add(pick(e, 30*time.Second, 12*time.Second))
	var mu sync.Mutex
	counts, wrong := map[int]int{}, []string{}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 99))
			for time.Now().Before(deadline) && ctx.Err() == nil {
				body, contentType := newClip(1).form("model", "base", "response_format", "verbose_json", "language", "de", "temperature", "0.2", "timestamp_granularities[]", "word")
				path := []string{transcriptions, "/v1/audio/translations", "/inference"}[rng.IntN(3)]
				if rng.IntN(5) == 0 {
					contentType = string(change(rng, []byte(contentType)))
				} else {
					body = change(rng, body)
				}
				limited, cancel := context.WithTimeout(ctx, 5*time.Second)
				a := post(limited, f.url+path, clip{}, body, strings.Map(printable, contentType))
				cancel()
				mu.Lock()
				counts[a.status]++
				if a.status != 503 && (a.status == 0 || a.status >= 500) {
					wrong = append(wrong, a.String())
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(stop)
	got := <-done
	back, zero := f.backToZero(ctx)
	return fmt.Sprintf("answers by status: %v; %d not as they should be%s; %d of %d others failed%s; afterwards %s", counts, len(wrong), first(wrong), len(got.failed()), got.count(), got.firstFailure(), back),
		len(wrong) == 0 && counts[200] > 0 && counts[400] > 0 && len(got.failed()) == 0 && zero, nil
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return 'x'
	}
	return r
}

func changedAnswers(ctx context.Context, e *env) (string, bool, error) {
	fakes, f, err := e.warmPool(ctx, 3, law{Fixed: 20 * time.Millisecond}, setup{level: "WARN"}, slots(2))
	if err != nil {
		return "", false, err
	}
	rng := rand.New(rand.NewPCG(5, 5))
	var mu sync.Mutex
	spoilt := func(text string) string {
		mu.Lock()
		defer mu.Unlock()
		return string(change(rng, []byte(text)))
	}
	bad := fakes[0]
	var changed atomic.Int64
	bad.set(sometimes(0.3, 5, func(c *call) {
		body := fmt.Sprintf(`{"text":%q,"segments":[{"id":0,"start":0.0,"end":1.5,"text":"x"}]}`, clipText(c.clip))
		whole := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		changed.Add(1)
		raw(spoilt(whole), byClose)(c)
	}))
	reports := 0 // the prober asks for one after the other
	report := act(func(c *call) {
		text, err := json.Marshal(c.fake.report())
		if err != nil {
			return
		}
		reports++
		if reports%3 == 0 {
			text = []byte(spoilt(string(text)))
		}
		c.write(200, "application/json", string(text))
	})
	bad.health.Store(&report)
	got := play(ctx, f.url, poisson(5, 15, pick(e, 40*time.Second, 20*time.Second), between(1, 3)))
	var half []string
	for _, a := range got.all {
		if a.status == 200 && !json.Valid([]byte(a.text)) {
			half = append(half, a.String())
		}
	}
	// A flipped byte inside of the transcript is a transcript still; that is no failure of the proxy's.
	failed := 0
	for _, a := range got.failed() {
		if a.status != 200 {
			failed++
		}
	}
	return fmt.Sprintf("%d answers were changed, %d of %d clients got none, %d a broken one%s", changed.Load(), failed, got.count(), len(half), first(half)), failed == 0 && len(half) == 0 && changed.Load() > 0, nil
}

func leaks(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 30 * time.Millisecond, PerSecond: 5 * time.Millisecond}
	lengths := between(1, 5)
	fakes, err := e.pool(ctx, 4, "card", card)
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{pool: "upload {\n memory 1MiB\n}"}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	round := func(seconds time.Duration) {
		perSecond := rate(0.4, 4, card, lengths)
		for _, a := range []act{serverError, raw("", byReset), raw(response(500, "{"), byClose), answering(200, "application/json", ""), turning(503, time.Second)} {
			fakes[0].set(a)
			play(ctx, f.url, poisson(1, perSecond, seconds, lengths))
		}
		fakes[0].set(nil)
		fakes[1].die()
		play(ctx, f.url, poisson(1, perSecond, seconds, lengths))
		_ = fakes[1].rise(ctx) // else ctx has ended
		stop := make(chan struct{})
		time.AfterFunc(seconds, func() { close(stop) })
		storm(ctx, f.url, 8, stop)
		limited, cancel := context.WithTimeout(ctx, seconds)
		play(limited, f.url, atOnce(20, 60))
		cancel()
		if err := f.reload(ctx, servers(fakes[:3]...), f.setup); err == nil {
			_ = f.reload(ctx, servers(fakes...), f.setup) // counted by what is left
		}
	}
	round(500 * time.Millisecond)
	pause(ctx, 5*time.Second) // for kept connections to be closed
	goroutines, files, memory := f.goroutines(ctx), f.files(), f.memory()
	for range pick(e, 4, 1) {
		round(pick(e, 2*time.Second, 1500*time.Millisecond))
	}
	pause(ctx, 5*time.Second)
	var after float64
	_, came := await(ctx, 60*time.Second, func() bool {
		after = f.goroutines(ctx)
		return after <= goroutines && f.files() <= files+5
	})
	back, zero := f.backToZero(ctx)
	grown := f.memory()
	return fmt.Sprintf("goroutines %.0f, then %.0f; files %d, then %d; memory %.0f MiB, then %.0f; afterwards %s", goroutines, after, files, f.files(), float64(memory)/(1<<20), float64(grown)/(1<<20), back),
		came && zero && float64(grown) <= 1.3*float64(memory)+32<<20, nil
}
