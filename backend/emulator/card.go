package emulator

import (
	"context"
	"sync"
	"time"
)

// card shares one emulated GPU among the jobs on it: each runs at the pace that the number of them
// leaves it, and changes pace when another comes or goes.
type card struct {
	pace  func(jobs int) float64 // speed of each of so many jobs, compared with one alone
	total int64                  // bytes of its memory; 0: endless

	mu      sync.Mutex
	taken   int64 // bytes
	jobs    int
	changed chan struct{} // closed, and made anew, whenever jobs changes
}

func newCard(total int64, pace func(jobs int) float64) *card {
	return &card{pace: pace, total: total, changed: make(chan struct{})}
}

// allot takes so many bytes of memory, or gives them back if negative. It reports whether there was room.
func (c *card) allot(bytes int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total > 0 && bytes > c.total-c.taken {
		return false
	}
	c.taken += bytes
	return true
}

// free is how many bytes are left.
func (c *card) free() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total - c.taken
}

// run returns when work, the time that the job would take alone, is done, or with ctx's error at
// once when that ends first.
func (c *card) run(ctx context.Context, work time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.add(1)
	defer c.add(-1)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	left := float64(work)
	for left > 0 {
		jobs, changed := c.now()
		pace := c.pace(jobs)
		started := time.Now()
		timer.Reset(time.Duration(left / pace))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-changed:
			left -= float64(time.Since(started)) * pace
		}
	}
	return nil
}

func (c *card) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jobs += n
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *card) now() (jobs int, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.jobs, c.changed
}
