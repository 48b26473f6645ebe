package policies_test

import (
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// open lets jobs of one kind arrive with exponential gaps at a rate per second, for as long.
func (w *world) open(rate float64, length time.Duration, j scheduler.Job, sent func(scheduler.JobID)) {
	for t := 0.0; ; {
		if t += w.rnd.ExpFloat64() / rate; t > length.Seconds() {
			return
		}
		j.AudioSeconds = min(120, 12*w.rnd.ExpFloat64())
		sent(w.send(scheduler.Instant(t*1e9), j))
	}
}

// watched collects the response times of some of a world's jobs.
func (w *world) watched() (watch func(scheduler.JobID), took *[]float64) {
	jobs := map[scheduler.JobID]bool{}
	took = new([]float64)
	w.settled = func(id scheduler.JobID) {
		if jobs[id] {
			*took = append(*took, w.now.Sub(w.arrived[id]).Seconds())
		}
	}
	return func(id scheduler.JobID) { jobs[id] = true }, took
}

// TestFloodDelaysItsTenantOnly: one tenant sends nineteen times what five others send together, far more than
// the pool can do.
func TestFloodDelaysItsTenantOnly(t *testing.T) {
	pool := cards(4, a10g, 4, h100) // 42 jobs of 12 s a second
	const others, length = 16.0, 30 * time.Second
	run := func(seed uint64, flood float64) []float64 {
		w := newWorld(t, "latency_aware", seed, pool)
		watch, took := w.watched()
		for tenant := range scheduler.Tenant(5) {
			w.open(others/5, length, scheduler.Job{Tenant: tenant + 1}, watch)
		}
		if flood > 0 {
			w.open(flood, length, scheduler.Job{Tenant: 99}, func(scheduler.JobID) {})
		}
		w.run()
		return *took
	}
	var solo, flooded []float64
	for seed := range uint64(3) {
		solo, flooded = append(solo, run(seed+1, 0)...), append(flooded, run(seed+1, 300)...)
	}
	t.Logf("alone: mean %.3f s, p99 %.3f s; beside a flood: mean %.3f s, p99 %.3f s", mean(solo), quantile(solo, 0.99), mean(flooded), quantile(flooded, 0.99))
	if p99 := quantile(flooded, 0.99); p99 > 1.5*quantile(solo, 0.99) {
		t.Errorf("p99 %.2f s beside a flood, %.2f s without", p99, quantile(solo, 0.99))
	}
}

// TestBandsInOverload: while it lasts for less than a band is worth of waiting, interactive jobs do not feel it;
// however long it lasts, a band waits no more than what it is worth longer than the one above.
func TestBandsInOverload(t *testing.T) {
	const length = 3 * time.Minute
	waits := map[scheduler.Priority][]float64{}
	for seed := range uint64(2) {
		w := newWorld(t, "latency_aware", seed+1, cards(2, a10g))
		bands := map[scheduler.JobID]scheduler.Priority{}
		w.settled = func(id scheduler.JobID) {
			waits[bands[id]] = append(waits[bands[id]], w.now.Sub(w.arrived[id]).Seconds())
		}
		for p, rate := range []float64{scheduler.Interactive: 2, scheduler.Default: 3, scheduler.Batch: 3} {
			w.open(rate, length, scheduler.Job{Priority: scheduler.Priority(p)}, func(id scheduler.JobID) { bands[id] = scheduler.Priority(p) })
		}
		w.run()
	}
	worst := func(p scheduler.Priority) float64 { return quantile(waits[p], 1) }
	t.Logf("p99 and worst: interactive %.1f and %.1f s, default %.1f and %.1f s, batch %.1f and %.1f s",
		quantile(waits[scheduler.Interactive], 0.99), worst(scheduler.Interactive), quantile(waits[scheduler.Default], 0.99), worst(scheduler.Default),
		quantile(waits[scheduler.Batch], 0.99), worst(scheduler.Batch))
	if quantile(waits[scheduler.Interactive], 0.5) > 0.2*quantile(waits[scheduler.Default], 0.5) {
		t.Errorf("interactive jobs take %.1f s in the median, others %.1f s", quantile(waits[scheduler.Interactive], 0.5), quantile(waits[scheduler.Default], 0.5))
	}
	if worst(scheduler.Batch) > worst(scheduler.Interactive)+60+15 {
		t.Errorf("a batch job took %.1f s, an interactive one at most %.1f s", worst(scheduler.Batch), worst(scheduler.Interactive))
	}
}
