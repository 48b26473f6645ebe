//go:build whispercpp

package whispercpp

import (
	"context"
	"fmt"
	"sync"
)

// slots are the slots of an engine: as many as are wanted, idle or busy, and for a while those that
// are busy and no longer wanted.
type slots struct {
	make func() (*slot, error)
	free chan *slot // idle ones; has room for all

	resizing sync.Mutex // makes one at a time
	leaving  sync.WaitGroup

	mu     sync.Mutex // guards what follows, for moments only
	all    map[*slot]bool
	wanted int
}

func newSlots(most int, build func() (*slot, error)) *slots {
	return &slots{make: build, free: make(chan *slot, most), all: make(map[*slot]bool)}
}

func (p *slots) most() int { return cap(p.free) }

// ready is how many take jobs.
func (p *slots) ready() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(len(p.all), p.wanted)
}

// resize has so many ready when it returns, or says why not and leaves those that there are.
func (p *slots) resize(count int) error {
	if count < 0 || count > p.most() {
		return fmt.Errorf("%d slots are wanted; there can be from 0 to %d", count, p.most())
	}
	p.resizing.Lock()
	defer p.resizing.Unlock()
	p.mu.Lock()
	p.wanted = count
	p.mu.Unlock()
	p.freeIdle()
	for {
		p.mu.Lock()
		have := len(p.all)
		p.mu.Unlock()
		if have >= count {
			return nil
		}
		made, err := p.make()
		p.mu.Lock()
		if err != nil {
			p.wanted = max(len(p.all), 0)
			p.mu.Unlock()
			return fmt.Errorf("slot %d of %d: %w", have+1, count, err)
		}
		p.all[made] = true
		p.mu.Unlock()
		p.release(made)
	}
}

// freeIdle frees idle slots while there are more than wanted.
func (p *slots) freeIdle() {
	for {
		select {
		case s := <-p.free:
			if !p.superfluous(s) {
				p.free <- s
				return
			}
			s.close()
		default:
			return
		}
	}
}

// superfluous strikes a slot off the list if there are more than wanted.
func (p *slots) superfluous(s *slot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) <= p.wanted {
		return false
	}
	delete(p.all, s)
	return true
}

// take waits for an idle slot as long as ctx.
func (p *slots) take(ctx context.Context) (*slot, error) {
	select {
	case s := <-p.free:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// release gives a slot back, or frees it where it is no longer wanted.
func (p *slots) release(s *slot) {
	if p.superfluous(s) {
		p.leaving.Go(s.close)
		return
	}
	p.free <- s
}

// close frees all; none may be busy.
func (p *slots) close() {
	_ = p.resize(0) // fewer never fails
	p.leaving.Wait()
}
