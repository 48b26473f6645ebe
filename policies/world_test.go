package policies_test

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// card is one GPU of the model of the scheduling notes: service time fixed + seconds of audio / rate,
// in seconds, one slot.
type card struct {
	name        string
	fixed, rate float64
}

func (c card) service(audio float64) float64 { return c.fixed + audio/c.rate }

var (
	t4   = card{"T4", 0.12, 18}
	a10g = card{"A10G", 0.08, 40}
	h100 = card{"H100", 0.05, 160}
)

func cards(sets ...any) (pool []card) {
	for i := 0; i < len(sets); i += 2 {
		for range sets[i].(int) {
			pool = append(pool, sets[i+1].(card))
		}
	}
	return pool
}

// world drives the scheduler over a pool of cards in virtual time.
type world struct {
	t       *testing.T
	core    *scheduler.Scheduler
	pool    []card
	byID    map[scheduler.BackendID]card
	rnd     *rand.Rand
	sigma   float64 // of the log of the service time
	now     scheduler.Instant
	agenda  agenda
	events  uint64
	nextJob scheduler.JobID
	running map[scheduler.BackendID]int
	arrived map[scheduler.JobID]scheduler.Instant
	audio   map[scheduler.JobID]float64
	settled func(job scheduler.JobID) // called after each
	took    []float64                 // response times in seconds, in order of settling
	picks   map[string]int            // by card name
	lost    int
}

func newWorld(t *testing.T, policy string, seed uint64, pool []card) *world {
	t.Helper()
	w := &world{
		t: t, pool: pool, byID: map[scheduler.BackendID]card{}, rnd: rand.New(rand.NewPCG(seed, 7)), sigma: 0.15,
		running: map[scheduler.BackendID]int{}, arrived: map[scheduler.JobID]scheduler.Instant{},
		audio: map[scheduler.JobID]float64{}, picks: map[string]int{}, settled: func(scheduler.JobID) {},
	}
	cfg := scheduler.Config{Policy: policy, Seed: seed}
	for i, c := range pool {
		id := scheduler.BackendID(c.name + "-" + string(rune('a'+i)))
		w.byID[id] = c
		cfg.Backends = append(cfg.Backends, scheduler.Backend{ID: id, Address: string(id), Class: c.name, Slots: 1})
	}
	var err error
	if w.core, err = scheduler.New(cfg, policies.ByName); err != nil {
		t.Fatal(err)
	}
	return w
}

// moment is a thing that will happen in the world; seq breaks ties.
type moment struct {
	at  scheduler.Instant
	seq uint64
	ev  scheduler.Event
}

type agenda []moment

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(moment)) }
func (a *agenda) Pop() any {
	x := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return x
}

func (w *world) at(t scheduler.Instant, ev scheduler.Event) {
	w.events++
	heap.Push(&w.agenda, moment{t, w.events, ev})
}

// arrive has a job of that much audio arrive at t.
func (w *world) arrive(t scheduler.Instant, audio float64) {
	w.nextJob++
	w.arrived[w.nextJob], w.audio[w.nextJob] = t, audio
	w.at(t, scheduler.Arrived{Job: scheduler.Job{ID: w.nextJob, Model: "base", AudioSeconds: audio}})
}

// run goes on until nothing happens any more.
func (w *world) run() {
	w.t.Helper()
	for len(w.agenda) > 0 {
		next := w.agenda[0].at
		if wake, ok := w.core.NextWake(); ok && wake < next {
			w.now = wake
			w.carryOut(w.core.Step(wake, scheduler.Ticked{}))
			continue
		}
		m := heap.Pop(&w.agenda).(moment)
		w.now = m.at
		w.carryOut(w.core.Step(m.at, m.ev))
	}
	if err := w.core.Invariants(); err != nil {
		w.t.Fatal(err)
	}
	if left := w.core.Snapshot(); left.Queued != 0 || left.Running != 0 {
		w.t.Fatalf("%d jobs still wait and %d run though nothing happens any more", left.Queued, left.Running)
	}
}

func (w *world) carryOut(decisions []scheduler.Decision) {
	for _, d := range slices.Clone(decisions) {
		switch d := d.(type) {
		case scheduler.Dispatch:
			c := w.byID[d.Backend]
			if w.running[d.Backend]++; w.running[d.Backend] > 1 {
				w.t.Fatalf("%s runs %d jobs on one slot", d.Backend, w.running[d.Backend])
			}
			w.picks[c.name]++
			noise := math.Exp(w.sigma*w.rnd.NormFloat64() - w.sigma*w.sigma/2) // of mean 1
			took := time.Duration(c.service(w.audio[d.Job]) * noise * 1e9)
			w.at(w.now.Add(took), scheduler.Finished{Attempt: d.Attempt, Outcome: scheduler.Outcome{
				Result: scheduler.Success, Words: true, AudioSeconds: w.audio[d.Job], Detail: string(d.Backend)}})
		case scheduler.Settle:
			if d.Backend != "" {
				w.running[d.Backend]--
			}
			if d.Reason != scheduler.Served {
				w.lost++
			}
			w.took = append(w.took, w.now.Sub(w.arrived[d.Job]).Seconds())
			w.settled(d.Job)
		}
	}
}

func mean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / float64(len(xs))
}

func quantile(xs []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(xs))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// length draws the audio of a job: lognormal with a median of 12 s and a heavy tail.
func length(rnd *rand.Rand) float64 {
	return min(3600, 12*math.Exp(1.2*rnd.NormFloat64()))
}
