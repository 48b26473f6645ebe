package sim

import (
	"math"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim/recording"
)

// Replay is the study of a recording: its jobs at their times, on cards that follow the laws that were measured,
// which go and come as they did. A job takes on each card what that card's law says, times its own luck, so that on
// the card that did it it takes what it took. Failures of attempts are not repeated.
//
// The scheduler is told what the proxy was told (Told is ToldNothing): the priors of the configuration, and the
// speeds that were known when the first job came.
func Replay(w *recording.Workload) Study {
	st := Study{Levels: []float64{1}, Seeds: 1}
	st.Scenario = Scenario{Policy: orElse(w.Config.Policy, policies.Default), Told: ToldNothing, Recorded: w, Jobs: len(w.Jobs), Seed: w.Config.Seed}
	for i := range w.Cards {
		c := &w.Cards[i]
		if !slices.ContainsFunc(w.Classes, c.Can) {
			continue // nothing that came is for it
		}
		name := string(c.Backend.ID)
		st.Cards = append(st.Cards, Card{Name: name, Class: c.Backend.Class, Slots: c.Backend.Slots, Gain: c.Gain, Recorded: c})
		for n, at := range c.Away {
			becomes := Gone
			if n%2 == 1 {
				becomes = Healthy
			}
			st.Faults = append(st.Faults, Fault{At: at, Card: name, Becomes: becomes})
		}
	}
	return st
}

// away says whether a card takes no jobs.
func (c Condition) away() bool { return c == Dead || c == Gone }

// lawsOf are a recorded card's laws by class of jobs; where it does not do them a job takes for ever.
func lawsOf(c *recording.Card, classes []recording.Class) []recording.MeasuredLaw {
	laws := make([]recording.MeasuredLaw, len(classes))
	for i, class := range classes {
		laws[i] = c.Laws[class.Model]
		if !c.Can(class) {
			laws[i] = recording.MeasuredLaw{Fixed: math.Inf(1)}
		}
	}
	return laws
}

// able says by class and card who does which jobs.
func (w *workload) able() [][]bool {
	able := make([][]bool, len(w.sc.Recorded.Classes))
	for class := range able {
		for _, laws := range w.recorded {
			able[class] = append(able[class], !math.IsInf(laws[class].Fixed, 1))
		}
	}
	return able
}

// class is that of a recorded job, 0 of others.
func (j *job) class() int {
	if j.recorded == nil {
		return 0
	}
	return int(j.recorded.Class)
}

// recordedLoad has the jobs of a recording arrive when they did.
type recordedLoad struct {
	e    *engine
	next int
}

func (r *recordedLoad) begin() {
	jobs := r.e.sc.Recorded.Jobs
	if r.next == len(jobs) {
		return
	}
	r.e.agenda.at(scheduler.Instant(jobs[r.next].At), func() {
		r.next++
		r.e.arriveNext()
		r.begin()
	})
}

func (r *recordedLoad) settled(*job)    {}
func (r *recordedLoad) exhausted() bool { return r.next == len(r.e.sc.Recorded.Jobs) }

// beginGone has cards begin gone that were not there when the first job came.
func (e *engine) beginGone() {
	for _, f := range e.sc.Faults {
		if f.Becomes != Gone || f.At > 0 {
			continue
		}
		for _, c := range e.cards {
			if c.Name == f.Card {
				c.condition = Gone
			}
		}
	}
}

// recordedConfig is the proxy's, with the scenario's policy and cards.
func (c *core) recordedConfig() scheduler.Config {
	cfg := c.e.sc.Recorded.Config
	cfg.Policy, cfg.Seed = c.e.sc.Policy, c.e.sc.Seed
	for _, g := range c.e.cards {
		b := g.Recorded.Backend
		if name := scheduler.BackendID(g.Name); b.ID != name { // another one like it
			b.ID, b.Address = name, g.Name
		}
		b.Slots, b.Checked, b.Drained = g.Slots, true, false
		if c.e.sc.Told == ToldLaw {
			b.Prior, b.Priors = scheduler.Law{}, map[string]scheduler.Law{}
			for model, law := range g.Recorded.Laws {
				b.Priors[model] = scheduler.Law{Fixed: duration(law.Fixed), PerSecond: duration(law.PerSecond)}
			}
		}
		cfg.Backends = append(cfg.Backends, b)
	}
	return cfg
}

// remind tells the scheduler what the proxy knew when the first recorded job came, and what the backends said.
func (c *core) remind() {
	r := c.e.sc.Recorded
	if r == nil {
		return
	}
	if c.e.sc.Told != ToldLaw && len(r.Speeds) > 0 {
		c.step(scheduler.Restored{Speeds: r.Speeds})
	}
	for _, g := range c.e.cards {
		load := g.Recorded.Load
		if load.Slots = 0; scheduler.BackendID(g.Name) != g.Recorded.Backend.ID {
			load.Instance = ""
		}
		c.step(scheduler.Reported{Backend: scheduler.BackendID(g.Name), Load: load})
	}
}

func (c *core) recordedJob(j *job) scheduler.Job {
	r := j.recorded
	told := scheduler.Job{
		ID: j.id(), Model: c.e.sc.Recorded.Classes[r.Class].Model, Needs: c.e.sc.Recorded.Classes[r.Class].Needs,
		AudioSeconds: r.Told, SizeGuessed: r.Guessed, Bytes: r.Bytes, Priority: r.Priority, Tenant: r.Tenant,
	}
	if r.Deadline > 0 {
		told.Deadline = c.e.now.Add(r.Deadline)
	}
	return told
}

// leave has the scheduler know that a job's client has gone.
func (c *core) leave(j *job) { c.step(scheduler.Canceled{Job: j.id()}) }

// pricedMax is how many jobs of a recording prices are found with. Any prices give a bound that holds; those of a
// sample give one that is hardly lower.
const pricedMax = 20_000

// priced are the measured jobs that prices are found with: those that some card does, and of a long recording each
// so many-th.
func (e *engine) priced() []*job {
	if e.sc.Recorded == nil {
		return e.measured
	}
	possible := e.possible()
	step := max(1, (len(possible)+pricedMax-1)/pricedMax)
	var some []*job
	for i := 0; i < len(possible); i += step {
		some = append(some, possible[i])
	}
	return some
}

// possible are the measured jobs that some card does.
func (e *engine) possible() []*job {
	able := e.able()
	return slices.DeleteFunc(slices.Clone(e.measured), func(j *job) bool { return !slices.Contains(able[j.class()], true) })
}

// recordedBound is the highest of the bounds that hold for any arrivals.
func (e *engine) recordedBound(p *prices) Bound {
	jobs := e.possible()
	if len(jobs) == 0 {
		return Bound{Kind: BoundFastest}
	}
	b := Bound{Kind: BoundFastest, Throughput: p.throughput(e.atOnce())}
	for _, j := range jobs {
		least := math.Inf(1)
		for _, card := range p.kinds {
			least = min(least, e.alone(card, j))
		}
		b.Mean += least / float64(len(jobs))
	}
	if mean := p.pooled(jobs); mean > b.Mean {
		b.Kind, b.Mean = BoundPooled, mean
	}
	return b
}

// finiteMean leaves out what is infinite; 1 where all is.
func finiteMean(xs []float64) float64 {
	sum, n := 0.0, 0
	for _, x := range xs {
		if !math.IsInf(x, 1) {
			sum, n = sum+x, n+1
		}
	}
	if n == 0 {
		return 1
	}
	return sum / float64(n)
}

// jobsAtATime bounds how many jobs of recordings are in memory, over all runs that go on side by side.
const jobsAtATime = 1_000_000

// atATime is how many of the scenarios may run side by side.
func atATime(scenarios []Scenario) int {
	if len(scenarios) == 0 || scenarios[0].Recorded == nil {
		return math.MaxInt
	}
	return max(1, jobsAtATime/max(1, scenarios[0].Jobs))
}

// Recorded is what a recording measured, as a result beside those of simulations: only the jobs, their response
// times and their errors.
func Recorded(r *recording.Review) Result {
	span := 0.0
	if n := len(r.Workload.Jobs); n > 0 {
		span = (r.Workload.Jobs[n-1].At + time.Nanosecond).Seconds()
	}
	left := r.Settled[scheduler.ClientGone.String()]
	return Result{
		Policy: "as recorded", Jobs: r.Jobs, Left: left, Errors: r.Jobs - r.Response.N - left - r.Open, Elapsed: span,
		Mean: r.Response.Mean, P50: r.Response.P50, P95: r.Response.P95, P99: r.Response.P99, Max: r.Response.Max, Wait: r.Waiting.Mean,
	}
}
