package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

var uploads = []scenario{
	{ID: "24", Name: "500 slow uploads at 10 kB/s, half of them break off", Theme: limits, Short: true, Peers: true, Alone: true,
		Criterion: "no slot held during an upload, uploads in memory within their limit (4 MiB), p99 of others at most 1.2 x base, no failures of others, nothing left afterwards",
		Run:       slowUploads},
	{ID: "small", Name: "1500 small uploads wait at once", Theme: limits, Short: true, Alone: true,
		Criterion: "with upload memory of 32 MiB the process grows by at most that and 32 KiB for each, all are served, nothing left afterwards", Run: smallUploads},
}

// slowly is a body that comes at a rate, and may break off.
type slowly struct {
	ctx     context.Context
	left    []byte
	rate    int // bytes a second
	breakAt int // bytes left at which it breaks off; -1: never
}

func (s *slowly) Read(p []byte) (int, error) {
	const beats = 4 // a second
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	if s.breakAt >= 0 && len(s.left) <= s.breakAt {
		return 0, io.ErrUnexpectedEOF
	}
	pause(s.ctx, time.Second/beats)
	if s.ctx.Err() != nil {
		return 0, s.ctx.Err()
	}
	n := copy(p, s.left[:min(len(s.left), s.rate/beats)])
	s.left = s.left[n:]
	return n, nil
}

// uploadSlowly sends a clip in a file of such a size at 10 kB/s. The answer's canceled is set when it broke off.
func uploadSlowly(ctx context.Context, url string, c clip, size int, breaksOff bool) (a answer) {
	// Little audio in a large file, so that what is slow is the upload alone.
	body, contentType := formOf("audio.wav", append(c.wav(), make([]byte, size)...), "model", "base")
	reader := &slowly{ctx, body, 10_000, -1}
	length := int64(len(body))
	if breaksOff {
		reader.breakAt = len(body) / 2
	}
	a = answer{clip: c, began: time.Now()}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+transcriptions, reader)
	if err != nil {
		a.err = err
		return a
	}
	request.ContentLength = length
	request.Header.Set("Content-Type", contentType)
	response, err := client.Do(request)
	a.took = time.Since(a.began)
	if breaksOff {
		a.canceled = time.Now()
	}
	if err != nil {
		a.err = err
		return a
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	a.status, a.header, a.text, a.err = response.StatusCode, response.Header, string(text), err
	return a
}

const slowUploadMemory = 4 << 20

func slowUploads(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond, Noise: 0.1}
	lengths := between(1, 5)
	t, err := e.twin(ctx, 4, card, setup{pool: "upload {\n memory 4MiB\n}"})
	if err != nil {
		return "", false, err
	}
	f := t.faulty
	clients := pick(e, 500, 250)
	length := pick(e, 25*time.Second, 18*time.Second)
	size := int(10_000 * length.Seconds()) // they come in for as long as others are served, and are work only then
	var most atomic.Int64
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	if f.kind == ours {
		watching.Go(func() {
			for limited.Err() == nil {
				if m, err := f.metrics(limited); err == nil {
					most.Store(max(most.Load(), int64(m.sum("whisperpool_upload_bytes", `place="memory"`))))
				}
				pause(limited, 300*time.Millisecond)
			}
		})
	}
	slow := &tally{began: time.Now()}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(24, uint64(i)))
			pause(ctx, time.Duration(rng.Float64()*float64(6*time.Second)))
			slow.add(uploadSlowly(ctx, f.url, newClip(0.1), size, i%2 == 0))
		})
	}
	base, others := t.play(ctx, poisson(24, rate(0.3, 4, card, lengths), length, lengths))
	wg.Wait()
	cancel()
	watching.Wait()
	held, reading := 0, time.Duration(0)
	for _, one := range t.backend {
		for _, r := range one.seen(slow.began) {
			took := r.read.Sub(r.began)
			if r.read.IsZero() { // it broke off while a backend read it
				took = r.ended.Sub(r.began)
			}
			if reading = max(reading, took); took > time.Second {
				held++
			}
		}
	}
	back, zero := "not looked at", true
	if f.kind == ours {
		back, zero = f.backToZero(ctx)
	}
	p99 := ratio(others.p99(), base.p99())
	failures := len(others.failed()) + len(slow.failed())
	return fmt.Sprintf("%d slots held (a backend read for %s at the most), %.1f MiB in memory at the most, p99 of others %.2f x base, %d of %d failed%s%s, afterwards %s",
			held, ms(reading), float64(most.Load())/(1<<20), p99, failures, others.count()+slow.count()/2, others.firstFailure(), slow.firstFailure(), back),
		held == 0 && most.Load() <= slowUploadMemory && p99 <= 1.2 && failures == 0 && zero, nil
}

func smallUploads(ctx context.Context, e *env) (string, bool, error) {
	const limit, each = 32 << 20, 32 << 10
	n := pick(e, 1500, 1000)
	fakes, f, err := e.warmPool(ctx, 2, law{Fixed: 5 * time.Millisecond}, setup{pool: "upload {\n memory 32MiB\n}"}, slots(4))
	if err != nil {
		return "", false, err
	}
	before := f.memory()
	open := make(chan struct{})
	for _, one := range fakes {
		one.set(func(c *call) {
			select {
			case <-open:
				c.serve()
			case <-c.r.Context().Done():
			}
		})
	}
	done := make(chan *tally)
	go func() { done <- play(ctx, f.url, atOnce(n, 1)) }()
	took, came := await(ctx, 30*time.Second, func() bool {
		m, err := f.metrics(ctx)
		return err == nil && int(m.sum("whisperpool_queue_depth")+m.sum("whisperpool_backend_outstanding")) >= n
	})
	grown := f.memory() - before
	close(open)
	got := <-done
	back, zero := f.backToZero(ctx)
	return fmt.Sprintf("%d waited after %s (%v), with them the process is larger by %.0f MiB; %d failed%s; afterwards %s", n, ms(took), came, float64(grown)/(1<<20), len(got.failed()), got.firstFailure(), back),
		came && grown <= limit+int64(n)*each && len(got.failed()) == 0 && zero, nil
}
