package scheduler_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// benchPool is a pool whose speeds are known: one backend in ten is fast, the others take a hundred times
// as long, so that jobs that find only those idle wait.
func benchPool(b *testing.B, backends int) (core *scheduler.Scheduler, fast []scheduler.BackendID) {
	var cfg scheduler.Config
	for i := range backends {
		back := scheduler.Backend{ID: scheduler.BackendID(fmt.Sprintf("backend-%d", i)), Slots: 1,
			Prior: scheduler.Law{Fixed: 10 * time.Second, PerSecond: 10 * time.Second}}
		if i%10 == 0 {
			back.Prior = scheduler.Law{Fixed: 10 * time.Millisecond, PerSecond: 10 * time.Millisecond}
			fast = append(fast, back.ID)
		}
		cfg.Backends = append(cfg.Backends, back)
	}
	core, err := scheduler.New(cfg, policies.ByName)
	if err != nil {
		b.Fatal(err)
	}
	return core, fast
}

// BenchmarkStepLooksAtAll is the worst case: 64 jobs wait though most backends are idle, since all of them
// would rather wait for the fast ones, so each step looks at every job and every backend.
func BenchmarkStepLooksAtAll(b *testing.B) {
	for _, backends := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("%d backends", backends), func(b *testing.B) {
			core, fast := benchPool(b, backends)
			for i := range len(fast) + 64 {
				core.Step(0, scheduler.Arrived{Job: scheduler.Job{ID: scheduler.JobID(i + 1), Model: "base", AudioSeconds: 10 + float64(i)/10}})
			}
			if waiting := core.Snapshot().Queued; backends >= 100 && waiting != 64 {
				b.Fatalf("%d jobs wait, want 64", waiting)
			}
			b.ReportAllocs()
			for b.Loop() {
				core.Step(0, scheduler.Ticked{})
			}
		})
	}
}

// BenchmarkArriveAndFinish is the common case: a job comes, gets a slot and is done, with 64 others waiting.
func BenchmarkArriveAndFinish(b *testing.B) {
	for _, backends := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("%d backends", backends), func(b *testing.B) {
			core, _ := benchPool(b, backends)
			now, id := scheduler.Instant(0), scheduler.JobID(0)
			var running []scheduler.AttemptID
			step := func(ev scheduler.Event) {
				for _, d := range core.Step(now, ev) {
					if d, ok := d.(scheduler.Dispatch); ok {
						running = append(running, d.Attempt)
					}
				}
			}
			arrive := func() {
				id++
				step(scheduler.Arrived{Job: scheduler.Job{ID: id, Model: "base", AudioSeconds: 10}})
			}
			for range backends + 64 {
				arrive()
			}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				arrive()
				if len(running) > 0 {
					a := running[0]
					running = append(running[:0], running[1:]...)
					step(scheduler.Finished{Attempt: a, Outcome: scheduler.Outcome{Result: scheduler.Success}})
				}
			}
		})
	}
}

// BenchmarkLongQueue is an arrival and an end while ten thousand jobs wait, all of one tenant or of a thousand, of
// one band or of three.
func BenchmarkLongQueue(b *testing.B) {
	for _, c := range []struct{ tenants, bands int }{{1, 1}, {1, 3}, {1000, 1}, {1000, 3}} {
		b.Run(fmt.Sprintf("%d tenants, %d bands", c.tenants, c.bands), func(b *testing.B) {
			core, _ := benchPool(b, 100)
			now, id := scheduler.Instant(0), scheduler.JobID(0)
			var running []scheduler.AttemptID
			step := func(ev scheduler.Event) {
				for _, d := range core.Step(now, ev) {
					if d, ok := d.(scheduler.Dispatch); ok {
						running = append(running, d.Attempt)
					}
				}
			}
			arrive := func() {
				id++
				step(scheduler.Arrived{Job: scheduler.Job{ID: id, Model: "base", AudioSeconds: 10,
					Tenant: scheduler.Tenant(int(id) % c.tenants), Priority: scheduler.Priority(int(id) / 7 % c.bands)}})
			}
			for range 10_000 {
				arrive()
			}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				arrive()
				a := running[0]
				running = append(running[:0], running[1:]...)
				step(scheduler.Finished{Attempt: a, Outcome: scheduler.Outcome{Result: scheduler.Success}})
			}
		})
	}
}
