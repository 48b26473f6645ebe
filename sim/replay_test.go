package sim

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/journal"
	"github.com/whisperpool/whisperpool/sim/recording"
)

// tape writes down what a simulated scheduler is told and decides, as the proxy does.
type tape struct {
	t    *testing.T
	text []byte
}

func (p *tape) Observed(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) error {
	var err error
	if p.text, err = journal.Append(p.text, journal.Record{At: now, Event: ev, Decisions: ds}); err != nil {
		p.t.Fatal(err)
	}
	return nil
}

func (p *tape) Ended(scheduler.Snapshot) error { return nil }

// recorded simulates a scenario and returns what it measured, and the file that it was recorded in.
func recorded(t *testing.T, sc Scenario) (Result, string) {
	t.Helper()
	p := &tape{t: t}
	e, err := simulate(sc, p)
	if err != nil {
		t.Fatal(err)
	}
	head, err := journal.AppendHeader(nil, journal.Header{Config: e.front.(*core).config()})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "recorded.jsonl")
	if err := os.WriteFile(file, append(head, p.text...), 0o600); err != nil {
		t.Fatal(err)
	}
	return e.result(), file
}

func reviewed(t *testing.T, paths ...string) *recording.Review {
	t.Helper()
	r, err := recording.Find(paths)
	if err != nil {
		t.Fatal(err)
	}
	review, err := r.Review(true, nil)
	if err != nil {
		t.Fatal(err)
	}
	return review
}

func near(a, b, by float64) bool { return math.Abs(a-b) <= by*math.Max(math.Abs(a), math.Abs(b)) }

// TestASimulationIsReplayed: what a simulation decided is decided again and measured as it was, and when its jobs
// are simulated from the recording alone they take as long.
func TestASimulationIsReplayed(t *testing.T) {
	sc := scenario("latency_aware", cards(2, t4, 1, a10g, 1, h100), Load{Share: 0.7}, 2000)
	sc.WarmUp = 0
	want, file := recorded(t, sc)
	got := reviewed(t, file)
	if got.Decided.Difference != nil || got.Decided.Compared != got.Records || got.Records < 4000 {
		t.Errorf("decided %+v in %d records", got.Decided, got.Records)
	}
	// The simulation goes on a little beyond what it measures, so that the last are not alone.
	if got.Jobs < 2000 || got.Jobs > 2200 || !near(got.Response.Mean, want.Mean, 0.03) || !near(got.Response.P99, want.P99, 0.05) || !near(got.Waiting.Mean, want.Wait, 0.06) {
		t.Errorf("%d jobs, response %+v, waiting %+v, want %d jobs, mean %.3f, p99 %.3f, wait %.3f",
			got.Jobs, got.Response, got.Waiting, want.Jobs, want.Mean, want.P99, want.Wait)
	}
	st := Replay(got.Workload)
	again, err := Run(st.At(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("simulated: mean %.3f s, p99 %.3f; recorded: %.3f, %.3f; again: %.3f, %.3f", want.Mean, want.P99, got.Response.Mean, got.Response.P99, again.Mean, again.P99)
	if again.Jobs != got.Jobs || len(again.Violations) > 0 || !near(again.Mean, got.Response.Mean, 0.03) || !near(again.P99, got.Response.P99, 0.1) {
		t.Errorf("from the recording: %d jobs, mean %.3f, p99 %.3f, %v", again.Jobs, again.Mean, again.P99, again.Violations)
	}
	for i, card := range sc.Cards {
		law := got.Workload.Cards[i].Laws[sc.Model]
		if law.From != "measured" || !near(law.Of(12), card.Law.Fixed+12*card.Law.PerSecond, 0.06) || !near(law.PerSecond, card.Law.PerSecond, 0.06) {
			t.Errorf("%s: %+v, want %+v", card.Name, law, *card.Law)
		}
	}
}

// TestARecordedJobTakesWhatItTook on the card that did it.
func TestARecordedJobTakesWhatItTook(t *testing.T) {
	sc := scenario("round_robin", cards(1, t4, 1, h100), Load{Clients: 1}, 200)
	sc.WarmUp = 0
	want, file := recorded(t, sc)
	got := reviewed(t, file)
	again, err := Run(Replay(got.Workload).At(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !near(again.Mean, got.Response.Mean, 1e-6) || !near(want.Mean, got.Response.Mean, 0.02) {
		t.Errorf("mean %.6f, recorded %.6f, simulated %.6f", again.Mean, got.Response.Mean, want.Mean)
	}
}

// TestCardsThatShare: the law of what runs side by side is found.
func TestCardsThatShare(t *testing.T) {
	sc := scenario("latency_aware", cards(1, t4.with(4, 2)), Load{Share: 0.6}, 3000)
	sc.WarmUp = 0
	_, file := recorded(t, sc)
	card := reviewed(t, file).Workload.Cards[0]
	law, want := card.Laws[sc.Model], sc.Cards[0].Law
	if card.Gain != 2 || !near(law.Of(12), want.Fixed+12*want.PerSecond, 0.05) {
		t.Errorf("gain %v, law %+v, want 2 and %+v", card.Gain, law, *want)
	}
}

// TestRecordedFaults: a card that was gone is gone.
func TestRecordedFaults(t *testing.T) {
	sc := scenario("latency_aware", cards(1, t4, 1, h100), Load{Share: 0.3}, 1500)
	sc.WarmUp = 0
	sc.Faults = []Fault{{At: 20 * time.Second, Card: "H100-1", Becomes: Dead}, {At: 60 * time.Second, Card: "H100-1", Becomes: Healthy}}
	_, file := recorded(t, sc)
	got := reviewed(t, file)
	st := Replay(got.Workload)
	if len(st.Faults) != 2 || st.Faults[0].Becomes != Gone || st.Faults[0].At < 20*time.Second || st.Faults[0].At > 26*time.Second || st.Faults[1].At-st.Faults[0].At > 45*time.Second {
		t.Fatalf("faults: %+v", st.Faults)
	}
	for _, policy := range []string{"latency_aware", "haproxy_first"} {
		sc := st.At(1, 0)
		sc.Policy = policy
		again, err := Run(sc)
		if err != nil || again.Errors != 0 || len(again.Violations) > 0 {
			t.Fatalf("%s: %v, %d errors, %v", policy, err, again.Errors, again.Violations)
		}
		t.Logf("%s: recorded %.3f, again %.3f", policy, got.Response.Mean, again.Mean)
		if again.Mean < 0.7*got.Response.Mean || policy == "latency_aware" && !near(again.Mean, got.Response.Mean, 0.15) {
			t.Errorf("%s: mean %.3f, recorded %.3f", policy, again.Mean, got.Response.Mean)
		}
	}
}

// aWorkload is jobs for two models, one a second of each, on three cards of which one does both.
func aWorkload(jobs int) *recording.Workload {
	card := func(name string, perSecond float64, models ...string) recording.Card {
		c := recording.Card{Backend: scheduler.Backend{ID: scheduler.BackendID(name), Address: name + ":1", Class: "T4", Slots: 1, Models: models}, Laws: map[string]recording.MeasuredLaw{}}
		for _, m := range models {
			c.Laws[m] = recording.MeasuredLaw{Model: m, Fixed: 0.1, PerSecond: perSecond}
		}
		return c
	}
	w := &recording.Workload{
		Classes: []recording.Class{{Model: "base"}, {Model: "large"}},
		Cards:   []recording.Card{card("a", 0.05, "base"), card("b", 0.05, "large"), card("c", 0.03, "base", "large")},
	}
	for i := range jobs {
		w.Jobs = append(w.Jobs, recording.Job{At: time.Duration(i/2) * time.Second, Class: int32(i % 2), Audio: 10, Told: 10, Luck: 1, Words: true})
	}
	return w
}

// TestRecordedJobsGoWhereTheyCan under every policy and peer.
func TestRecordedJobsGoWhereTheyCan(t *testing.T) {
	st := Replay(aWorkload(400))
	outcomes, err := st.Compare(Rivals(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		r := o.Results[0]
		if r.Errors != 0 || r.Jobs != 400 || len(r.Violations) > 0 || r.Ratio < 1 || r.Bound.Mean < 0.4-1e-9 {
			t.Errorf("%s: %+v", o.Rival.Name(), r)
		}
	}
	without, err := st.Apply([]Change{{-1, "b"}, {-1, "c"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range []string{"latency_aware", "haproxy_first", "p2c"} {
		sc := without.At(1, 0)
		sc.Policy = policy
		if r := run(t, sc); r.Errors != 200 || math.IsNaN(r.Eta) || math.IsNaN(r.Ratio) {
			t.Errorf("%s without a card for the large model: %+v", policy, r)
		}
	}
	more, err := st.Apply([]Change{{1, "H100"}, {1, "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if law := more.Cards[3].Recorded.Laws["large"]; law.Of(10) <= 0 || more.Cards[4].Recorded != st.Cards[1].Recorded {
		t.Errorf("new cards: %+v, %+v", more.Cards[3], more.Cards[4])
	}
	if r := run(t, more.At(1, 0)); r.Errors != 0 || r.Mean >= outcomes[0].Results[0].Mean {
		t.Errorf("with more cards: %+v", r)
	}
	if _, err := st.Apply([]Change{{1, "GTX"}}); err == nil {
		t.Error("a card of a class that nobody knows")
	}
}

// TestRecordedClientsLeave as they did, or at their deadlines, waiting or running, under the scheduler and peers.
func TestRecordedClientsLeave(t *testing.T) {
	w := aWorkload(0)
	for i := range 12 { // at once for the base model: on a and c, one after the other
		j := recording.Job{Audio: 100, Told: 100, Luck: 1, Words: true}
		switch i {
		case 1: // while it runs
			j.Leaves = time.Second
		case 9: // while it waits
			j.Leaves = 2 * time.Second
		case 10:
			j.Deadline = 3 * time.Second
		case 11: // served before
			j.Leaves = time.Hour
		}
		w.Jobs = append(w.Jobs, j)
	}
	for _, policy := range []string{"latency_aware", "haproxy_first", "caddy_least_conn"} {
		sc := Replay(w).At(1, 0)
		sc.Policy = policy
		if r := run(t, sc); r.Left != 2 || r.Errors != 1 || r.Jobs != 12 {
			t.Errorf("%s: %d left, %d errors of %d", policy, r.Left, r.Errors, r.Jobs)
		}
	}
}
