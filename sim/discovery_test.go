package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// beside watches how many jobs a pool of one card runs side by side, of which somebody always waits: that is how many
// slots it is thought to have.
type beside struct {
	now  int
	seen []int
}

func (b *beside) Observed(_ scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) error {
	if _, ok := ev.(scheduler.Finished); ok {
		b.now--
	}
	for _, d := range ds {
		if _, ok := d.(scheduler.Dispatch); ok {
			b.now++
			b.seen = append(b.seen, b.now)
		}
	}
	return nil
}

func (b *beside) Ended(scheduler.Snapshot) error { return nil }

// TestAsManySlotsAreFoundAsAreUseful: for most of the second half, so that a trial that is under way does not count.
func TestAsManySlotsAreFoundAsAreUseful(t *testing.T) {
	for name, c := range map[string]struct {
		card        Card
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
			const seeds = 12
			for seed := range uint64(seeds) {
				sc := scenario("latency_aware", cards(1, c.card), Load{Clients: 40}, 1500)
				sc.WarmUp, sc.Discover, sc.Seed = 0, true, seed+1
				var watch beside
				e, err := simulate(sc, &watch)
				if err != nil {
					t.Fatal(err)
				}
				if r := e.result(); r.Errors > 0 || len(r.Violations) > 0 {
					t.Errorf("seed %d: %d errors, %v", seed+1, r.Errors, r.Violations)
				}
				late := watch.seen[len(watch.seen)/2:]
				slices.Sort(late)
				if slots := late[len(late)/2]; slots >= c.least && slots <= c.most {
					right++
				} else {
					t.Logf("seed %d: %d slots", seed+1, slots)
				}
			}
			if right < seeds-2 {
				t.Errorf("%d of %d times from %d to %d slots were found", right, seeds, c.least, c.most)
			}
		})
	}
}

// TestDiscoveredSlotsServeAsConfiguredOnes: once found they do as well as if they had been told.
func TestDiscoveredSlotsServeAsConfiguredOnes(t *testing.T) {
	sc := scenario("latency_aware", cards(1, t4.with(2, 1.5), 1, a10g.with(4, 2.5), 1, h100.with(8, 5)), Load{Clients: 32}, 3000)
	sc.WarmUp = 3000
	rate := func(discover bool) float64 {
		sc.Discover = discover
		sum := 0.0
		for _, r := range several(t, sc, 4).Results { // a trial that fails by chance is made again only after minutes
			sum += r.Throughput / 4
		}
		return sum
	}
	told, found := rate(false), rate(true)
	t.Logf("%.1f jobs/s with slots as told, %.1f as discovered", told, found)
	if found < 0.93*told {
		t.Errorf("%.1f jobs/s with discovered slots, %.1f with configured ones", found, told)
	}
}

// TestNoDiscoveryWithoutNeed: who is never full is not tried with more.
func TestNoDiscoveryWithoutNeed(t *testing.T) {
	sc := scenario("latency_aware", cards(1, h100.with(64, 5)), Load{Clients: 1, Think: 10 * time.Second}, 300)
	sc.Discover = true
	if slots := run(t, sc).Backends[0].Slots; slots != 1 {
		t.Errorf("%d slots for jobs that came one at a time", slots)
	}
}
