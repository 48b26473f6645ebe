package scheduler_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// TestStories plays the scripts in testdata and compares every decision. Each behaviour of the
// scheduler is one of them. To accept a difference run with -rewrite, and explain each line of it.
//
//	config [policy=] [attempts=] [max-requests=] [max-bytes=] [max-wait=] [max-per-tenant=] [order=] [failures=] [seed=] [trials] [hedge]
//	ID [class=] [slots=] [models=a,b] [checked] [drained] [discover] [prior=FIXED+PERSECOND] [address=]
//
// applies a configuration, the first time to a new scheduler (at=TIME else).
//
//	run
//	TIME EVENT ARGUMENTS, where commit and finish name the job whose attempt it is, and next is the success
//	of the attempt that was dispatched first, and finish trial=BACKEND ends a trial,
//	finish attempt=NUMBER one of two attempts of a job
//
// sends events, with Ticked at every wake between them.
//
//	state
//
// prints what a snapshot says.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "fuzz") {
			return
		}
		st := &story{running: map[uint64]scheduler.AttemptID{}, trials: map[scheduler.BackendID]scheduler.AttemptID{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return st.command(t, d) })
	})
}

type story struct {
	core    *scheduler.Scheduler
	now     scheduler.Instant
	out     strings.Builder
	running map[uint64]scheduler.AttemptID // by job
	trials  map[scheduler.BackendID]scheduler.AttemptID
}

func (st *story) command(t *testing.T, d *datadriven.TestData) string {
	st.out.Reset()
	switch d.Cmd {
	case "config":
		cfg, at, err := configOf(d)
		if err != nil {
			return err.Error()
		}
		if st.core == nil {
			if st.core, err = scheduler.New(cfg, policies.ByName); err != nil {
				return err.Error()
			}
			return ""
		}
		if err := cfg.Validate(); err != nil {
			return err.Error()
		}
		st.until(at)
		st.step(at, scheduler.Configured{Config: cfg})
	case "run":
		for line := range strings.Lines(d.Input) {
			if err := st.line(strings.TrimSpace(line)); err != nil {
				d.Fatalf(t, "%s: %v", line, err)
			}
		}
	case "state":
		st.state()
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	if err := st.core.Invariants(); err != nil {
		d.Fatalf(t, "invariants: %v", err)
	}
	return st.out.String()
}

// until lets time pass, with Ticked at every wake.
func (st *story) until(at scheduler.Instant) {
	for {
		wake, ok := st.core.NextWake()
		if !ok || wake > at {
			return
		}
		st.step(wake, scheduler.Ticked{})
	}
}

func (st *story) step(at scheduler.Instant, ev scheduler.Event) {
	st.now = max(st.now, at)
	for _, d := range st.core.Step(st.now, ev) {
		if d, ok := d.(scheduler.Dispatch); ok && d.Trial {
			st.trials[d.Backend] = d.Attempt
		} else if ok {
			st.running[uint64(d.Job)] = d.Attempt
		}
		fmt.Fprintf(&st.out, "%v: %s\n", time.Duration(st.now), describe(d))
	}
}

func describe(d scheduler.Decision) string {
	switch d := d.(type) {
	case scheduler.Dispatch:
		s := fmt.Sprintf("dispatch #%d: job %d on %s, %s", d.Attempt, d.Job, d.Backend, d.Reason)
		if d.Trial {
			s = fmt.Sprintf("dispatch #%d: a trial of %s with %s", d.Attempt, d.Backend, d.Model)
		}
		if d.Predicted > 0 {
			s += fmt.Sprintf(", predicted %v", d.Predicted.Round(time.Millisecond))
		}
		if d.Waited > 0 {
			s += fmt.Sprintf(", waited %v", d.Waited)
		}
		if d.Number > 1 {
			s += fmt.Sprintf(", attempt %d", d.Number)
		}
		return s + fmt.Sprintf(", gives up after %v", d.Timeout.Round(time.Second))
	case scheduler.Abort:
		return fmt.Sprintf("abort #%d", d.Attempt)
	case scheduler.Settle:
		s := fmt.Sprintf("settle job %d: %s after %d attempts, waited %v", d.Job, d.Reason, d.Attempts, d.Waited)
		if d.RetryAfter > 0 {
			s += fmt.Sprintf(", retry after %v", d.RetryAfter)
		}
		if d.Last.Result > 0 {
			s += fmt.Sprintf(", last %s on %s", d.Last.Result, d.Backend)
		}
		return s
	case scheduler.Probe:
		return fmt.Sprintf("probe %s", d.Backend)
	case scheduler.Judged:
		s := fmt.Sprintf("%s %s", d.Backend, d.Verdict)
		if d.Cause > 0 {
			s += fmt.Sprintf(": %s", d.Cause)
		}
		if d.For > 0 {
			s += fmt.Sprintf(", for %v", d.For.Round(time.Millisecond))
		}
		return s
	}
	return fmt.Sprintf("%T", d)
}

func (st *story) state() {
	s := st.core.Snapshot()
	fmt.Fprintf(&st.out, "%d queued (%d bytes, oldest %v), %d running, %d bytes held\n", s.Queued, s.QueuedBytes, s.OldestWait, s.Running, s.HeldBytes)
	for _, b := range s.Backends {
		fmt.Fprintf(&st.out, "%s: %s, %d of %d slots, served %d, failed %d", b.ID, b.State, b.Outstanding, b.Slots, b.Served, b.Failed)
		if b.Models != nil {
			fmt.Fprintf(&st.out, ", models %s", strings.Join(b.Models, " "))
		}
		for _, sp := range b.Speeds {
			fmt.Fprintf(&st.out, ", %s %v (n=%d)", sp.Model, sp.TenSeconds.Round(time.Millisecond), sp.Observations)
		}
		if b.Why != "" {
			fmt.Fprintf(&st.out, ": %s", b.Why)
		}
		st.out.WriteByte('\n')
	}
}

// configOf reads a config command.
func configOf(d *datadriven.TestData) (cfg scheduler.Config, at scheduler.Instant, err error) {
	args := map[string]string{}
	for _, a := range d.CmdArgs {
		args[a.Key] = strings.Join(a.Vals, ",")
	}
	p := parser{args: args}
	cfg = scheduler.Config{
		Policy: args["policy"], Attempts: p.int("attempts"), Seed: uint64(p.int("seed")),
		Queue: scheduler.Queue{
			MaxRequests: p.int("max-requests"), MaxBytes: int64(p.int("max-bytes")), MaxWait: p.duration("max-wait"),
			MaxPerTenant: p.int("max-per-tenant"), Order: scheduler.Order(args["order"]),
		},
		Breaker: scheduler.Breaker{Failures: p.int("failures"), OpenFor: p.duration("open-for"), MaxOpenFor: p.duration("max-open-for")},
	}
	_, cfg.Trials = args["trials"]
	_, cfg.Hedge = args["hedge"]
	at = scheduler.Instant(p.duration("at"))
	for line := range strings.Lines(d.Input) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		b := parser{args: arguments(fields[1:])}
		backend := scheduler.Backend{ID: scheduler.BackendID(fields[0]), Address: fields[0], Class: b.args["class"], Slots: b.int("slots")}
		if a, ok := b.args["address"]; ok {
			backend.Address = a
		}
		if m, ok := b.args["models"]; ok {
			backend.Models = strings.Split(m, ",")
		}
		_, backend.Checked = b.args["checked"]
		_, backend.Drained = b.args["drained"]
		_, backend.Discover = b.args["discover"]
		if law, ok := b.args["prior"]; ok {
			fixed, per, _ := strings.Cut(law, "+")
			l := parser{args: map[string]string{"fixed": fixed, "per": per}}
			backend.Prior = scheduler.Law{Fixed: l.duration("fixed"), PerSecond: l.duration("per")}
			b.err = l.err
		}
		if b.err != nil {
			return cfg, at, b.err
		}
		cfg.Backends = append(cfg.Backends, backend)
	}
	return cfg, at, p.err
}

// parser reads arguments and keeps the first error.
type parser struct {
	args map[string]string
	err  error
}

func arguments(fields []string) map[string]string {
	args := map[string]string{}
	for _, f := range fields {
		k, v, _ := strings.Cut(f, "=")
		args[k] = v
	}
	return args
}

func (p *parser) int(key string) int {
	if p.args[key] == "" {
		return 0
	}
	n, err := strconv.Atoi(p.args[key])
	if err != nil && p.err == nil {
		p.err = err
	}
	return n
}

func (p *parser) float(key string) float64 {
	if p.args[key] == "" {
		return 0
	}
	x, err := strconv.ParseFloat(p.args[key], 64)
	if err != nil && p.err == nil {
		p.err = err
	}
	return x
}

func (p *parser) duration(key string) time.Duration {
	if p.args[key] == "" {
		return 0
	}
	x, err := time.ParseDuration(p.args[key])
	if err != nil && p.err == nil {
		p.err = err
	}
	return x
}

var results = map[string]scheduler.Result{}

func init() {
	for _, r := range scheduler.Results {
		results[r.String()] = r
	}
}

var priorities = map[string]scheduler.Priority{"interactive": scheduler.Interactive, "batch": scheduler.Batch}

var capabilities = map[string]scheduler.Capability{
	"translate": scheduler.CanTranslate, "words": scheduler.CanWords, "languages": scheduler.CanLanguages,
}

func needs(list string) (c scheduler.Capability) {
	for name := range strings.SplitSeq(list, "+") {
		c |= capabilities[name]
	}
	return c
}

// line sends one event of a run command.
func (st *story) line(line string) error {
	if line == "" {
		return nil
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return fmt.Errorf("want TIME EVENT")
	}
	at, err := time.ParseDuration(fields[0])
	if err != nil {
		return err
	}
	st.until(scheduler.Instant(at))
	ev, err := st.eventOf(fields[1], fields[2:])
	if err != nil {
		return err
	}
	st.step(scheduler.Instant(at), ev)
	return nil
}

// oldest is the job whose attempt was dispatched first of those that run.
func (st *story) oldest() (job uint64) {
	least := scheduler.AttemptID(0)
	for j, a := range st.running {
		if least == 0 || a < least {
			job, least = j, a
		}
	}
	return job
}

func (st *story) eventOf(name string, fields []string) (scheduler.Event, error) {
	first := ""
	if len(fields) > 0 {
		first = fields[0]
	}
	number, _ := strconv.ParseUint(first, 10, 64)
	if name == "next" {
		name, fields, number = "finish", []string{"", "success"}, st.oldest()
	}
	attempt, runs := st.running[number]
	if backend, ok := strings.CutPrefix(first, "trial="); ok {
		attempt, runs = st.trials[scheduler.BackendID(backend)]
		delete(st.trials, scheduler.BackendID(backend))
	}
	if n, ok := strings.CutPrefix(first, "attempt="); ok { // where a job has two
		id, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return nil, err
		}
		attempt, runs = scheduler.AttemptID(id), true
	}
	if (name == "commit" || name == "finish") && !runs {
		return nil, fmt.Errorf("job %d does not run; so far:\n%s", number, st.out.String())
	}
	p := parser{args: arguments(fields)}
	switch name {
	case "arrive":
		j := scheduler.Job{
			ID: scheduler.JobID(number), Model: "base", AudioSeconds: p.float("audio"), Bytes: int64(p.int("bytes")),
			Deadline: scheduler.Instant(p.duration("deadline")), Needs: needs(p.args["needs"]),
			Priority: priorities[p.args["priority"]], Tenant: scheduler.Tenant(p.int("tenant")),
		}
		_, j.SizeGuessed = p.args["guessed"]
		if m, ok := p.args["model"]; ok {
			j.Model = m
		}
		return scheduler.Arrived{Job: j}, p.err
	case "cancel":
		return scheduler.Canceled{Job: scheduler.JobID(number)}, nil
	case "commit":
		return scheduler.Committed{Attempt: attempt}, nil
	case "finish":
		o := scheduler.Outcome{Result: results[fields[1]], RetryAfter: p.duration("retry-after"), AudioSeconds: p.float("audio")}
		_, o.Unreached = p.args["unreached"]
		_, silent := p.args["silent"]
		o.Words = !silent
		delete(st.running, number)
		return scheduler.Finished{Attempt: attempt, Outcome: o}, p.err
	case "healthy", "loading", "unhealthy":
		return scheduler.Probed{Backend: scheduler.BackendID(first), Healthy: name == "healthy", Loading: name == "loading"}, nil
	case "report":
		l := scheduler.Load{Instance: p.args["instance"], Slots: p.int("slots")}
		if m, ok := p.args["models"]; ok {
			l.Models = strings.Split(m, ",")
		}
		if c, ok := p.args["can"]; ok { // model:need+need
			model, list, _ := strings.Cut(c, ":")
			l.Can = map[string]scheduler.Capability{model: needs(list)}
		}
		return scheduler.Reported{Backend: scheduler.BackendID(first), Load: l}, p.err
	case "tick":
		return scheduler.Ticked{}, nil
	}
	return nil, fmt.Errorf("unknown event %s", name)
}
