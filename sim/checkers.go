package sim

import (
	"errors"
	"fmt"

	"github.com/whisperpool/whisperpool/scheduler"
)

// Checker looks at a scheduler from outside and says when a contract is violated. Observed gets every
// event with the decisions that followed, Ended what the scheduler holds when the run is over. The
// slice is valid during the call.
type Checker interface {
	Observed(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) error
	Ended(left scheduler.Snapshot) error
}

// ownCheckers are those that every run has.
func ownCheckers(cfg scheduler.Config) []Checker {
	return []Checker{
		&settles{trials: map[scheduler.AttemptID]bool{}, running: map[scheduler.JobID]int{}, settled: map[scheduler.JobID]bool{}, job: map[scheduler.AttemptID]scheduler.JobID{}},
		newSlots(cfg),
		&conservation{trials: map[scheduler.AttemptID]bool{}},
	}
}

// settles checks that every Arrived gets exactly one Settle, after its last attempt ended, and every
// Dispatch exactly one Finished. Trials are nobody's.
type settles struct {
	trials  map[scheduler.AttemptID]bool
	running map[scheduler.JobID]int // attempts of the jobs that are not settled
	settled map[scheduler.JobID]bool
	job     map[scheduler.AttemptID]scheduler.JobID
}

func (s *settles) Observed(_ scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) error {
	var errs []error
	switch ev := ev.(type) {
	case scheduler.Arrived:
		s.running[ev.Job.ID] = 0
	case scheduler.Finished:
		if s.trials[ev.Attempt] {
			delete(s.trials, ev.Attempt)
			break
		}
		job, ok := s.job[ev.Attempt]
		if !ok {
			errs = append(errs, fmt.Errorf("attempt %d finished and was never dispatched, or finished before", ev.Attempt))
			break
		}
		delete(s.job, ev.Attempt)
		s.running[job]--
	}
	for _, d := range ds {
		switch d := d.(type) {
		case scheduler.Dispatch:
			if d.Trial {
				s.trials[d.Attempt] = true
				continue
			}
			if _, ok := s.running[d.Job]; !ok {
				errs = append(errs, fmt.Errorf("job %d was dispatched and has not arrived, or is settled", d.Job))
			}
			if _, ok := s.job[d.Attempt]; ok {
				errs = append(errs, fmt.Errorf("attempt %d was dispatched twice", d.Attempt))
			}
			s.job[d.Attempt] = d.Job
			s.running[d.Job]++
		case scheduler.Settle:
			n, ok := s.running[d.Job]
			switch {
			case !ok || s.settled[d.Job]:
				errs = append(errs, fmt.Errorf("job %d was settled and has not arrived, or was settled before", d.Job))
			case n != 0:
				errs = append(errs, fmt.Errorf("job %d was settled while %d attempts run", d.Job, n))
			}
			s.settled[d.Job] = true
			delete(s.running, d.Job)
		}
	}
	return errors.Join(errs...)
}

func (s *settles) Ended(left scheduler.Snapshot) error {
	if held := left.Queued + left.Running - len(s.trials); held != len(s.running) {
		return fmt.Errorf("%d jobs have arrived and are not settled, the scheduler holds %d", len(s.running), held)
	}
	return nil
}

// slots checks that no backend ever runs more than its slots.
type slots struct {
	limit   map[scheduler.BackendID]int
	running map[scheduler.BackendID]int
	on      map[scheduler.AttemptID]scheduler.BackendID
}

// discoveredMax is the most slots that the scheduler tries where nobody tells it their number. That it
// goes no further than a card allows is not for a checker to say: it tries, and is refused.
const discoveredMax = 64

func newSlots(cfg scheduler.Config) *slots {
	s := &slots{map[scheduler.BackendID]int{}, map[scheduler.BackendID]int{}, map[scheduler.AttemptID]scheduler.BackendID{}}
	for _, b := range cfg.Backends {
		if s.limit[b.ID] = max(1, b.Slots); b.Discover {
			s.limit[b.ID] = discoveredMax
		}
	}
	return s
}

func (s *slots) Observed(_ scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) error {
	if ev, ok := ev.(scheduler.Finished); ok {
		s.running[s.on[ev.Attempt]]--
		delete(s.on, ev.Attempt)
	}
	var errs []error
	for _, d := range ds {
		if d, ok := d.(scheduler.Dispatch); ok {
			s.on[d.Attempt] = d.Backend
			if s.running[d.Backend]++; s.running[d.Backend] > s.limit[d.Backend] {
				errs = append(errs, fmt.Errorf("%s runs %d jobs on %d slots", d.Backend, s.running[d.Backend], s.limit[d.Backend]))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *slots) Ended(left scheduler.Snapshot) error {
	var errs []error
	for _, b := range left.Backends {
		if b.Outstanding != s.running[b.ID] {
			errs = append(errs, fmt.Errorf("%s runs %d jobs, counted %d", b.ID, b.Outstanding, s.running[b.ID]))
		}
	}
	return errors.Join(errs...)
}

// conservation checks that jobs are neither made nor lost: what arrived is settled, waits or runs.
type conservation struct {
	arrived, settled, dispatched, finished int
	trials                                 map[scheduler.AttemptID]bool // that run
}

func (c *conservation) Observed(_ scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) error {
	switch ev := ev.(type) {
	case scheduler.Arrived:
		c.arrived++
	case scheduler.Finished:
		c.finished++
		delete(c.trials, ev.Attempt)
	}
	for _, d := range ds {
		switch d := d.(type) {
		case scheduler.Dispatch:
			if c.dispatched++; d.Trial {
				c.trials[d.Attempt] = true
			}
		case scheduler.Settle:
			c.settled++
		}
	}
	if c.settled > c.arrived || c.finished > c.dispatched {
		return fmt.Errorf("%d jobs arrived and %d were settled; %d attempts were dispatched and %d finished", c.arrived, c.settled, c.dispatched, c.finished)
	}
	return nil
}

func (c *conservation) Ended(left scheduler.Snapshot) error {
	if c.arrived != c.settled+left.Queued+left.Running-len(c.trials) || c.dispatched != c.finished+left.Running {
		return fmt.Errorf("%d jobs arrived, %d were settled, %d wait, %d run; %d attempts were dispatched, %d finished",
			c.arrived, c.settled, left.Queued, left.Running, c.dispatched, c.finished)
	}
	return nil
}
