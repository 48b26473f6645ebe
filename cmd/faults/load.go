package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// order is a request to come.
type order struct {
	at      time.Duration // since the load's beginning
	seconds float64       // of audio
}

// poisson are orders that come by chance, so many a second.
func poisson(seed uint64, rate float64, length time.Duration, seconds func(*rand.Rand) float64) []order {
	rng := rand.New(rand.NewPCG(seed, 3))
	var all []order
	for at := 0.0; ; {
		if at += rng.ExpFloat64() / rate; at > length.Seconds() {
			return all
		}
		all = append(all, order{time.Duration(at * float64(time.Second)), seconds(rng)})
	}
}

// between are lengths that are equally likely.
func between(low, high float64) func(*rand.Rand) float64 {
	return func(rng *rand.Rand) float64 { return low + (high-low)*rng.Float64() }
}

// answer is what a client got.
type answer struct {
	clip     clip
	began    time.Time
	took     time.Duration
	status   int // 0: no answer
	text     string
	err      error
	header   http.Header
	canceled time.Time // when the client left; zero: it did not
}

// served: it is the transcript of what was sent.
func (a answer) served() bool {
	return a.status == http.StatusOK && a.err == nil && strings.Contains(a.text, a.clip.text())
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %s", a.status, oneLine(a.text[:min(len(a.text), 200)]))
}

// client sends requests and retries nothing. Each has a connection of its own, so that no connection
// that a balancer has closed is taken for an error of it.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

const transcriptions = "/v1/audio/transcriptions"

// transcribe sends a clip; headers are name and value in turn.
func transcribe(ctx context.Context, url string, c clip, headers ...string) answer {
	return transcribeBy(ctx, client, url, c, headers...)
}

func transcribeBy(ctx context.Context, by *http.Client, url string, c clip, headers ...string) answer {
	body, contentType := c.form("model", "base")
	return postBy(ctx, by, url+transcriptions, c, body, contentType, headers...)
}

func post(ctx context.Context, url string, c clip, body []byte, contentType string, headers ...string) answer {
	return postBy(ctx, client, url, c, body, contentType, headers...)
}

func postBy(ctx context.Context, by *http.Client, url string, c clip, body []byte, contentType string, headers ...string) (a answer) {
	a = answer{clip: c, began: time.Now()}
	defer func() { a.took = time.Since(a.began) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		a.err = err
		return a
	}
	request.GetBody = nil // nothing is sent twice
	request.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := by.Do(request)
	if err != nil {
		a.err = err
		return a
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	a.status, a.header, a.text, a.err = response.StatusCode, response.Header, string(text), err
	return a
}

// tally collects answers.
type tally struct {
	began time.Time
	mu    sync.Mutex
	all   []answer
}

func (t *tally) add(a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, a)
}

// play sends the orders at their times and waits for all answers.
func play(ctx context.Context, url string, orders []order, headers ...string) *tally {
	t := &tally{began: time.Now()}
	var wg sync.WaitGroup
	for _, o := range orders {
		pause(ctx, o.at-time.Since(t.began))
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() { t.add(transcribe(ctx, url, newClip(o.seconds), headers...)) })
	}
	wg.Wait()
	return t
}

// loop has n clients send one request after the other, until stop; then it waits for the last answers.
func loop(ctx context.Context, url string, n int, seed uint64, seconds func(*rand.Rand) float64, stop <-chan struct{}) *tally {
	return loopBy(ctx, client, url, n, seed, seconds, stop)
}

func loopBy(ctx context.Context, by *http.Client, url string, n int, seed uint64, seconds func(*rand.Rand) float64, stop <-chan struct{}) *tally {
	t := &tally{began: time.Now()}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				select {
				case <-stop:
					return
				default:
				}
				a := transcribeBy(ctx, by, url, newClip(seconds(rng)))
				t.add(a)
				if !a.served() {
					pause(ctx, 100*time.Millisecond) // who is refused does not ask again at once
				}
			}
		})
	}
	wg.Wait()
	return t
}

// since keeps only requests that were sent from a moment on.
func (t *tally) since(from time.Time) *tally { return t.within(from, time.Now()) }

func (t *tally) within(from, to time.Time) *tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := &tally{began: from}
	for _, a := range t.all {
		if !a.began.Before(from) && a.began.Before(to) {
			kept.all = append(kept.all, a)
		}
	}
	return kept
}

// failed are those that got no transcript, and did not leave.
func (t *tally) failed() []answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []answer
	for _, a := range t.all {
		if !a.served() && a.canceled.IsZero() {
			all = append(all, a)
		}
	}
	return all
}

// firstFailure is for the end of a line, "" when there is none.
func (t *tally) firstFailure() string {
	if failed := t.failed(); len(failed) > 0 {
		return fmt.Sprintf(" (the first after %.1f s: %s)", failed[0].began.Sub(t.began).Seconds(), failed[0])
	}
	return ""
}

// times are how long the served ones took, in order.
func (t *tally) times() []time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []time.Duration
	for _, a := range t.all {
		if a.served() {
			all = append(all, a.took)
		}
	}
	slices.Sort(all)
	return all
}

// quantile of sorted times: the least that at least this share of them do not exceed.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(share*float64(len(sorted))+0.9999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func (t *tally) p99() time.Duration { return quantile(t.times(), 0.99) }

func (t *tally) longest() time.Duration { return quantile(t.times(), 1) }

func (t *tally) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all)
}

// ratio of durations; 0 where the second is nothing.
func ratio(a, b time.Duration) float64 {
	if b <= 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func ms(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	if d < 10*time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
