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
	{ID: "stream", Name: "streamed answers, while one backend's are cut off and another's are errors with 200", Theme: answers, Short: true,
		Criterion: "every client gets the events of a whole transcript, none of a broken one", Run: streamed},
}

func streamed(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 60 * time.Millisecond, PerSecond: 10 * time.Millisecond, Noise: 0.1}
	fakes, f, err := e.warmPool(ctx, 4, card, setup{})
	if err != nil {
		return "", false, err
	}
	fakes[0].set(after(5*time.Millisecond, answering(200, "application/json", `{"text":"This is what cl`)))
	fakes[1].set(after(5*time.Millisecond, answering(200, "application/json", `{"error":"failed to process audio"}`)))
	until := time.Now().Add(pick(e, 30*time.Second, 12*time.Second))
	got := &tally{began: time.Now()}
	var mu sync.Mutex
	var wrong []string
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(i)))
			for time.Now().Before(until) && ctx.Err() == nil {
				c := newClip(1 + 4*rng.Float64())
				body, contentType := c.form("model", "base", "stream", "true")
				a := post(ctx, f.url+transcriptions, c, body, contentType)
				got.add(a)
				if !wholeStream(a) {
					mu.Lock()
					wrong = append(wrong, a.String())
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	broken := fakes[0].between(got.began, time.Now()) + fakes[1].between(got.began, time.Now())
	return fmt.Sprintf("%d answers were broken, %d of %d clients got no whole stream%s", broken, len(wrong), got.count(), first(wrong)), len(wrong) == 0 && broken > 0, nil
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
