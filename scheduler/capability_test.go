package scheduler_test

import (
	"testing"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

// TestCapabilityOfAnyModel: what a backend says under no model's name holds for those that it does not
// name, and for jobs whose model has none.
func TestCapabilityOfAnyModel(t *testing.T) {
	s, err := scheduler.New(scheduler.Config{Policy: "least_outstanding", Backends: []scheduler.Backend{{ID: "a", Address: "a", Slots: 9}, {ID: "b", Address: "b", Slots: 9}}}, policies.ByName)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []scheduler.BackendID{"a", "b"} {
		s.Step(0, scheduler.Probed{Backend: id, Healthy: true})
	}
	s.Step(0, scheduler.Reported{Backend: "a", Load: scheduler.Load{Can: map[string]scheduler.Capability{"": 0, "named": scheduler.CanContainers}}})
	id := scheduler.JobID(0)
	ran := func(model string, needs scheduler.Capability) map[scheduler.BackendID]bool {
		on := map[scheduler.BackendID]bool{}
		for range 4 {
			id++
			for _, d := range s.Step(0, scheduler.Arrived{Job: scheduler.Job{ID: id, Model: model, Needs: needs, AudioSeconds: 1}}) {
				if d, ok := d.(scheduler.Dispatch); ok {
					on[d.Backend] = true
					s.Step(0, scheduler.Finished{Attempt: d.Attempt, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
				}
			}
		}
		return on
	}
	for _, c := range []struct {
		model string
		needs scheduler.Capability
		onA   bool
	}{{"", scheduler.CanContainers, false}, {"other", scheduler.CanContainers, false}, {"named", scheduler.CanContainers, true}, {"other", 0, true}} {
		if on := ran(c.model, c.needs); on["a"] != c.onA || len(on) == 0 {
			t.Errorf("model %q, needs %d: ran on %v", c.model, c.needs, on)
		}
	}
}
