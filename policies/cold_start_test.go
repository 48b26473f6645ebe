package policies_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// TestUnknownSpeeds: nothing is known of the pool. After three jobs a backend what comes is served nearly as well
// as by a scheduler that has learned for long, on the same jobs.
func TestUnknownSpeeds(t *testing.T) {
	pool := cards(2, t4, 2, a10g, 4, h100)
	const measured = 300
	run := func(seed uint64, warm int) float64 {
		w := newWorld(t, "latency_aware", seed, pool)
		for i := range warm {
			w.arrive(w.now.Add(time.Duration(i)*100*time.Millisecond), length(w.rnd))
		}
		w.run()
		w.rnd = rand.New(rand.NewPCG(seed, 9)) // from here on the same jobs
		began, at := len(w.took), w.now
		for range 3*len(pool) + measured { // 14 a second, 60 % of what the pool can do
			at = at.Add(time.Duration(w.rnd.ExpFloat64() / 14 * 1e9))
			w.arrive(at, length(w.rnd))
		}
		w.run()
		return mean(w.took[began+3*len(pool):])
	}
	var cold, steady []float64
	for seed := range uint64(10) {
		cold, steady = append(cold, run(seed+1, 0)), append(steady, run(seed+1, 1000))
	}
	t.Logf("mean %.3f s after three jobs a backend, %.3f s after a thousand: ratio %.3f", mean(cold), mean(steady), mean(cold)/mean(steady))
	if mean(cold) > 1.1*mean(steady) {
		t.Errorf("mean %.3f s after three jobs a backend, %.3f s in steady state", mean(cold), mean(steady))
	}
}

// TestExploringIsBounded: every backend is tried soon, and no more than two at a time while known ones are free.
func TestExploringIsBounded(t *testing.T) {
	pool := cards(6, t4, 2, h100)
	w := newWorld(t, "latency_aware", 1, pool)
	for i := range 600 { // a job every 50 ms, half of what the two H100 can do
		w.arrive(scheduler.Instant(i)*scheduler.Instant(50*time.Millisecond), length(w.rnd))
	}
	w.run()
	for _, g := range w.gpus {
		if g.picks == 0 {
			t.Errorf("%s was not tried in 30 s", g.id)
		}
	}
}
