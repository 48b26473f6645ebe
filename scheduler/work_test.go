package scheduler_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// played drives a scheduler in virtual time; each attempt takes exactly what was predicted when it was placed.
type played struct {
	t       *testing.T
	core    *scheduler.Scheduler
	now     scheduler.Instant
	running []scheduler.Dispatch
	ends    map[scheduler.AttemptID]scheduler.Instant
	started []scheduler.JobID // in order
	at      map[scheduler.JobID]scheduler.Instant
	log     []string
	look    bool // at the work after each step
}

func play(t *testing.T, cfg scheduler.Config) *played {
	t.Helper()
	core, err := scheduler.New(cfg, policies.ByName)
	if err != nil {
		t.Fatal(err)
	}
	return &played{t: t, core: core, ends: map[scheduler.AttemptID]scheduler.Instant{}, at: map[scheduler.JobID]scheduler.Instant{}}
}

func (p *played) step(ev scheduler.Event) {
	for _, d := range p.core.Step(p.now, ev) {
		p.log = append(p.log, fmt.Sprintf("%v %+v", time.Duration(p.now), d))
		if d, ok := d.(scheduler.Dispatch); ok {
			p.running = append(p.running, d)
			p.ends[d.Attempt] = p.now.Add(d.Predicted)
			p.started, p.at[d.Job] = append(p.started, d.Job), p.now
		}
	}
	if p.look {
		p.core.WorkAt(p.now.Add(time.Millisecond), 1000)
	}
}

func (p *played) arrive(jobs ...scheduler.Job) {
	for _, j := range jobs {
		p.step(scheduler.Arrived{Job: j})
	}
}

// finish goes on until nothing runs any more.
func (p *played) finish() {
	for len(p.running) > 0 {
		slices.SortStableFunc(p.running, func(a, b scheduler.Dispatch) int { return int(p.ends[a.Attempt] - p.ends[b.Attempt]) })
		d := p.running[0]
		if wake, ok := p.core.NextWake(); ok && wake < p.ends[d.Attempt] {
			p.now = wake
			p.step(scheduler.Ticked{})
			continue
		}
		p.running, p.now = p.running[1:], max(p.now, p.ends[d.Attempt])
		p.step(scheduler.Finished{Attempt: d.Attempt, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
	}
}

func sameSpeed(slots int, ids ...scheduler.BackendID) (out []scheduler.Backend) {
	for _, id := range ids {
		out = append(out, scheduler.Backend{ID: id, Class: "T4", Slots: slots, Prior: scheduler.Law{PerSecond: 100 * time.Millisecond}})
	}
	return out
}

// TestForecast: where speeds are as predicted, the jobs that wait start in the order and at the times that were
// foretold.
func TestForecast(t *testing.T) {
	job := func(i int) scheduler.Job {
		return scheduler.Job{ID: scheduler.JobID(i + 1), Model: "base", AudioSeconds: float64(10 + 7*i%40)}
	}
	for name, c := range map[string]struct {
		backends []scheduler.Backend
		job      func(i int) scheduler.Job
	}{
		"one after the other": {sameSpeed(1, "a"), job},
		"two equal ones":      {sameSpeed(1, "a", "b"), job},
		"bands": {sameSpeed(1, "a"), func(i int) scheduler.Job {
			j := job(i)
			j.Priority = []scheduler.Priority{scheduler.Batch, scheduler.Default, scheduler.Interactive}[i%3]
			return j
		}},
		"tenants, of whom one sends most": {sameSpeed(1, "a"), func(i int) scheduler.Job {
			j := job(i)
			j.Tenant = scheduler.Tenant(1 + max(0, i-8))
			return j
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := play(t, scheduler.Config{Backends: c.backends})
			for i := range 16 {
				p.arrive(c.job(i))
			}
			work := p.core.WorkAt(p.now, 100)
			if len(work.Running) != len(c.backends) || len(work.Waiting) != 16-len(c.backends) {
				t.Fatalf("%d run and %d wait", len(work.Running), len(work.Waiting))
			}
			p.finish()
			for i, w := range work.Waiting {
				if got := p.started[len(c.backends)+i]; got != w.Job {
					t.Errorf("job %d was to start at place %d, and %d did; all: %v", w.Job, i, got, p.started)
					break
				}
				if off := p.at[w.Job].Sub(0) - w.StartsIn; !w.Known || max(off, -off) > 50*time.Millisecond {
					t.Errorf("job %d started at %v, foretold were %v (%v)", w.Job, time.Duration(p.at[w.Job]), w.StartsIn, w.Known)
				}
			}
		})
	}
}

// TestWorkTellsWhatRunsAndWaits: each attempt with its job, and jobs without a prediction where there can be none.
func TestWorkTellsWhatRunsAndWaits(t *testing.T) {
	backends := append(sameSpeed(1, "a"), scheduler.Backend{ID: "strange", Models: []string{"large"}, Slots: 1})
	p := play(t, scheduler.Config{Backends: backends})
	base := scheduler.Job{ID: 1, Model: "base", AudioSeconds: 20}
	large := scheduler.Job{ID: 2, Model: "large", Bytes: 320_000, Priority: scheduler.Batch}
	p.arrive(base, large)
	p.now = p.now.Add(500 * time.Millisecond)
	base.ID, large.ID = 3, 4
	p.arrive(base, large, scheduler.Job{ID: 5, Model: "large", AudioSeconds: 5}, scheduler.Job{ID: 6, Model: "large", AudioSeconds: 5})
	p.now = p.now.Add(time.Second)
	got := p.core.WorkAt(p.now, 3)
	wantRunning := []scheduler.Running{
		{Attempt: 1, Job: 1, Backend: "a", Model: "base", AudioSeconds: 20, For: 1500 * time.Millisecond, Predicted: 2 * time.Second, Number: 1},
		{Attempt: 2, Job: 2, Backend: "strange", Model: "large", AudioSeconds: 20, SizeGuessed: true, For: 1500 * time.Millisecond,
			Predicted: 1800 * time.Millisecond, Number: 1}, // nothing is known of it: a little faster than the fastest
	}
	if !reflect.DeepEqual(got.Running, wantRunning) {
		t.Errorf("running %+v\nwant %+v", got.Running, wantRunning)
	}
	if len(got.Waiting) != 3 {
		t.Fatalf("waiting %+v", got.Waiting)
	}
	first := got.Waiting[0]
	if first.Job != 3 || first.Backend != "a" || first.StartsIn != 500*time.Millisecond || first.Takes != 2*time.Second || first.Waited != time.Second {
		t.Errorf("the first is %+v", first)
	}
	p.step(scheduler.Probed{Backend: "a"})
	p.step(scheduler.Probed{Backend: "a"})
	for _, w := range p.core.WorkAt(p.now, 10).Waiting {
		if w.Known || w.Backend != "" {
			t.Errorf("job %d is to be served by %q, which is down or not known: %+v", w.Job, w.Backend, w)
		}
	}
}

// TestWorkTellsHedges: of two attempts of one job the later one is marked, and each has its number.
func TestWorkTellsHedges(t *testing.T) {
	p := play(t, scheduler.Config{Backends: sameSpeed(1, "a", "b"), Hedge: true})
	for i := range 60 {
		p.arrive(scheduler.Job{ID: scheduler.JobID(i + 1), Model: "base", AudioSeconds: 10})
		if i%2 == 1 {
			p.finish()
		}
	}
	p.arrive(scheduler.Job{ID: 100, Model: "base", AudioSeconds: 10})
	for wakes := 0; len(p.running) < 2; wakes++ {
		wake, ok := p.core.NextWake()
		if !ok || wakes == 1000 {
			t.Fatal("the job is never started a second time")
		}
		p.now = wake
		p.step(scheduler.Ticked{})
	}
	var told []string
	for _, r := range p.core.WorkAt(p.now, 1).Running {
		told = append(told, fmt.Sprint(r.Job, r.Number, r.Hedge))
	}
	slices.Sort(told)
	if !slices.Equal(told, []string{"100 1 false", "100 2 true"}) {
		t.Errorf("running %v", told)
	}
}

// TestWorkChangesNothing: a scheduler that is looked at decides as one that is not.
func TestWorkChangesNothing(t *testing.T) {
	var logs [2][]string
	for i, look := range []bool{false, true} {
		p := play(t, scheduler.Config{Backends: append(sameSpeed(2, "a", "b"), scheduler.Backend{ID: "c"}), Hedge: true, Trials: true,
			Queue: scheduler.Queue{Order: scheduler.ShortestFirst}})
		p.look = look
		for i := range 60 {
			p.arrive(scheduler.Job{ID: scheduler.JobID(i + 1), Model: []string{"base", "large"}[i%2], AudioSeconds: float64(3 + 11*i%50),
				Priority: scheduler.Priority(i % 3), Tenant: scheduler.Tenant(i % 5)})
			p.now = p.now.Add(30 * time.Millisecond)
		}
		p.finish()
		if err := p.core.Invariants(); err != nil {
			t.Error(err)
		}
		logs[i] = p.log
	}
	if len(logs[0]) < 120 || !slices.Equal(logs[0], logs[1]) {
		t.Errorf("%d decisions without a look, %d with", len(logs[0]), len(logs[1]))
		for i := range min(len(logs[0]), len(logs[1])) {
			if logs[0][i] != logs[1][i] {
				t.Fatalf("the first that differs:\n%s\n%s", logs[0][i], logs[1][i])
			}
		}
	}
}

// BenchmarkWork is what a status page costs: a hundred backends with eight jobs each, ten thousand that wait.
func BenchmarkWork(b *testing.B) {
	for _, tenants := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d tenants", tenants), func(b *testing.B) {
			var cfg scheduler.Config
			for i := range 100 {
				cfg.Backends = append(cfg.Backends, sameSpeed(8, scheduler.BackendID(fmt.Sprint(i)))...)
			}
			core, err := scheduler.New(cfg, policies.ByName)
			if err != nil {
				b.Fatal(err)
			}
			for i := range 10_800 {
				core.Step(0, scheduler.Arrived{Job: scheduler.Job{ID: scheduler.JobID(i + 1), Model: "base", AudioSeconds: 10, Tenant: scheduler.Tenant(i % tenants)}})
			}
			b.ReportAllocs()
			for b.Loop() {
				core.WorkAt(0, 50)
			}
		})
	}
}
