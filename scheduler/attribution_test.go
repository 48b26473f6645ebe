package scheduler_test

import (
	"fmt"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// TestAttribution: what waits is attributed by how fast each class drains the queue, to nobody who is idle and left so,
// and where nobody can serve it, to nobody.
func TestAttribution(t *testing.T) {
	fast := scheduler.Backend{ID: "h", Class: "H100", Slots: 1, Prior: scheduler.Law{PerSecond: 10 * time.Millisecond}}
	slow := func(id scheduler.BackendID) scheduler.Backend {
		return scheduler.Backend{ID: id, Class: "T4", Slots: 1, Prior: scheduler.Law{PerSecond: 90 * time.Millisecond}}
	}
	other := scheduler.Backend{ID: "o", Class: "L4", Slots: 2}
	another := scheduler.Backend{ID: "p", Class: "L4", Slots: 1}
	for name, c := range map[string]struct {
		policy   string
		backends []scheduler.Backend
		jobs     int
		out      []scheduler.BackendID // that go down afterwards
		want     map[string]float64
	}{
		"nothing waits":               {"round_robin", []scheduler.Backend{fast, slow("t")}, 2, nil, map[string]float64{}},
		"by speed":                    {"round_robin", []scheduler.Backend{fast, slow("t")}, 12, nil, map[string]float64{"H100": 9, "T4": 1}},
		"by number":                   {"round_robin", []scheduler.Backend{fast, slow("t"), slow("u"), slow("v")}, 16, nil, map[string]float64{"H100": 9, "T4": 3}},
		"not known, as the others":    {"round_robin", []scheduler.Backend{fast, another}, 12, nil, map[string]float64{"H100": 5, "L4": 5}},
		"nobody's speed is known":     {"round_robin", []scheduler.Backend{other}, 5, nil, map[string]float64{"L4": 3}},
		"not for who is idle":         {"latency_aware", []scheduler.Backend{fast, slow("t")}, 3, nil, map[string]float64{"H100": 2}},
		"nobody":                      {"round_robin", []scheduler.Backend{fast}, 4, []scheduler.BackendID{"h"}, map[string]float64{"": 3}},
		"what is down serves nothing": {"round_robin", []scheduler.Backend{fast, slow("t")}, 6, []scheduler.BackendID{"h"}, map[string]float64{"T4": 4}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := scheduler.New(scheduler.Config{Policy: c.policy, Backends: c.backends}, policies.ByName)
			if err != nil {
				t.Fatal(err)
			}
			now := scheduler.Instant(0)
			step := func(ev scheduler.Event) {
				now++
				s.Step(now, ev)
			}
			for i := range c.jobs {
				step(scheduler.Arrived{Job: scheduler.Job{ID: scheduler.JobID(i + 1), AudioSeconds: 20}})
			}
			for _, id := range c.out {
				for range 2 { // one is not believed while an attempt runs
					step(scheduler.Probed{Backend: id})
				}
			}
			got := s.SnapshotAt(now)
			if got.Unserved != got.Attributed[""] { // no backend here is without a class
				t.Errorf("%v are unserved, %v are nobody's", got.Unserved, got.Attributed[""])
			}
			sum := 0.0
			for class, n := range got.Attributed {
				sum += n
				if math.Abs(n-c.want[class]) > 1e-9 {
					t.Errorf("%q has %v, not %v", class, n, c.want[class])
				}
			}
			if len(got.Attributed) != len(c.want) || math.Abs(sum-float64(got.Queued)) > 1e-9 {
				t.Errorf("%v, want %v, of %d", got.Attributed, c.want, got.Queued)
			}
			if again := s.SnapshotAt(now); !maps.Equal(again.Attributed, got.Attributed) {
				t.Errorf("then %v", fmt.Sprint(again.Attributed))
			}
		})
	}
}
