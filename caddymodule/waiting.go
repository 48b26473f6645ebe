package caddymodule

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// requestShare is what a request takes besides its upload while it waits, in bytes: 16 KB of stack under
// net/http and Caddy, 10 of buffers of the connection, the form and what was parsed of it, and the slack that
// the garbage collector leaves above them. As measured with thousands that wait.
const requestShare = 40 << 10

// waiting makes requests that wait and uploads that are in memory share one limit: the more requests there
// are, the less of uploads is in memory. When a request comes in for which there is no room, the newest
// uploads that wait are moved to files, since they are sent last.
type waiting struct {
	requests atomic.Int64

	mu     sync.Mutex
	spools list.List // of those that are whole, in memory, and not being sent; the newest last
}

// left is what the requests leave of a limit to uploads.
func (w *waiting) left(limit int64) int64 { return limit - requestShare*w.requests.Load() }

// over tells whether more is in memory than the requests leave.
func (a *account) over(limit int64) bool { return a.memory.Load() > max(0, a.left(limit)) }

// enter counts the request of an upload until Close, and makes room for it.
func (s *spool) enter() {
	s.inside = true
	s.account.requests.Add(1)
	for s.account.over(s.memory) {
		newest := s.account.newest()
		if newest == nil {
			return
		}
		newest.moveToFile()
	}
}

// settle lists an upload that has come in whole.
func (w *waiting) settle(s *spool) {
	if len(s.chunks) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.place = w.spools.PushBack(s)
}

// start takes an upload off the list: it is being sent, or gone.
func (w *waiting) start(s *spool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.place != nil {
		w.spools.Remove(s.place)
		s.place = nil
	}
}

// newest takes the newest off the list; nil: there is none.
func (w *waiting) newest() *spool {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.spools.Back()
	if last == nil {
		return nil
	}
	s := w.spools.Remove(last).(*spool)
	s.place = nil
	return s
}

// moveToFile frees the memory of an upload. Whoever reads it goes on in the file. If the disk fails it
// stays where it is.
func (s *spool) moveToFile() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && s.file == nil {
		_ = s.spill(s.size)
	}
}
