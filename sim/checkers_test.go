package sim

import (
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/scheduler"
)

// step is an event with the decisions that a scheduler might have made of it.
type step struct {
	ev scheduler.Event
	ds []scheduler.Decision
}

func arrived(job scheduler.JobID, ds ...scheduler.Decision) step {
	return step{scheduler.Arrived{Job: scheduler.Job{ID: job}}, ds}
}

func finished(attempt scheduler.AttemptID, ds ...scheduler.Decision) step {
	return step{scheduler.Finished{Attempt: attempt, Outcome: scheduler.Outcome{Result: scheduler.Success}}, ds}
}

func dispatch(attempt scheduler.AttemptID, job scheduler.JobID) scheduler.Decision {
	return scheduler.Dispatch{Attempt: attempt, Job: job, Backend: "a"}
}

func settle(job scheduler.JobID) scheduler.Decision { return scheduler.Settle{Job: job} }

// TestCheckersSeeWhatIsWrong: each history breaks one contract, and only the checkers say so.
func TestCheckersSeeWhatIsWrong(t *testing.T) {
	cfg := scheduler.Config{Backends: []scheduler.Backend{{ID: "a", Slots: 1}}}
	idle := scheduler.Snapshot{Backends: []scheduler.BackendSnapshot{{ID: "a"}}}
	for name, c := range map[string]struct {
		steps []step
		left  scheduler.Snapshot
		says  string // "" for nothing
	}{
		"all is well": {steps: []step{arrived(1, dispatch(1, 1)), finished(1, settle(1))}, left: idle},
		"settled twice": {steps: []step{arrived(1, dispatch(1, 1)), finished(1, settle(1), settle(1))}, left: idle,
			says: "settled before"},
		"settled while it runs": {steps: []step{arrived(1, dispatch(1, 1), settle(1))}, left: idle,
			says: "while 1 attempts run"},
		"settled and never arrived": {steps: []step{arrived(1, settle(2))}, left: idle, says: "has not arrived"},
		"finished twice": {steps: []step{arrived(1, dispatch(1, 1)), finished(1, settle(1)), finished(1)}, left: idle,
			says: "finished before"},
		"dispatched after it was settled": {steps: []step{arrived(1, settle(1)), {scheduler.Ticked{}, []scheduler.Decision{dispatch(1, 1)}}}, left: idle,
			says: "or is settled"},
		"dispatched twice under one number": {steps: []step{arrived(1, dispatch(1, 1)), arrived(2, dispatch(1, 2))}, left: idle,
			says: "dispatched twice"},
		"more jobs than slots": {steps: []step{arrived(1, dispatch(1, 1)), arrived(2, dispatch(2, 2))}, left: idle,
			says: "2 jobs on 1 slots"},
		"a trial is nobody's": {steps: []step{arrived(1, dispatch(1, 1)), finished(1, settle(1), scheduler.Dispatch{Attempt: 2, Backend: "a", Trial: true})},
			left: scheduler.Snapshot{Running: 1, Backends: []scheduler.BackendSnapshot{{ID: "a", Outstanding: 1}}}},
		"a trial that ends twice": {steps: []step{{scheduler.Ticked{}, []scheduler.Decision{scheduler.Dispatch{Attempt: 2, Backend: "a", Trial: true}}}, finished(2), finished(2)},
			left: idle, says: "finished before"},
		"a job that is lost": {steps: []step{arrived(1)}, left: idle, says: "1 jobs arrived, 0 were settled, 0 wait"},
		"a slot that is lost": {steps: []step{arrived(1, dispatch(1, 1)), finished(1, settle(1))},
			left: scheduler.Snapshot{Backends: []scheduler.BackendSnapshot{{ID: "a", Outstanding: 1}}}, says: "runs 1 jobs, counted 0"},
	} {
		t.Run(name, func(t *testing.T) {
			var said []string
			note := func(err error) {
				if err != nil {
					said = append(said, err.Error())
				}
			}
			for _, ch := range ownCheckers(cfg) {
				for i, s := range c.steps {
					note(ch.Observed(scheduler.Instant(i), s.ev, s.ds))
				}
				note(ch.Ended(c.left))
			}
			all := strings.Join(said, "\n")
			if c.says == "" && all != "" || !strings.Contains(all, c.says) {
				t.Errorf("they say %q, want %q", all, c.says)
			}
		})
	}
}

// complainer complains of every event.
type complainer struct{ seen int }

func (c *complainer) Observed(scheduler.Instant, scheduler.Event, []scheduler.Decision) error {
	c.seen++
	return errComplaint
}
func (c *complainer) Ended(scheduler.Snapshot) error { return errComplaint }

type complaint string

func (c complaint) Error() string { return string(c) }

const errComplaint = complaint("I do not like it")

func TestComplaintsAreInTheResult(t *testing.T) {
	c := &complainer{}
	r, err := Run(scenario("latency_aware", cards(1, h100), Load{Clients: 1}, 5), c)
	if err != nil {
		t.Fatal(err)
	}
	if c.seen < 10 || len(r.Violations) != c.seen+1 || !strings.Contains(r.Violations[0], string(errComplaint)) {
		t.Errorf("saw %d events and complained, violations %d", c.seen, len(r.Violations))
	}
}
