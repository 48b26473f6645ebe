package caddymodule

import (
	"slices"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// A history is one of the last ten minutes.
const (
	historyEvery = 5 * time.Second
	historyKept  = 120 // samples
)

// historyStatus are samples, the oldest first; the lists are equally long.
type historyStatus struct {
	Every   float64  `json:"every"` // seconds between two samples
	Queued  []int    `json:"queued"`
	Running []int    `json:"running"`
	Served  []uint64 `json:"served"` // attempts that succeeded since the sample before
}

// history is what a pool did lately, so that a page has its curves when it is opened.
type history struct {
	mu      sync.Mutex
	samples historyStatus
	served  uint64 // in all, at the last sample
}

// add takes a sample.
func (h *history) add(s scheduler.Snapshot) {
	served := uint64(0)
	for i := range s.Backends {
		served += s.Backends[i].Served
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.samples.Queued = lastOfHistory(h.samples.Queued, s.Queued)
	h.samples.Running = lastOfHistory(h.samples.Running, s.Running)
	// A backend that has gone takes its count with it.
	h.samples.Served = lastOfHistory(h.samples.Served, max(served, h.served)-h.served)
	h.served = served
}

func lastOfHistory[T any](samples []T, one T) []T {
	if len(samples) == historyKept {
		samples = slices.Delete(samples, 0, 1)
	}
	return append(samples, one)
}

// lately is a copy of the samples.
func (h *history) lately() historyStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return historyStatus{
		Every: historyEvery.Seconds(), Queued: append([]int{}, h.samples.Queued...), Running: append([]int{}, h.samples.Running...),
		Served: append([]uint64{}, h.samples.Served...),
	}
}

// keepHistory takes samples while the pool lives.
func (p *Pool) keepHistory() {
	ticker := time.NewTicker(historyEvery)
	defer ticker.Stop()
	for {
		p.history.add(p.dispatcher.Snapshot())
		select {
		case <-ticker.C:
		case <-p.life.Done():
			return
		}
	}
}
