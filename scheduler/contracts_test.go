package scheduler_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

func newScheduler(t *testing.T, backends ...scheduler.Backend) *scheduler.Scheduler {
	t.Helper()
	s, err := scheduler.New(scheduler.Config{Backends: backends}, policies.ByName)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stubborn is a policy that names whoever it was told to.
type stubborn struct{ backend, waitFor scheduler.BackendID }

func (stubborn) Name() string { return "stubborn" }
func (p stubborn) Place(scheduler.Job, scheduler.View) scheduler.Placement {
	return scheduler.Placement{Backend: p.backend, WaitFor: p.waitFor, Reason: scheduler.Best}
}

func TestBrokenContractsPanic(t *testing.T) {
	one := scheduler.Arrived{Job: scheduler.Job{ID: 1, Model: "base", AudioSeconds: 1}}
	finished := func(r scheduler.Result) scheduler.Event {
		return scheduler.Finished{Attempt: 1, Outcome: scheduler.Outcome{Result: r}}
	}
	for name, c := range map[string]struct {
		events []scheduler.Event
		back   bool // time goes back before the last
		says   string
	}{
		"a job that arrives twice":         {events: []scheduler.Event{one, one}, says: "arrived twice"},
		"an attempt that never was":        {events: []scheduler.Event{finished(scheduler.Success)}, says: "does not run"},
		"an attempt that finished before":  {events: []scheduler.Event{one, finished(scheduler.Success), finished(scheduler.Success)}, says: "does not run"},
		"an attempt that is not committed": {events: []scheduler.Event{scheduler.Committed{Attempt: 1}}, says: "does not run"},
		"a forgotten result":               {events: []scheduler.Event{one, finished(0)}, says: "unknown result"},
		"aborted without Abort":            {events: []scheduler.Event{one, finished(scheduler.Aborted)}, says: "was not"},
		"an invalid configuration":         {events: []scheduler.Event{scheduler.Configured{Config: scheduler.Config{Attempts: -1}}}, says: "attempts is -1"},
		"no event":                         {events: []scheduler.Event{nil}, says: "unknown event"},
		"time that goes back":              {events: []scheduler.Event{one, scheduler.Ticked{}}, back: true, says: "time went back"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScheduler(t, scheduler.Backend{ID: "a"})
			now := scheduler.Instant(time.Second)
			for i, ev := range c.events {
				if i < len(c.events)-1 {
					s.Step(now, ev)
					continue
				}
				if c.back {
					now = 0
				}
				wantPanic(t, c.says, func() { s.Step(now, ev) })
			}
		})
	}
}

func wantPanic(t *testing.T, says string, f func()) {
	t.Helper()
	defer func() {
		if v, _ := recover().(string); !strings.Contains(v, says) {
			t.Errorf("panicked with %q, want it to say %q", v, says)
		}
	}()
	f()
}

func TestPoliciesMayOnlyNameCandidates(t *testing.T) {
	backends := []scheduler.Backend{{ID: "a"}, {ID: "b"}, {ID: "other", Models: []string{"large-v3"}}}
	arrive := func(id scheduler.JobID) scheduler.Event {
		return scheduler.Arrived{Job: scheduler.Job{ID: id, Model: "base", AudioSeconds: 1}}
	}
	with := func(p stubborn) *scheduler.Scheduler {
		s, err := scheduler.New(scheduler.Config{Backends: backends}, func(string) (scheduler.Policy, bool) { return p, true })
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	wantPanic(t, "not a candidate", func() { with(stubborn{backend: "nobody"}).Step(0, arrive(1)) })
	wantPanic(t, "not a candidate", func() { with(stubborn{backend: "other"}).Step(0, arrive(1)) })
	wantPanic(t, "not a candidate", func() { with(stubborn{waitFor: "other"}).Step(0, arrive(1)) })
	wantPanic(t, "no free slot", func() {
		s := with(stubborn{backend: "a"})
		s.Step(0, arrive(1))
		s.Step(0, arrive(2))
	})
	// To wait for somebody who is idle is odd, and legal.
	s := with(stubborn{waitFor: "a"})
	if d := s.Step(0, arrive(1)); len(d) != 0 {
		t.Errorf("decided %v", d)
	}
	if _, ok := s.NextWake(); !ok {
		t.Error("nobody will look at the job again")
	}
}

func TestConfigurationErrorsSayAllThatIsWrong(t *testing.T) {
	bad := scheduler.Config{
		Policy: "fastest", Attempts: -1, Queue: scheduler.Queue{MaxBytes: -1},
		Breaker:     scheduler.Breaker{OpenFor: time.Minute, MaxOpenFor: time.Second, SlowFactor: 0.5},
		RetryBudget: 10,
		Backends:    []scheduler.Backend{{Address: "10.0.0.1:80"}, {ID: "a", Slots: 5000}, {ID: "a"}, {ID: "b", Prior: scheduler.Law{Fixed: -1}, Models: []string{""}}},
	}
	_, err := scheduler.New(bad, policies.ByName)
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, says := range []string{`policy "fastest"`, "attempts is -1", "must not be negative", "max_open_for (1s)", "slow_factor is 0.5", "retry budget is 10", "10.0.0.1:80",
		"slots is 5000", `two backends are called "a"`, "prior", "without a name"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("the error does not say %q:\n%v", says, err)
		}
	}
}

func TestSnapshotKnowsModelsOfBackendsThatAreDown(t *testing.T) {
	s := newScheduler(t,
		scheduler.Backend{ID: "a", Checked: true},
		scheduler.Backend{ID: "b", Models: []string{"large-v3", "base"}, Class: "T4", Address: "10.0.0.1:80"},
		scheduler.Backend{ID: "c", Checked: true})
	if got := s.Snapshot().ModelsKnown(); !slices.Equal(got, []string{"base", "large-v3"}) {
		t.Errorf("models %v before anybody reported", got)
	}
	load := scheduler.Load{Models: []string{"tiny", "base"}, Slots: 3, Instance: "x", Can: map[string]scheduler.Capability{"tiny": scheduler.CanWords}}
	s.Step(1, scheduler.Reported{Backend: "a", Load: load})
	load.Models[0], load.Can["tiny"] = "changed", 0 // events are the sender's again after the step
	s.Step(2, scheduler.Reported{Backend: "c", Load: scheduler.Load{Models: []string{}}})
	s.Step(2, scheduler.Probed{Backend: "a", Healthy: true})
	s.Step(3, scheduler.Probed{Backend: "a"})
	got := s.Snapshot()
	if known := got.ModelsKnown(); !slices.Equal(known, []string{"base", "large-v3", "tiny"}) {
		t.Errorf("models %v", known)
	}
	if got.Usable("tiny") || !got.Usable("base") || got.Usable("gpt") {
		t.Errorf("usable: tiny %v (its only backend is down), base %v, gpt %v", got.Usable("tiny"), got.Usable("base"), got.Usable("gpt"))
	}
	if c := got.Backends[2]; c.Models == nil {
		t.Error("a backend that serves nothing is shown as one that serves anything")
	}
	a, b := got.Backends[0], got.Backends[1]
	if a.State != "down" || a.Slots != 3 || a.Instance != "x" || a.Can["tiny"] != scheduler.CanWords || !slices.Equal(a.Models, []string{"base", "tiny"}) {
		t.Errorf("a: %+v", a)
	}
	if b.State != "up" || b.Class != "T4" || b.Address != "10.0.0.1:80" || !slices.Equal(b.Models, []string{"base", "large-v3"}) {
		t.Errorf("b: %+v", b)
	}
}

func TestSnapshotStates(t *testing.T) {
	s := newScheduler(t, scheduler.Backend{ID: "a", Checked: true})
	state := func() string { return s.Snapshot().Backends[0].State }
	states := []string{state()}
	now := scheduler.Instant(0)
	step := func(ev scheduler.Event) { s.Step(now, ev); states = append(states, state()) }
	step(scheduler.Probed{Backend: "a", Loading: true})
	step(scheduler.Probed{Backend: "a", Healthy: true})
	step(scheduler.Probed{Backend: "a"})
	step(scheduler.Probed{Backend: "a", Healthy: true})
	attempt := scheduler.AttemptID(0)
	run := func(r scheduler.Result) {
		attempt++
		s.Step(now, scheduler.Arrived{Job: scheduler.Job{ID: scheduler.JobID(attempt), Model: "base", AudioSeconds: 1}})
		s.Step(now, scheduler.Committed{Attempt: attempt}) // so that it is not tried again
		step(scheduler.Finished{Attempt: attempt, Outcome: scheduler.Outcome{Result: r}})
		now += scheduler.Instant(2 * time.Second)
	}
	run(scheduler.Busy)
	for range 3 {
		run(scheduler.Failed)
	}
	now += scheduler.Instant(time.Minute)
	step(scheduler.Ticked{})
	want := []string{"unknown", "loading", "up", "down", "up", "paused", "up", "up", "open", "half-open"}
	if !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
}

// TestLabelsAreComplete: each reason and result has a name of its own.
func TestLabelsAreComplete(t *testing.T) {
	var names []string
	for _, r := range scheduler.SettleReasons {
		names = append(names, "settle "+r.String())
	}
	for _, r := range scheduler.Reasons {
		names = append(names, "place "+r.String())
	}
	for _, r := range scheduler.Results {
		names = append(names, "result "+r.String())
	}
	if len(scheduler.SettleReasons) != int(scheduler.Poison) || len(scheduler.Reasons) != int(scheduler.Hedging) || len(scheduler.Results) != int(scheduler.Aborted) {
		t.Error("a list of labels misses some")
	}
	for _, r := range scheduler.Verdicts {
		names = append(names, "verdict "+r.String())
	}
	for _, r := range scheduler.Causes {
		names = append(names, "cause "+r.String())
	}
	all := len(names)
	slices.Sort(names)
	if len(slices.Compact(names)) != all {
		t.Errorf("two labels are equal: %v", names)
	}
	for _, n := range names {
		if strings.Contains(n, "unknown") || strings.HasSuffix(n, " ") {
			t.Errorf("a label has no name: %q", n)
		}
	}
	if got := scheduler.Reason(99).String(); got != "unknown" {
		t.Errorf("an unknown reason is called %q", got)
	}
}
