package backend

import (
	"context"
	"slices"
	"sync"
	"time"
)

// slots are the places on the device, which all models share, and the places in the queue for them.
// A job enters once its upload is read, acquires a slot when it is decoded, releases it and leaves.
//
// Invariants: at most inside jobs wait or hold a slot, and inside is at most open + queue when a job
// enters. A slot is given only while fewer than open are held, so after there became fewer slots more
// may be held for a while than there are. Jobs are served in the order in which they came, but for
// those whose model has none of its own slots free: others pass them.
type slots struct {
	mu      sync.Mutex
	open    int // how many there are; 0 while the first model loads
	target  int // how many there should be; more than open where the device has no memory for them
	held    int
	queue   int // how many jobs may wait
	inside  int
	waiting []*waiter
	service float64 // seconds a job holds a slot: moving average, 0 before the first
}

// lane is a model's share of the slots: how many of its jobs its engine can run at once, which is
// less than there are slots where the device had no memory for more. Guarded by slots.mu.
type lane struct {
	limit, held int
}

// waiter is a job that waits for a slot.
type waiter struct {
	lane    *lane
	granted chan struct{} // closed when it holds one
}

func newSlots(open, queue int) *slots { return &slots{open: open, queue: queue} }

// resize makes there be n slots. Jobs that hold one more go on.
func (s *slots) resize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = n
	s.grant()
}

// want says how many slots there should be; fewer than there are take effect at once.
func (s *slots) want(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = n
	s.open = min(s.open, n)
}

// wanted is how many slots there should be.
func (s *slots) wanted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.target
}

// now is how many slots there are.
func (s *slots) now() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// setLimit says how many jobs of a lane may run at once.
func (s *slots) setLimit(l *lane, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.limit = n
	s.grant()
}

// full tells whether enter would refuse, so that no upload is read for nothing.
func (s *slots) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inside >= s.open+s.queue
}

// enter reports whether there is a place in a slot or in the queue; if so, the caller must leave.
func (s *slots) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inside >= s.open+s.queue {
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

// acquire waits for a slot in which a job of the lane can run, or for the end of ctx.
func (s *slots) acquire(ctx context.Context, l *lane) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &waiter{lane: l, granted: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	s.grant()
	s.mu.Unlock()
	select {
	case <-w.granted:
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		s.giveUp(w)
		return err
	}
	return nil
}

// giveUp takes back a waiter that leaves, whether or not it was given a slot meanwhile.
func (s *slots) giveUp(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.Index(s.waiting, w); at >= 0 {
		s.waiting = slices.Delete(s.waiting, at, at+1)
		return
	}
	s.held--
	w.lane.held--
	s.grant()
}

// release gives a slot back.
func (s *slots) release(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	l.held--
	s.grant()
}

// grant gives free slots to those who wait. The caller holds mu.
func (s *slots) grant() {
	for i := 0; i < len(s.waiting) && s.held < s.open; {
		w := s.waiting[i]
		if w.lane.held >= w.lane.limit {
			i++
			continue
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.held++
		w.lane.held++
		close(w.granted)
	}
}

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
	return s.held, max(0, s.inside-s.held)
}

// retryAfter is the predicted time until half of what is inside is done: then there is room for
// those who come back, and still work until they do.
func (s *slots) retryAfter() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	rounds := float64(s.inside) / float64(max(s.open, 1))
	return max(time.Second, time.Duration(s.service*rounds/2*float64(time.Second)))
}
