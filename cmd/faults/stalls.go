package main

import (
	"context"
	"sync"
	"time"
)

const (
	stallBeat = 10 * time.Millisecond
	stallMin  = 20 * time.Millisecond // later than that is a stall
	// stalledMuch of a scenario's time, and what it measured says nothing of the balancer.
	stalledMuch = 0.05
)

// stalls notes for how long this process stood still: when it should have been woken, and how much later it was. A
// machine that has better things to do than to run the suite breaks any criterion that hangs on time.
type stalls struct {
	mu   sync.Mutex
	seen []stall
}

type stall struct {
	at   time.Time
	late time.Duration
}

// watch goes on until ctx ends.
func (s *stalls) watch(ctx context.Context) {
	for due := time.Now().Add(stallBeat); ctx.Err() == nil; due = time.Now().Add(stallBeat) {
		pause(ctx, time.Until(due))
		if late := time.Since(due); late >= stallMin {
			s.note(stall{due, late})
		}
	}
}

func (s *stalls) note(one stall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, one)
}

// share of the time between two moments that it stood still.
func (s *stalls) share(from, to time.Time) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := time.Duration(0)
	for _, one := range s.seen {
		if one.at.Before(to) && one.at.Add(one.late).After(from) {
			total += one.late
		}
	}
	return float64(total) / float64(max(to.Sub(from), 1))
}
