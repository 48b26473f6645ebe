package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// herd drives the scheduler itself: what is measured is what a Step takes, in the processor's time. On a machine that
// does other things besides, any other time would say how busy that is.
type herd struct {
	s        *scheduler.Scheduler
	now      scheduler.Instant
	running  []herdRun // all take as long, so they end in this order
	busy     map[scheduler.BackendID]int
	picks    map[scheduler.BackendID]float64
	took     []float64 // microseconds
	over     int       // jobs beyond a backend's slots
	counting bool
}

type herdRun struct {
	attempt scheduler.AttemptID
	backend scheduler.BackendID
	ends    scheduler.Instant
}

const (
	herdBackends = 100
	herdSlots    = 8
	herdRate     = 10_000 // a second
	herdTime     = 50 * time.Millisecond
	herdAudio    = 5.0
	// herdLikely is exceeded once in a thousand times by chi-squared with 99 degrees of freedom.
	herdLikely = 148.2
)

func (h *herd) step(ev scheduler.Event) {
	began := threadTime()
	ds := h.s.Step(h.now, ev)
	if h.counting {
		h.took = append(h.took, float64((threadTime()-began).Nanoseconds())/1e3)
	}
	for _, d := range ds {
		d, ok := d.(scheduler.Dispatch)
		if !ok {
			continue
		}
		if h.busy[d.Backend]++; h.busy[d.Backend] > herdSlots {
			h.over++
		}
		if h.counting && !d.Trial {
			h.picks[d.Backend]++
		}
		h.running = append(h.running, herdRun{d.Attempt, d.Backend, h.now.Add(herdTime)})
	}
}

// until has all happen that comes before an instant.
func (h *herd) until(at scheduler.Instant) {
	for {
		wake, ok := h.s.NextWake()
		switch {
		case len(h.running) > 0 && h.running[0].ends <= at && (!ok || wake >= h.running[0].ends):
			first := h.running[0]
			h.running, h.now = h.running[1:], first.ends
			h.busy[first.backend]--
			h.step(scheduler.Finished{Attempt: first.attempt, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true, AudioSeconds: herdAudio}})
		case ok && wake <= at:
			h.now = max(h.now, wake)
			h.step(scheduler.Ticked{})
		default:
			h.now = at
			return
		}
	}
}

// threadTime is the processor's time that this thread has had.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // Linux always has it
	}
	return time.Duration(t.Nano())
}

func newHerd(seed uint64) (*herd, error) {
	cfg := scheduler.Config{Seed: seed, Trials: true}
	for i := range herdBackends {
		name := fmt.Sprintf("H100-%d", i+1)
		cfg.Backends = append(cfg.Backends, scheduler.Backend{ID: scheduler.BackendID(name), Address: name, Class: "H100", Slots: herdSlots, Models: []string{"base"}})
	}
	s, err := scheduler.New(cfg, policies.ByName)
	return &herd{s: s, busy: map[scheduler.BackendID]int{}, picks: map[scheduler.BackendID]float64{}}, err
}

func thunderingHerd(ctx context.Context, e *env) (string, bool, error) {
	const warmUp, jobs = 20_000, 30_000
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out := atMost{held: true}
	var slowest, oddest float64
	over := 0
	for seed := range e.seeds() {
		if ctx.Err() != nil {
			return "", false, ctx.Err()
		}
		h, err := newHerd(uint64(seed) + 1)
		if err != nil {
			return "", false, err
		}
		chance := rand.New(rand.NewPCG(uint64(seed)+1, 26))
		for n := range warmUp + jobs {
			h.counting = n >= warmUp
			h.until(h.now.Add(time.Duration(chance.ExpFloat64() / herdRate * 1e9)))
			h.step(scheduler.Arrived{Job: scheduler.Job{ID: scheduler.JobID(n + 1), Model: "base", AudioSeconds: herdAudio}})
		}
		all := 0.0
		for _, n := range h.picks {
			all += n
		}
		odd, share := 0.0, all/herdBackends
		for i := range herdBackends {
			n := h.picks[scheduler.BackendID(fmt.Sprintf("H100-%d", i+1))]
			odd += (n - share) * (n - share) / share
		}
		slowest, oddest, over = max(slowest, quantileOf(h.took, 0.99)), max(oddest, odd), max(over, h.over)
	}
	out.check("p99 of deciding, us", slowest, 100)
	out.check("chi-squared of the shares", oddest, herdLikely)
	out.check("over slots", float64(over), 0)
	return out.say() + " (the worst seed each)", out.held, nil
}
