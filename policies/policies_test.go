package policies_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
)

const ms = time.Millisecond

// view of candidates; chance is seeded anew for each, so that tests repeat.
func view(candidates ...scheduler.Candidate) scheduler.View {
	return scheduler.View{Candidates: candidates, Rand: rand.New(rand.NewPCG(1, 1)).IntN}
}

// idle and busy are candidates whose speed is known.
func idle(id scheduler.BackendID, predicted time.Duration) scheduler.Candidate {
	return scheduler.Candidate{Backend: id, Slots: 1, Idle: true, Predicted: predicted, Known: true}
}

func busy(id scheduler.BackendID, freeIn, predicted time.Duration) scheduler.Candidate {
	return scheduler.Candidate{Backend: id, Slots: 1, Outstanding: 1, FreeIn: freeIn, Predicted: predicted, Known: true}
}

func TestEveryPolicyIsFoundByItsName(t *testing.T) {
	names := policies.Names()
	if names[0] != policies.Default || len(names) != 5 {
		t.Fatalf("names %v", names)
	}
	for _, name := range names {
		if p, ok := policies.ByName(name); !ok || p.Name() != name {
			t.Errorf("%s is not found by its name", name)
		}
	}
	if p, ok := policies.ByName(""); !ok || p.Name() != policies.Default {
		t.Error("an empty name is not the default")
	}
	if _, ok := policies.ByName("fastest"); ok {
		t.Error("a policy that does not exist was found")
	}
}

// TestOnlyIdleBackendsGetAJob holds for every policy: nobody idle, nobody chosen, whatever the view.
func TestOnlyIdleBackendsGetAJob(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for _, name := range policies.Names() {
		p, _ := policies.ByName(name)
		for range 500 {
			var v scheduler.View
			v.Rand, v.Placements = rnd.IntN, rnd.Uint64()
			isIdle, exists := map[scheduler.BackendID]bool{}, map[scheduler.BackendID]bool{}
			anyIdle := false
			for i := range rnd.IntN(6) {
				c := scheduler.Candidate{
					Backend: scheduler.BackendID('a' + rune(i)), Slots: 1 + rnd.IntN(3), Idle: rnd.IntN(3) == 0,
					Outstanding: rnd.IntN(3), Predicted: time.Duration(rnd.IntN(4)) * ms,
				}
				if !c.Idle {
					c.FreeIn = time.Duration(rnd.IntN(1000)) * ms
				}
				isIdle[c.Backend], exists[c.Backend], anyIdle = c.Idle, true, anyIdle || c.Idle
				v.Candidates = append(v.Candidates, c)
			}
			got := p.Place(scheduler.Job{AudioSeconds: 10}, v)
			if got.Backend != "" && !isIdle[got.Backend] {
				t.Fatalf("%s chose %q, which is not idle, of %+v", name, got.Backend, v.Candidates)
			}
			if got.WaitFor != "" && !exists[got.WaitFor] {
				t.Fatalf("%s waits for %q, which is not there", name, got.WaitFor)
			}
			if got.Backend != "" && (got.Reason == 0 || got.Reason == scheduler.Wait) {
				t.Fatalf("%s gave reason %v", name, got.Reason)
			}
			if name != "latency_aware" && anyIdle && got.Backend == "" {
				t.Fatalf("%s left the job waiting though somebody was idle: %+v", name, v.Candidates)
			}
		}
	}
}

// chosenEvenly says whether each of the ids was chosen about as often as the others.
func chosenEvenly(t *testing.T, p scheduler.Policy, v scheduler.View, ids ...scheduler.BackendID) {
	t.Helper()
	const each = 300
	count := map[scheduler.BackendID]int{}
	for range each * len(ids) {
		count[p.Place(scheduler.Job{AudioSeconds: 10}, v).Backend]++
		v.Placements++
	}
	for _, id := range ids {
		if count[id] < each*3/4 || count[id] > each*5/4 {
			t.Errorf("%s: picks %v, want about %d each of %v", p.Name(), count, each, ids)
			return
		}
	}
}
