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

// card is one GPU of the model of the scheduling notes: service time fixed + seconds of audio / rate, in
// seconds, for a job alone. Jobs side by side on its slots get gain jobs' worth done, at most.
type card struct {
	name        string
	fixed, rate float64
	slots       int
	gain        float64
}

func (c card) service(audio float64) float64 { return c.fixed + audio/c.rate }

// pace is how fast each of k jobs side by side runs, compared with one alone.
func (c card) pace(k int) float64 { return min(math.Pow(float64(k), 0.7), max(c.gain, 1)) / float64(k) }

func (c card) with(slots int, gain float64) card {
	c.slots, c.gain = slots, gain
	return c
}

var (
	t4   = card{"T4", 0.12, 18, 1, 1}
	a10g = card{"A10G", 0.08, 40, 1, 1}
	h100 = card{"H100", 0.05, 160, 1, 1}
)

// gpu is a card at work.
type gpu struct {
	card
	id      scheduler.BackendID
	fault   fault
	picks   int
	running []*work
	since   scheduler.Instant // when the works' left was last brought up to date
}

// fault is what a gpu does instead of its work.
type fault uint8

const (
	healthy   fault = iota
	blackHole       // answers 500 after 5 ms
	hung            // never answers
	gray            // takes twenty times as long
)

// work is an attempt on a gpu; left is in seconds alone.
type work struct {
	attempt scheduler.AttemptID
	job     scheduler.JobID
	left    float64
}

func (g *gpu) advance(now scheduler.Instant) {
	for _, w := range g.running {
		w.left -= now.Sub(g.since).Seconds() * g.pace(len(g.running))
	}
	g.since = now
}

// next is the work that will be done first, and when.
func (g *gpu) next() (first *work, at scheduler.Instant) {
	for _, w := range g.running {
		if first == nil || w.left < first.left {
			first = w
		}
	}
	if first == nil {
		return nil, math.MaxInt64
	}
	return first, g.since.Add(time.Duration(max(0, first.left) / g.pace(len(g.running)) * 1e9))
}

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
	gpus    []*gpu
	rnd     *rand.Rand
	sigma   float64 // of the log of the service time
	now     scheduler.Instant
	agenda  agenda
	events  uint64
	nextJob scheduler.JobID
	arrived map[scheduler.JobID]scheduler.Instant
	audio   map[scheduler.JobID]float64
	settled func(job scheduler.JobID) // called after each
	took    []float64                 // response times in seconds, in order of settling
	picks   map[string]int            // by card name
	lost    int
	// refusing: a full backend answers 503, rather than never being sent a job.
	refusing bool
}

func newWorld(t *testing.T, policy string, seed uint64, pool []card) *world {
	t.Helper()
	w := &world{
		t: t, rnd: rand.New(rand.NewPCG(seed, 7)), sigma: 0.15, arrived: map[scheduler.JobID]scheduler.Instant{},
		audio: map[scheduler.JobID]float64{}, picks: map[string]int{}, settled: func(scheduler.JobID) {},
	}
	cfg := scheduler.Config{Policy: policy, Seed: seed}
	for i, c := range pool {
		id := scheduler.BackendID(c.name + "-" + string(rune('a'+i)))
		w.gpus = append(w.gpus, &gpu{card: c, id: id})
		cfg.Backends = append(cfg.Backends, scheduler.Backend{ID: id, Address: string(id), Class: c.name, Slots: c.slots})
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
	w.send(t, scheduler.Job{AudioSeconds: audio})
}

// send has a job arrive at t.
func (w *world) send(t scheduler.Instant, j scheduler.Job) scheduler.JobID {
	w.nextJob++
	j.ID, j.Model = w.nextJob, "base"
	w.arrived[j.ID], w.audio[j.ID] = t, j.AudioSeconds
	w.at(t, scheduler.Arrived{Job: j})
	return j.ID
}

// run goes on until nothing happens any more.
func (w *world) run() {
	w.t.Helper()
	for {
		var busiest *gpu
		at := scheduler.Instant(math.MaxInt64)
		for _, g := range w.gpus {
			if _, done := g.next(); done < at {
				busiest, at = g, done
			}
		}
		if len(w.agenda) > 0 && w.agenda[0].at < at {
			busiest, at = nil, w.agenda[0].at
		}
		wake, ok := w.core.NextWake()
		if at == math.MaxInt64 && (!ok || w.core.Snapshot().Queued == 0) {
			break
		}
		if ok && wake < at {
			w.now = wake
			w.carryOut(w.core.Step(wake, scheduler.Ticked{}))
			continue
		}
		w.now = at
		if busiest == nil {
			w.carryOut(w.core.Step(at, heap.Pop(&w.agenda).(moment).ev))
		} else {
			w.finish(busiest)
		}
	}
	if err := w.core.Invariants(); err != nil {
		w.t.Fatal(err)
	}
	if left := w.core.Snapshot(); left.Queued != 0 || left.Running != 0 {
		w.t.Fatalf("%d jobs still wait and %d run though nothing happens any more", left.Queued, left.Running)
	}
}

// finish ends the work that is done first on a gpu.
func (w *world) finish(g *gpu) {
	g.advance(w.now)
	done, _ := g.next()
	g.running = slices.DeleteFunc(g.running, func(o *work) bool { return o == done })
	w.carryOut(w.core.Step(w.now, scheduler.Finished{Attempt: done.attempt, Outcome: scheduler.Outcome{
		Result: scheduler.Success, Words: true, AudioSeconds: w.audio[done.job]}}))
}

func (w *world) carryOut(decisions []scheduler.Decision) {
	for _, d := range slices.Clone(decisions) {
		switch d := d.(type) {
		case scheduler.Dispatch:
			g := w.gpus[slices.IndexFunc(w.gpus, func(g *gpu) bool { return g.id == d.Backend })]
			g.advance(w.now)
			w.picks[g.name]++
			g.picks++
			failed := scheduler.Finished{Attempt: d.Attempt, Outcome: scheduler.Outcome{Result: scheduler.Failed}}
			switch g.fault {
			case blackHole:
				w.at(w.now.Add(5*time.Millisecond), failed)
				continue
			case hung:
				w.at(w.now.Add(d.Timeout), failed)
				continue
			}
			noise := math.Exp(w.sigma*w.rnd.NormFloat64() - w.sigma*w.sigma/2) // of mean 1
			if g.fault == gray {
				noise *= 20
			}
			if len(g.running) == g.slots {
				if !w.refusing {
					w.t.Fatalf("%s is sent a job and has no free slot of %d", d.Backend, g.slots)
				}
				w.at(w.now.Add(5*time.Millisecond), scheduler.Finished{Attempt: d.Attempt, Outcome: scheduler.Outcome{Result: scheduler.Busy}})
				continue
			}
			g.running = append(g.running, &work{d.Attempt, d.Job, g.service(w.audio[d.Job]) * noise})
		case scheduler.Settle:
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
