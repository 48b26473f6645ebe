package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// probeEvery is how often a backend's health is asked for, as by the proxy.
const probeEvery = 5 * time.Second

// core is the scheduler that serves in production, as the front of a simulation.
type core struct {
	e         *engine
	scheduler *scheduler.Scheduler
	byID      map[scheduler.BackendID]*card
	works     map[scheduler.AttemptID]*work
	checkers  []Checker
	broken    []string
	steps     uint64

	reasons [scheduler.Hedging + 1]int
	ratios  []float64 // actual / predicted service time
	changes []*speedChange
}

// speedChange watches how long it takes until a card's new speed is known.
type speedChange struct {
	SpeedChange
	card   *card
	at     scheduler.Instant
	before time.Duration // prediction for ten seconds before it
}

// checkEvery is after how many steps the core's own books are looked at.
const checkEvery = 1000

func newCore(e *engine, watch []Checker) (*core, error) {
	c := &core{e: e, byID: map[scheduler.BackendID]*card{}, works: map[scheduler.AttemptID]*work{}}
	cfg := c.config()
	var err error
	if c.scheduler, err = scheduler.New(cfg, policies.ByName); err != nil {
		return nil, err
	}
	c.checkers = append(ownCheckers(cfg), watch...)
	c.remind()
	for _, g := range e.cards {
		c.byID[scheduler.BackendID(g.Name)] = g
		c.step(scheduler.Probed{Backend: scheduler.BackendID(g.Name), Healthy: !g.condition.away()})
		c.probeLater(g)
	}
	return c, nil
}

// config is what the scheduler is told of the pool.
func (c *core) config() scheduler.Config {
	if c.e.sc.Recorded != nil {
		return c.recordedConfig()
	}
	cfg := scheduler.Config{Policy: c.e.sc.Policy, Seed: c.e.sc.Seed, Trials: true, Queue: scheduler.Queue{MaxWait: c.e.sc.MaxWait}}
	for i, g := range c.e.cards {
		b := scheduler.Backend{
			ID: scheduler.BackendID(g.Name), Address: g.Name, Class: g.Class, Slots: g.Slots,
			Models: []string{c.e.sc.Model}, Checked: true, Prior: c.prior(i),
		}
		if c.e.sc.Discover {
			b.Slots, b.Discover = 0, true
		}
		cfg.Backends = append(cfg.Backends, b)
	}
	return cfg
}

// prior is what the scheduler is told of a card's speed.
func (c *core) prior(i int) scheduler.Law {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	g := c.e.cards[i]
	fixed, perSecond, known := gpu.Prior(g.Class, c.e.sc.Model)
	switch {
	case c.e.sc.Told == ToldLaw && g.Law != nil:
		return scheduler.Law{Fixed: seconds(g.Law.Fixed), PerSecond: seconds(g.Law.PerSecond)}
	case c.e.sc.Told != ToldNothing && known:
		return scheduler.Law{Fixed: fixed, PerSecond: perSecond}
	}
	return scheduler.Law{}
}

// step drives the scheduler, has what it decides checked, and carries it out.
func (c *core) step(ev scheduler.Event) {
	decisions := c.scheduler.Step(c.e.now, ev)
	for _, ch := range c.checkers {
		if err := ch.Observed(c.e.now, ev, decisions); err != nil {
			c.complain(err)
		}
	}
	if c.steps++; c.steps%checkEvery == 0 {
		c.check()
	}
	for _, d := range decisions {
		switch d := d.(type) {
		case scheduler.Dispatch:
			c.dispatch(d)
		case scheduler.Abort:
			c.abort(c.works[d.Attempt])
		case scheduler.Settle:
			c.e.settle(c.e.jobOf(d.Job), d.Reason == scheduler.Served)
		case scheduler.Probe:
			c.probe(c.byID[d.Backend])
		}
	}
}

func (c *core) check() {
	if err := c.scheduler.Invariants(); err != nil {
		c.complain(err)
	}
}

// complain notes a violated contract.
func (c *core) complain(err error) {
	c.broken = append(c.broken, fmt.Sprintf("%v: %v", time.Duration(c.e.now), err))
}

func (c *core) arrive(j *job) {
	if j.recorded != nil {
		c.step(scheduler.Arrived{Job: c.recordedJob(j)})
		return
	}
	from := c.e.sc.sender(j.number)
	c.step(scheduler.Arrived{Job: scheduler.Job{
		ID: j.id(), Model: c.e.sc.Model, AudioSeconds: j.told, Tenant: from.Tenant, Priority: from.Priority,
	}})
}

func (c *core) dispatch(d scheduler.Dispatch) {
	g := c.byID[d.Backend]
	w := &work{attempt: d.Attempt, predicted: d.Predicted, reason: d.Reason}
	if d.Trial {
		w.job = c.e.trial(g.index)
	} else {
		w.job = c.e.jobOf(d.Job)
	}
	c.works[d.Attempt] = w
	c.reasons[d.Reason]++
	c.e.send(g, w)
	if d.Timeout > 0 {
		c.e.giveUp(w, d.Timeout, "timed out")
	}
}

// abort ends an attempt as a server does that sees its client leave: at once.
func (c *core) abort(w *work) {
	c.e.agenda.at(c.e.now, func() {
		if !w.ended {
			w.card.drop(c.e.now, w)
			c.ended(w, scheduler.Outcome{Result: scheduler.Aborted})
		}
	})
}

func (c *core) ended(w *work, how scheduler.Outcome) {
	delete(c.works, w.attempt)
	if how.Result == scheduler.Success && w.predicted > 0 && !w.job.trial() && c.e.began && !c.e.closed {
		c.ratios = append(c.ratios, c.e.now.Sub(w.sent).Seconds()/w.predicted.Seconds())
	}
	c.step(scheduler.Finished{Attempt: w.attempt, Outcome: how})
	for _, change := range c.changes {
		if !change.Found && change.card == w.card && w.sent >= change.at && how.Result == scheduler.Success {
			change.Jobs++
			now := c.tenSeconds(w.card)
			change.Found = math.Abs(float64(now)/(float64(change.before)*change.Factor)-1) <= speedFound
		}
	}
}

// tenSeconds is what the scheduler expects of a clip of ten seconds on a card, 0 when it knows nothing.
func (c *core) tenSeconds(g *card) time.Duration {
	for _, b := range c.scheduler.Snapshot().Backends {
		if b.ID == scheduler.BackendID(g.Name) && len(b.Speeds) > 0 {
			return b.Speeds[0].TenSeconds
		}
	}
	return 0
}

func (c *core) measure() { c.reasons = [scheduler.Hedging + 1]int{} }

// changed watches a card whose speed is another from now on.
func (c *core) changed(g *card) {
	if c.e.sc.Recorded != nil {
		c.probe(g) // it is then that the proxy's check noticed
		return
	}
	factor := 1.0
	if g.condition == Slow {
		factor = g.factor
	}
	for _, earlier := range c.changes {
		if earlier.card == g {
			factor /= earlier.Factor // relative to the speed before
		}
	}
	before := c.tenSeconds(g)
	if before == 0 || factor == 1 || g.condition != Slow && g.condition != Healthy {
		return
	}
	c.changes = append(c.changes, &speedChange{card: g, at: c.e.now, before: before, SpeedChange: SpeedChange{
		Card: g.Name, At: c.e.now.Sub(c.e.start).Seconds(), Factor: factor,
	}})
}

func (c *core) wake() (scheduler.Instant, bool) { return c.scheduler.NextWake() }
func (c *core) awake()                          { c.step(scheduler.Ticked{}) }
func (c *core) finds() bool                     { return true }

// probeLater asks for a card's health at every interval.
func (c *core) probeLater(g *card) {
	c.e.agenda.at(c.e.now.Add(probeEvery), func() {
		c.step(scheduler.Probed{Backend: scheduler.BackendID(g.Name), Healthy: !g.condition.away()})
		c.probeLater(g)
	})
}

// probe asks for it now.
func (c *core) probe(g *card) {
	c.e.agenda.at(c.e.now.Add(refusedAfter), func() {
		c.step(scheduler.Probed{Backend: scheduler.BackendID(g.Name), Healthy: !g.condition.away()})
	})
}

func (c *core) finish() []string {
	c.check()
	for _, ch := range c.checkers {
		if err := ch.Ended(c.scheduler.Snapshot()); err != nil {
			c.complain(err)
		}
	}
	return c.broken
}

func (c *core) describe(r *Result) {
	r.Told = c.e.sc.Told
	for _, reason := range scheduler.Reasons {
		if n := c.reasons[reason]; n > 0 {
			r.Reasons = append(r.Reasons, Count{reason.String(), n})
		}
	}
	if len(c.ratios) > 0 {
		q := quantiles(c.ratios)
		r.Prediction = &Prediction{Jobs: len(c.ratios), P10: q(0.1), P50: q(0.5), P90: q(0.9)}
	}
	for i, b := range c.scheduler.Snapshot().Backends {
		r.Backends[i].Slots = b.Slots
	}
	for _, change := range c.changes {
		r.SpeedChanges = append(r.SpeedChanges, change.SpeedChange)
	}
}
