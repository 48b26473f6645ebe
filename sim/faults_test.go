package sim

import (
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/sim/peers"
)

// faulty is a warm pool of 4 A10G and 4 H100 with 16 clients, in which things happen.
func faulty(policy string, faults ...Fault) Scenario {
	sc := scenario(policy, cards(4, a10g, 4, h100), Load{Clients: 16}, 0)
	sc.Duration, sc.Faults = 120*time.Second, faults
	return sc
}

// sentTo is how many of the jobs a card got.
func sentTo(r Result, name string) int {
	for _, b := range r.Backends {
		if b.Name == name {
			return b.Sent
		}
	}
	return -1
}

// TestFaultsCostNobodyATranscript: one H100 breaks in one of the ways; nobody notices but by time.
func TestFaultsCostNobodyATranscript(t *testing.T) {
	sound := several(t, faulty("latency_aware"), 2)
	base := sound.Of(func(r Result) float64 { return r.P99 }).Median
	for _, c := range []struct {
		fault Fault
		most  int // jobs that it gets after the fault
	}{
		{Fault{Becomes: Dead}, 10},
		{Fault{Becomes: Hung}, 10},
		{Fault{Becomes: Failing}, 30},
		{Fault{Becomes: Slow, Factor: 20}, 40},
	} {
		c.fault.Card = "H100-4"
		o := several(t, faulty("latency_aware", c.fault), 2)
		tail := o.Of(func(r Result) float64 { return r.P99 })
		t.Logf("%s: p99 %.2f s (from %.2f to %.2f) against %.2f s, sent there %d", c.fault.Becomes, tail.Median, tail.Low, tail.High, base, sentTo(o.Results[0], "H100-4"))
		for _, r := range o.Results {
			if r.Errors > 0 {
				t.Errorf("%s: %d of %d jobs got no transcript", c.fault.Becomes, r.Errors, r.Jobs)
			}
			if n := sentTo(r, "H100-4"); n > c.most {
				t.Errorf("%s: it got %d jobs, want at most %d", c.fault.Becomes, n, c.most)
			}
		}
		if tail.Median > 1.6*base { // a quarter of the speed is gone besides
			t.Errorf("%s: p99 %.2f s against %.2f s without the fault", c.fault.Becomes, tail.Median, base)
		}
	}
}

// TestPeersShowTheirFaults: what they are hit by reaches their clients.
func TestPeersShowTheirFaults(t *testing.T) {
	for _, c := range []struct {
		policy  string
		becomes Condition
	}{{"caddy_least_conn", Dead}, {"haproxy_first", Failing}, {"caddy_round_robin", Hung}} {
		sc := faulty(c.policy, Fault{Card: "H100-4", Becomes: c.becomes})
		r := run(t, sc)
		if r.Errors == 0 {
			t.Errorf("%s with a card that is %s: no errors", c.policy, c.becomes)
		}
	}
	// A failing server is idle at once, so whoever counts sends it nearly everything.
	if r := run(t, faulty("haproxy_leastconn", Fault{Card: "H100-4", Becomes: Failing})); r.Errors < r.Jobs/2 {
		t.Errorf("%d of %d jobs failed at a server that fails at once", r.Errors, r.Jobs)
	}
}

// TestADeadCardComesBack: it is out while it is dead, and has its share again afterwards.
func TestADeadCardComesBack(t *testing.T) {
	sc := faulty("latency_aware", Fault{At: 0, Card: "H100-1", Becomes: Dead}, Fault{At: 30 * time.Second, Card: "H100-1", Becomes: Healthy})
	r := run(t, sc)
	back, other := sentTo(r, "H100-1"), sentTo(r, "H100-2")
	if share := float64(back) / float64(other); share < 0.5 || share > 0.95 {
		t.Errorf("it got %d jobs in the three quarters that it was there, the others %d", back, other)
	}
	if r.Errors > 0 {
		t.Errorf("%d errors", r.Errors)
	}
}

// TestChangesOfSpeedAreFound and told of in the result.
func TestChangesOfSpeedAreFound(t *testing.T) {
	sc := faulty("latency_aware", Fault{At: 20 * time.Second, Card: "H100-1", Becomes: Slow, Factor: 2}, Fault{At: 70 * time.Second, Card: "H100-1", Becomes: Healthy})
	for _, r := range several(t, sc, 3).Results {
		if len(r.SpeedChanges) != 2 || r.SpeedChanges[0].Factor != 2 || r.SpeedChanges[1].Factor != 0.5 || r.SpeedChanges[0].At != 20 {
			t.Fatalf("changes %+v", r.SpeedChanges)
		}
		for _, c := range r.SpeedChanges {
			if !c.Found || c.Jobs < 1 || c.Jobs > 40 {
				t.Errorf("change %+v", c)
			}
		}
	}
}

// TestARunThatCannotEndSaysSo: every card is hung and nobody gives up.
func TestARunThatCannotEndSaysSo(t *testing.T) {
	e := newEngine(&Scenario{Policy: "caddy_least_conn", Cards: cards(1, h100), Load: Load{Burst: 1}, Audio: Audio{Fixed: 5}, Seed: 1})
	e.cards[0].condition = Hung
	p, _ := peers.ByName("caddy_least_conn")
	e.front = newBalancer(e, p)
	if err := e.run(); err == nil {
		t.Error("it ended")
	}
}

// TestNobodyUp: where every server is down, jobs fail and the run goes on.
func TestNobodyUp(t *testing.T) {
	sc := scenario("caddy_least_conn", cards(1, h100), Load{Rate: 2}, 100)
	sc.Faults = []Fault{{At: 10 * time.Second, Card: "H100-1", Becomes: Dead}, {At: 20 * time.Second, Card: "H100-1", Becomes: Healthy}}
	if r := run(t, sc); r.Errors < 10 || r.Errors > 40 {
		t.Errorf("%d of %d jobs failed in the ten seconds, want about twenty", r.Errors, r.Jobs)
	}
	sc.Policy = "latency_aware"
	if r := run(t, sc); r.Errors > 40 || r.Errors == 0 { // until a probe, every 5 s, finds it back
		t.Errorf("%d of %d jobs failed, want those of some seconds", r.Errors, r.Jobs)
	}
}
