package scheduler_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// chaos sends whatever events its source of bytes says, as a driver that keeps its part of the contract,
// and checks from outside that the scheduler keeps its own.
type chaos struct {
	t         testing.TB
	core      *scheduler.Scheduler
	next      func() byte
	now       scheduler.Instant
	lastJob   scheduler.JobID
	slots     map[scheduler.BackendID]int // as configured; 0 for those that went
	used      map[scheduler.BackendID]int
	running   []running // attempts, in order of dispatch
	trials    bool      // may be decided
	hedge     bool      // jobs may run twice
	perTenant int       // jobs of a tenant that may wait
	jobs      map[scheduler.JobID]*fate
	log       strings.Builder
	observed  func(scheduler.Event, []scheduler.Decision)
	first     scheduler.Config
}

type running struct {
	id      scheduler.AttemptID
	job     scheduler.JobID
	backend scheduler.BackendID
	aborted bool
}

// fate is what a checker knows of a job.
type fate struct {
	tenant    scheduler.Tenant
	attempts  int // running
	settled   bool
	canceled  bool
	committed bool
	failedAt  scheduler.Instant // the last failure,
	failedOn  scheduler.BackendID
}

func newChaos(t testing.TB, next func() byte) *chaos {
	c := &chaos{
		t: t, next: next, used: map[scheduler.BackendID]int{}, jobs: map[scheduler.JobID]*fate{},
		observed: func(scheduler.Event, []scheduler.Decision) {},
	}
	c.first = c.config()
	var err error
	if c.core, err = scheduler.New(c.first, policies.ByName); err != nil {
		t.Fatal(err)
	}
	return c
}

// config is any valid configuration.
func (c *chaos) config() scheduler.Config {
	names := policies.Names()
	cfg := scheduler.Config{
		Policy: names[int(c.next())%len(names)], Attempts: int(c.next()) % 4, Seed: uint64(c.next()),
		Queue:   scheduler.Queue{MaxRequests: int(c.next()) % 20, MaxWait: time.Duration(c.next()) * time.Second, MaxBytes: int64(c.next()) * 100},
		Breaker: scheduler.Breaker{Failures: int(c.next()) % 3},
	}
	y := c.next()
	cfg.Trials, cfg.Hedge, cfg.Breaker.SlowFactor = y%2 == 0, y/2%2 == 0, float64(y%4)
	if cfg.Breaker.SlowFactor == 1 {
		cfg.Breaker.SlowFactor = 1.5
	}
	cfg.RetryBudget = float64(y%8) / 8
	c.trials, c.hedge = cfg.Trials, cfg.Hedge
	x := c.next()
	cfg.Queue.MaxPerTenant = int(x) % 4
	cfg.Queue.Order = []scheduler.Order{"", scheduler.FIFO, scheduler.ShortestFirst}[x/4%3]
	c.perTenant = cfg.Queue.MaxPerTenant
	c.slots = map[scheduler.BackendID]int{}
	for i := range int(c.next()) % 6 {
		b := scheduler.Backend{ID: scheduler.BackendID(fmt.Sprintf("b%d", i)), Address: "x", Slots: 1 + int(c.next())%3}
		switch c.next() % 8 {
		case 0:
			b.Checked = true
		case 1:
			b.Models = []string{"base"}
		case 2:
			b.Class = "T4"
		case 3:
			b.Prior = scheduler.Law{Fixed: 100 * time.Millisecond, PerSecond: 10 * time.Millisecond}
			b.Priors = map[string]scheduler.Law{"large-v3": {PerSecond: time.Duration(c.next()) * time.Millisecond}}
		case 4:
			b.Address = "y"
		case 5:
			b.Slots, b.Discover = 0, true
		case 6:
			b.Drained = true
		}
		cfg.Backends = append(cfg.Backends, b)
		if c.slots[b.ID] = b.Slots; b.Discover {
			c.slots[b.ID] = 64
		}
	}
	return cfg
}

// event makes one event of a few bytes.
func (c *chaos) event() scheduler.Event {
	backend := scheduler.BackendID(fmt.Sprintf("b%d", c.next()%6))
	switch k := c.next() % 16; {
	case k < 5:
		c.lastJob++
		j := scheduler.Job{ID: c.lastJob, Model: "base", AudioSeconds: float64(c.next()), Bytes: int64(c.next())}
		if x := c.next(); x%8 == 0 {
			j.Model = "large-v3"
		} else if x%8 == 1 {
			j.Deadline = c.now.Add(time.Duration(x) * time.Second / 10)
		} else if x%8 == 2 {
			j.Needs = scheduler.CanWords
		}
		x := c.next()
		j.Priority, j.Tenant, j.SizeGuessed = scheduler.Priority(x%3), scheduler.Tenant(x/3%4), x/12%4 == 0
		if x == 255 {
			j.AudioSeconds = math.NaN()
		}
		c.jobs[j.ID] = &fate{tenant: j.Tenant}
		return scheduler.Arrived{Job: j}
	case k < 6:
		return scheduler.Canceled{Job: 1 + scheduler.JobID(c.next())%(c.lastJob+1)}
	case k < 11:
		if len(c.running) > 0 {
			return c.finish(int(c.next()) % len(c.running))
		}
	case k == 11:
		if len(c.running) > 0 {
			a := c.running[int(c.next())%len(c.running)]
			if !a.aborted && a.job > 0 { // its dispatcher would not ask
				c.jobs[a.job].committed = true
				return scheduler.Committed{Attempt: a.id}
			}
		}
	case k == 12:
		x := c.next() % 3
		return scheduler.Probed{Backend: backend, Healthy: x == 0, Loading: x == 1}
	case k == 13:
		x := c.next()
		return scheduler.Reported{Backend: backend, Load: scheduler.Load{Instance: string('a' + rune(x%3)), Models: [][]string{nil, {"base"}, {"base", "large-v3"}}[x%3]}}
	case k == 14:
		switch c.next() % 8 {
		case 0, 1:
			return scheduler.Configured{Config: c.config()}
		case 2: // of itself, or of another instance
			speeds := c.core.Speeds()
			for i := range speeds {
				if x := c.next(); x%2 == 0 {
					speeds[i].Instance = string('a' + rune(x%3))
					speeds[i].Learned.Levels[0].Theta *= float64(x) // 0 makes no sense
				}
			}
			return scheduler.Restored{Speeds: speeds}
		}
	}
	return scheduler.Ticked{}
}

func (c *chaos) finish(i int) scheduler.Event {
	a := c.running[i]
	c.running = slices.Delete(c.running, i, i+1)
	c.used[a.backend]--
	f := c.jobs[a.job]
	if f == nil {
		f = new(fate) // of a trial
	}
	f.attempts--
	o := scheduler.Outcome{Result: scheduler.Success, Words: c.next()%4 != 0, AudioSeconds: float64(c.next() % 100)}
	x := c.next()
	if x%2 == 0 {
		o.Result = scheduler.Results[int(x/2)%len(scheduler.Results)]
		o.RetryAfter = time.Duration(x) * time.Second
	}
	if a.aborted && x%3 != 0 {
		o.Result = scheduler.Aborted
	} else if o.Result == scheduler.Aborted {
		o.Result = scheduler.Died
	}
	if o.Result == scheduler.Failed || o.Result == scheduler.Died {
		f.failedAt, f.failedOn = c.now, a.backend
	}
	return scheduler.Finished{Attempt: a.id, Outcome: o}
}

// step sends an event and checks the decisions.
func (c *chaos) step(ev scheduler.Event) {
	decisions := c.core.Step(c.now, ev)
	c.observed(ev, decisions)
	fmt.Fprintf(&c.log, "%v %T\n", time.Duration(c.now), ev)
	switch e := ev.(type) {
	case scheduler.Canceled:
		if f := c.jobs[e.Job]; f != nil {
			f.canceled = true
		}
	case scheduler.Configured: // a backend that went and came back is another one
		for _, f := range c.jobs {
			f.failedOn = ""
		}
	}
	for _, d := range decisions {
		fmt.Fprintf(&c.log, "  %s\n", describe(d))
		c.check(d)
	}
	committed := map[scheduler.JobID]int{} // attempts of jobs whose answer has begun
	for _, r := range c.running {
		if r.job > 0 && c.jobs[r.job].committed && !r.aborted {
			if committed[r.job]++; committed[r.job] > 1 {
				c.t.Fatalf("job %d is answered and has two attempts\n%s", r.job, c.log.String())
			}
		}
	}
	for _, p := range c.core.ProspectsAt(c.now, scheduler.Job{Model: "base", AudioSeconds: 10}) { // it must change nothing
		if p.FreeIn < 0 || p.Predicted < 0 || p.Idle && p.FreeIn > 0 || !p.Idle && p.Outstanding == 0 && p.FreeIn == 0 {
			c.t.Fatalf("prospect %+v\n%s", p, c.log.String())
		}
	}
	if err := c.core.Invariants(); err != nil {
		c.t.Fatalf("%v\n%s", err, c.log.String())
	}
	for _, r := range c.core.Speeds() {
		if err := r.Learned.Validate(); err != nil || r.Age < 0 {
			c.t.Fatalf("learned %+v: %v\n%s", r, err, c.log.String())
		}
	}
	if at, ok := c.core.NextWake(); ok && at <= c.now {
		c.t.Fatalf("a wake at %v, not after now", time.Duration(at))
	}
}

func (c *chaos) check(d scheduler.Decision) {
	claim := func(ok bool, format string, args ...any) {
		if !ok {
			c.t.Fatalf("%s: %s\n%s", describe(d), fmt.Sprintf(format, args...), c.log.String())
		}
	}
	switch d := d.(type) {
	case scheduler.Dispatch:
		if d.Trial {
			claim(c.trials && d.Job == 0 && d.Model != "" && d.Timeout > 0, "a trial that was not allowed, or is none")
			for _, r := range c.running {
				claim(r.job != 0 || r.backend != d.Backend, "a second trial at a time")
			}
			c.used[d.Backend]++
			claim(c.used[d.Backend] <= c.slots[d.Backend], "%d attempts on %d slots", c.used[d.Backend], c.slots[d.Backend])
			c.running = append(c.running, running{id: d.Attempt, backend: d.Backend})
			break
		}
		f := c.jobs[d.Job]
		claim(f != nil && !f.settled && (f.attempts == 0 || f.attempts == 1 && c.hedge && d.Reason == scheduler.Hedging), "the job is settled or runs already")
		claim(!f.canceled && !f.committed, "the job was canceled or its answer has begun")
		claim(d.Timeout > 0, "it is never given up")
		if problem := c.considered(d); problem != "" {
			claim(false, "%s", problem)
		}
		claim(f.failedOn != d.Backend || c.now > f.failedAt, "it goes at once to where it failed")
		c.used[d.Backend]++
		claim(c.used[d.Backend] <= c.slots[d.Backend], "%d attempts on %d slots", c.used[d.Backend], c.slots[d.Backend])
		f.attempts++
		c.running = append(c.running, running{id: d.Attempt, job: d.Job, backend: d.Backend})
	case scheduler.Abort:
		i := slices.IndexFunc(c.running, func(r running) bool { return r.id == d.Attempt })
		claim(i >= 0 && !c.running[i].aborted, "it does not run or was aborted before")
		c.running[i].aborted = true
	case scheduler.Settle:
		f := c.jobs[d.Job]
		claim(f != nil && !f.settled, "the job is settled twice")
		claim(f.attempts == 0, "an attempt of it runs")
		claim(d.RetryAfter <= time.Minute, "Retry-After %v", d.RetryAfter)
		claim(!f.canceled || d.Reason == scheduler.ClientGone, "its client left")
		f.settled = true
		if d.Reason == scheduler.TenantFull {
			claim(f.tenant != 0 && c.perTenant > 0 && c.waitingOf(f.tenant) >= c.perTenant, "%d jobs of its tenant wait", c.waitingOf(f.tenant))
		}
	}
}

// considered says what is wrong with what a dispatch was chosen from, "" when nothing is.
func (c *chaos) considered(d scheduler.Dispatch) string {
	got, ok := c.core.Considered(d.Attempt)
	if !ok || got.Attempt != d.Attempt || len(got.Candidates) == 0 || len(got.Candidates) > scheduler.ConsideredMax || got.More < 0 {
		return fmt.Sprintf("it was chosen from %+v", got)
	}
	if chosen := got.Candidates[0]; chosen.Backend != d.Backend || chosen.Predicted != d.Predicted || !chosen.Idle {
		return fmt.Sprintf("the one chosen is told as %+v", chosen)
	}
	seen := map[scheduler.BackendID]bool{}
	for i, o := range got.Candidates {
		if seen[o.Backend] || i > 1 && o.FreeIn+o.Predicted+1 < got.Candidates[i-1].FreeIn+got.Candidates[i-1].Predicted { // but for rounding
			return fmt.Sprintf("it was chosen from %+v, out of order or twice", got.Candidates)
		}
		seen[o.Backend] = true
	}
	if p := got.Declined; p.For != "" && (p.Idle == "" || p.Idle == p.For || p.Waited < 0 || p.Waited > d.Waited) {
		return fmt.Sprintf("it waited since %+v", p)
	}
	return ""
}

// waitingOf counts a tenant's jobs that wait.
func (c *chaos) waitingOf(t scheduler.Tenant) (n int) {
	for _, f := range c.jobs {
		if f.tenant == t && !f.settled && f.attempts == 0 {
			n++
		}
	}
	return n
}

// pass lets some time go by, with Ticked at the wakes.
func (c *chaos) pass(d time.Duration) {
	until := c.now.Add(d)
	for {
		at, ok := c.core.NextWake()
		if !ok || at > until {
			break
		}
		c.now = at
		c.step(scheduler.Ticked{})
	}
	c.now = until
}

// windUp heals everything and serves what is left: nothing may be stuck.
func (c *chaos) windUp() {
	for id := range 6 {
		c.step(scheduler.Probed{Backend: scheduler.BackendID(fmt.Sprintf("b%d", id)), Healthy: true})
	}
	for range 4*len(c.jobs) + 100 {
		c.pass(time.Second)
		for len(c.running) > 0 {
			a := c.running[0]
			c.running = c.running[1:]
			c.used[a.backend]--
			if a.job > 0 {
				c.jobs[a.job].attempts--
			}
			c.step(scheduler.Finished{Attempt: a.id, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
		}
	}
	for id, f := range c.jobs {
		if !f.settled {
			c.t.Fatalf("job %d is stuck\n%s", id, c.log.String())
		}
	}
	if s := c.core.Snapshot(); s.Queued != 0 || s.Running != 0 || s.HeldBytes != 0 {
		c.t.Fatalf("left behind: %+v", s)
	}
}

func (c *chaos) run(events int) string {
	for range events {
		c.step(c.event())
		if x := c.next(); x%3 == 0 {
			c.pass(time.Duration(x) * time.Duration(x) * time.Millisecond / 4)
		}
	}
	c.windUp()
	return c.log.String()
}

func seeded(seed uint64) func() byte {
	rnd := rand.New(rand.NewPCG(seed, 3))
	return func() byte { return byte(rnd.Uint32()) }
}

// TestContractsHoldWhateverHappens plays many random histories.
func TestContractsHoldWhateverHappens(t *testing.T) {
	for seed := range uint64(300) {
		newChaos(t, seeded(seed)).run(200)
	}
}

// TestSameEventsGiveTheSameDecisions plays histories twice and compares the whole logs.
func TestSameEventsGiveTheSameDecisions(t *testing.T) {
	for seed := range uint64(30) {
		first, second := newChaos(t, seeded(seed)).run(300), newChaos(t, seeded(seed)).run(300)
		if first != second {
			t.Fatalf("seed %d: the same events gave other decisions:\n%s\n---\n%s", seed, first, second)
		}
		if len(first) < 5000 {
			t.Fatalf("seed %d: hardly anything happened:\n%s", seed, first)
		}
	}
}

// FuzzStep lets the fuzzer write the history.
func FuzzStep(f *testing.F) {
	for seed := range uint64(5) {
		next := seeded(seed)
		history := make([]byte, 400)
		for i := range history {
			history[i] = next()
		}
		f.Add(history)
	}
	f.Fuzz(func(t *testing.T, history []byte) {
		at := 0
		c := newChaos(t, func() byte {
			if at++; at <= len(history) {
				return history[at-1]
			}
			return 0
		})
		events := 0
		for at < len(history) && events < 500 {
			events++
			c.step(c.event())
			if x := c.next(); x%3 == 0 {
				c.pass(time.Duration(x) * time.Duration(x) * time.Millisecond / 4)
			}
		}
		c.windUp()
	})
}
