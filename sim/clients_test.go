package sim

import (
	"math"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// observed calls a function with every event and decision.
type observed func(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision)

func (o observed) Observed(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) error {
	o(now, ev, ds)
	return nil
}
func (observed) Ended(scheduler.Snapshot) error { return nil }

func about(t *testing.T, what string, got, want, off float64) {
	t.Helper()
	if math.Abs(got-want) > off*want {
		t.Errorf("%s: %.3f, want about %.3f", what, got, want)
	}
}

func TestSendersSendTheirShares(t *testing.T) {
	sc := scenario("latency_aware", cards(2, h100), Load{Share: 0.5}, 4000)
	sc.Senders = []Sender{{Share: 3, Tenant: 7}, {Share: 1, Priority: scheduler.Batch}}
	of := map[Sender]int{}
	_, err := Run(sc, observed(func(_ scheduler.Instant, ev scheduler.Event, _ []scheduler.Decision) {
		if a, ok := ev.(scheduler.Arrived); ok {
			of[Sender{Tenant: a.Job.Tenant, Priority: a.Job.Priority}]++
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(of) != 2 {
		t.Fatalf("senders %v", of)
	}
	about(t, "one sends so many times as much", float64(of[Sender{Tenant: 7}])/float64(of[Sender{Priority: scheduler.Batch}]), 3, 0.15)
}

// TestClientsLeave wherever their jobs are, and are no errors.
func TestClientsLeave(t *testing.T) {
	for _, policy := range []string{"latency_aware", "caddy_least_conn", "haproxy_first"} {
		sc := scenario(policy, cards(1, a10g, 1, h100), Load{Clients: 30}, 3000)
		sc.Leaving = Leaving{Share: 0.5, After: 2 * time.Second}
		r := run(t, sc)
		if r.Errors > 0 || r.Left < 500 || r.Left > 1500 {
			t.Errorf("%s: %d of %d left, %d errors", policy, r.Left, r.Jobs, r.Errors)
		}
	}
}

func TestLoadChanges(t *testing.T) {
	sc := scenario("latency_aware", cards(2, h100), Load{Rate: 10, Changes: []LoadChange{{At: 100 * time.Second, Times: 0.2}}}, 0)
	sc.Duration = 300 * time.Second
	e, err := simulate(sc)
	if err != nil {
		t.Fatal(err)
	}
	early, late := 0.0, 0.0
	for _, j := range e.measured {
		if j.arrived.Sub(e.start) < 100*time.Second {
			early++
		} else {
			late++
		}
	}
	about(t, "jobs before", early, 1000, 0.1)
	about(t, "jobs after", late, 400, 0.15)
}

// TestNobodyWaitsForLongerThanAllowed: what would is refused.
func TestNobodyWaitsForLongerThanAllowed(t *testing.T) {
	sc := scenario("latency_aware", cards(1, h100), Load{Share: 2}, 2000)
	sc.MaxWait = 10 * time.Second
	e, err := simulate(sc)
	if err != nil {
		t.Fatal(err)
	}
	if r := e.result(); r.Errors < r.Jobs/3 {
		t.Errorf("%d of %d jobs refused at twice what the pool can do", r.Errors, r.Jobs)
	}
	for _, j := range e.measured {
		if j.served && j.waited > 11 {
			t.Errorf("job %d waited %.1f s", j.number, j.waited)
		}
	}
}

// TestFailingShare: about so many attempts fail, and are retried.
func TestFailingShare(t *testing.T) {
	sc := scenario("latency_aware", cards(1, h100), Load{Clients: 1}, 3000)
	sc.Faults = []Fault{{Card: "H100-1", Becomes: Failing, Share: 0.1}}
	failed, all := 0.0, 0.0
	_, err := Run(sc, observed(func(_ scheduler.Instant, ev scheduler.Event, _ []scheduler.Decision) {
		if f, ok := ev.(scheduler.Finished); ok {
			all++
			if f.Outcome.Result == scheduler.Failed {
				failed++
			}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	about(t, "share", failed/all, 0.1, 0.2)
}

// TestBusyCardIsLeftAlone for as long as it says.
func TestBusyCardIsLeftAlone(t *testing.T) {
	sc := faulty("latency_aware", Fault{Card: "H100-1", Becomes: Busy, RetryAfter: 30 * time.Second})
	if r := run(t, sc); r.Errors > 0 || sentTo(r, "H100-1") > 8 {
		t.Errorf("%d errors, sent %d in two minutes", r.Errors, sentTo(r, "H100-1"))
	}
}

// TestTrialsBringBackWhatRecovered: a slow card is tried though others are idle.
func TestTrialsBringBackWhatRecovered(t *testing.T) {
	sc := scenario("latency_aware", cards(4, h100), Load{Share: 0.3}, 0)
	sc.Duration = 600 * time.Second
	sc.Faults = []Fault{{Card: "H100-1", Becomes: Slow, Factor: 20}, {At: 100 * time.Second, Card: "H100-1", Becomes: Healthy}}
	r := run(t, sc)
	trials := 0
	for _, reason := range r.Reasons {
		if reason.What == scheduler.Trying.String() {
			trials = reason.Times
		}
	}
	if trials == 0 || sentTo(r, "H100-1") < sentTo(r, "H100-2")/2 || r.Errors > 0 {
		t.Errorf("%d trials; sent %d, to another %d; %d errors", trials, sentTo(r, "H100-1"), sentTo(r, "H100-2"), r.Errors)
	}
}
