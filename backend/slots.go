package backend

import (
	"context"
	"sync"
	"time"
)

// slots are the places on the device, and the places in the queue for them. A job enters once its
// upload is read, acquires a slot when it is decoded, releases it and leaves.
//
// Invariant: at most slots jobs hold one, at most slots + queue are inside.
type slots struct {
	free chan struct{} // a token for each slot that nobody holds; waiting receivers are served in order

	mu      sync.Mutex
	inside  int
	limit   int     // of inside
	service float64 // seconds a job holds a slot: moving average, 0 before the first
}

func newSlots(n, queue int) *slots {
	s := &slots{free: make(chan struct{}, n), limit: n + queue}
	for range n {
		s.free <- struct{}{}
	}
	return s
}

// full tells whether enter would refuse, so that no upload is read for nothing.
func (s *slots) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inside >= s.limit
}

// enter reports whether there is a place in a slot or in the queue; if so, the caller must leave.
func (s *slots) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inside >= s.limit {
		return false
	}
	s.inside++
	return true
}

func (s *slots) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside--
}

// acquire waits for a slot, first come, first served, or for the end of ctx.
func (s *slots) acquire(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.free:
	}
	if err := ctx.Err(); err != nil { // both were ready
		s.free <- struct{}{}
		return err
	}
	return nil
}

// release gives a slot back.
func (s *slots) release() { s.free <- struct{}{} }

// observe learns from a job that ended by itself after holding a slot for held.
func (s *slots) observe(held time.Duration) {
	const weight = 0.2 // of the newest: the average follows a change of lengths within ten jobs
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service == 0 {
		s.service = held.Seconds()
		return
	}
	s.service += weight * (held.Seconds() - s.service)
}

// load tells how many jobs hold a slot and how many are inside without one.
func (s *slots) load() (busy, queued int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	busy = cap(s.free) - len(s.free)
	return busy, max(0, s.inside-busy)
}

// retryAfter is the predicted time until half of what is inside is done: then there is room for
// those who come back, and still work until they do.
func (s *slots) retryAfter() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	rounds := float64(s.inside) / float64(cap(s.free))
	return max(time.Second, time.Duration(s.service*rounds/2*float64(time.Second)))
}
