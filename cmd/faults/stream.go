package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

var streams = []scenario{
	{ID: "stream", Name: "streamed answers: one backend breaks off before its first event, another answers an error with 200; then one breaks off after its first event", Theme: answers, Short: true,
		Criterion: "every client gets the events of a whole transcript, none of a broken one; after the first event nothing is tried again, the client is never told that it is done, and no more than 12 get half of one", Run: streamed},
}

const eventsBegin = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

func streamed(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 60 * time.Millisecond, PerSecond: 10 * time.Millisecond, Noise: 0.1}
	fakes, f, err := e.warmPool(ctx, 4, card, setup{})
	if err != nil {
		return "", false, err
	}
	fakes[0].set(after(5*time.Millisecond, raw(eventsBegin, byClose)))
	fakes[1].set(after(5*time.Millisecond, answering(200, "application/json", `{"error":"failed to process audio"}`)))
	length := pick(e, 20*time.Second, 8*time.Second)
	began := time.Now()
	got := streamFor(ctx, f.url, length)
	broken := fakes[0].between(began, time.Now()) + fakes[1].between(began, time.Now())
	var wrong []string
	for _, a := range got.all {
		if !wholeStream(a) {
			wrong = append(wrong, a.String())
		}
	}
	fakes[0].set(nil) // of three broken ones a client may meet all, which is as many attempts as there are
	fakes[1].set(nil)
	fakes[2].set(func(c *call) { raw(eventsBegin+delta(clipText(c.clip)), byClose)(c) })
	half, later := 0, streamFor(ctx, f.url, length/2)
	for _, a := range later.all {
		switch {
		case wholeStream(a):
		case a.status == 200 && strings.Contains(a.text, ".delta") && !strings.Contains(a.text, ".done"):
			half++
		default:
			wrong = append(wrong, a.String())
		}
	}
	twice, _ := ranOnce(later, fakes...)
	return fmt.Sprintf("%d answers were broken before anything was passed on, %d after it, of %d; %d clients got something else%s, %d run twice", broken, half, got.count()+later.count(), len(wrong), first(wrong), twice),
		len(wrong) == 0 && broken > 0 && half > 0 && half <= 12 && twice == 0, nil
}

// streamFor has five clients ask for streams, one after the other.
func streamFor(ctx context.Context, url string, length time.Duration) *tally {
	got := &tally{began: time.Now()}
	until := got.began.Add(length)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(i)))
			for time.Now().Before(until) && ctx.Err() == nil {
				c := newClip(1 + 4*rng.Float64())
				body, contentType := c.form("model", "base", "stream", "true")
				got.add(post(ctx, url+transcriptions, c, body, contentType))
			}
		})
	}
	wg.Wait()
	return got
}

// wholeStream: events, the last of which has the whole transcript.
func wholeStream(a answer) bool {
	if a.err != nil || a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
		return false
	}
	var last struct{ Type, Text string }
	for line := range strings.Lines(a.text) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data:")
		if data = strings.TrimSpace(data); !ok || data == "[DONE]" {
			continue
		}
		last.Type, last.Text = "", ""
		if json.Unmarshal([]byte(data), &last) != nil {
			return false
		}
	}
	return last.Type == "transcript.text.done" && strings.TrimSpace(last.Text) == a.clip.text()
}
