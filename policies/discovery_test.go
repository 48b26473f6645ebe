package policies_test

import (
	"slices"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// discovering is a world whose backends' slots are to be discovered; each card does what it can with as many
// jobs as it is sent, and refuses beyond its slots.
func discovering(t *testing.T, seed uint64, pool []card) *world {
	w := newWorld(t, "latency_aware", seed, pool)
	w.refusing = true
	var cfg scheduler.Config
	cfg.Seed = seed
	for _, g := range w.gpus {
		cfg.Backends = append(cfg.Backends, scheduler.Backend{ID: g.id, Address: string(g.id), Class: g.name, Discover: true})
	}
	w.carryOut(w.core.Step(0, scheduler.Configured{Config: cfg}))
	return w
}

// found serves a closed loop of clients for some jobs and returns the slots that the backends had for most of the
// second half, so that a trial that is under way at the end does not count.
func found(w *world, clients, jobs int) []int {
	sent, settled := 0, 0
	seen := make([][]int, len(w.gpus))
	w.settled = func(scheduler.JobID) {
		if settled++; settled > jobs/2 {
			for i, b := range w.core.Snapshot().Backends {
				seen[i] = append(seen[i], b.Slots)
			}
		}
		if sent < jobs {
			sent++
			w.arrive(w.now, length(w.rnd))
		}
	}
	for range clients {
		w.settled(0)
	}
	w.run()
	var slots []int
	for i := range seen {
		slices.Sort(seen[i])
		slots = append(slots, seen[i][len(seen[i])/2])
	}
	return slots
}

func TestSlotsAreDiscovered(t *testing.T) {
	for name, c := range map[string]struct {
		card        card
		least, most int
	}{
		"one at a time":             {h100.with(64, 1), 1, 1},
		"two are worth it":          {h100.with(64, 1.6), 2, 3},
		"four are":                  {h100.with(64, 2.6), 4, 6},
		"eight are":                 {h100.with(64, 4.3), 6, 13},
		"more would be, but refuse": {h100.with(3, 6), 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			right := 0
			const seeds = 8
			for seed := range uint64(seeds) {
				w := discovering(t, seed+1, []card{c.card})
				slots := found(w, 40, 1500)[0]
				if slots >= c.least && slots <= c.most {
					right++
				} else {
					t.Logf("seed %d: %d slots", seed+1, slots)
				}
				if w.lost > 0 {
					t.Errorf("seed %d: %d jobs lost", seed+1, w.lost)
				}
			}
			if right < seeds-1 {
				t.Errorf("%d of %d times from %d to %d slots were found", right, seeds, c.least, c.most)
			}
		})
	}
}

// TestDiscoveredSlotsServeAsConfiguredOnes: once found they do as well as if they had been told.
func TestDiscoveredSlotsServeAsConfiguredOnes(t *testing.T) {
	pool := cards(1, t4.with(2, 1.5), 1, a10g.with(4, 2.5), 1, h100.with(8, 5))
	rate := func(w *world) float64 {
		found(w, 32, 3000)
		began, done := w.now, len(w.took)
		slots := found(w, 32, 3000)
		t.Logf("slots %v", slots)
		return float64(len(w.took)-done) / w.now.Sub(began).Seconds()
	}
	told, learned := 0.0, 0.0
	const seeds = 4 // a trial that fails by chance is made again only after minutes
	for seed := range uint64(seeds) {
		told += rate(newWorld(t, "latency_aware", seed+1, pool)) / seeds
		learned += rate(discovering(t, seed+1, pool)) / seeds
	}
	t.Logf("%.1f jobs/s with slots as told, %.1f as discovered", told, learned)
	if learned < 0.93*told {
		t.Errorf("%.1f jobs/s with discovered slots, %.1f with configured ones", learned, told)
	}
}

// TestNoDiscoveryWithoutNeed: who is never full is not tried with more.
func TestNoDiscoveryWithoutNeed(t *testing.T) {
	w := discovering(t, 1, []card{h100.with(64, 5)})
	for i := range 300 {
		w.arrive(scheduler.Instant(i)*scheduler.Instant(10*time.Second), 12)
	}
	w.run()
	if slots := w.core.Snapshot().Backends[0].Slots; slots != 1 {
		t.Errorf("%d slots for jobs that came one at a time", slots)
	}
}
