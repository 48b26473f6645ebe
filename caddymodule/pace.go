package caddymodule

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// pace is how slow an upload may be. A slow one holds no slot, but a connection and memory.
type pace struct {
	idle  time.Duration // without a byte
	grace time.Duration // before the rate counts
	rate  int64         // bytes a second, on the average of the whole
}

// slowest is below any line that people send recordings over.
var slowest = pace{idle: time.Minute, grace: time.Minute, rate: 1 << 10}

// pacer reads a body, and ends it with os.ErrDeadlineExceeded when it falls behind. Caddy's own limit,
// which is for idle ones only, goes on beside it.
type pacer struct {
	closing context.Context // with its end nothing more is waited for
	body    io.Reader
	control *http.ResponseController
	pace    pace
	start   time.Time
	set     time.Time // when the deadline was
	read    int64
}

func newPacer(closing context.Context, w http.ResponseWriter, body io.Reader, pace pace) *pacer {
	return &pacer{closing: closing, body: body, control: http.NewResponseController(w), pace: pace, start: time.Now()}
}

// deadlineStep is how often the deadline moves at most; each costs a little.
const deadlineStep = time.Second

func (p *pacer) Read(b []byte) (int, error) {
	if now := time.Now(); now.Sub(p.set) >= min(deadlineStep, p.pace.idle/4) {
		p.set = now
		due := p.start.Add(p.pace.grace + time.Duration(float64(p.read)/float64(p.pace.rate)*float64(time.Second)))
		_ = p.control.SetReadDeadline(earlier(due, now.Add(p.pace.idle))) // what has no deadlines is not slow
		if p.closing.Err() != nil {                                       // after that, or what hurry has set might be overwritten
			_ = p.control.SetReadDeadline(past)
		}
	}
	n, err := p.body.Read(b)
	p.read += int64(n)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = p.control.SetReadDeadline(time.Time{}) // or it would end the request while it waits
	}
	return n, err
}
