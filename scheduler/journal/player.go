package journal

import (
	"fmt"

	"github.com/whisperpool/whisperpool/scheduler"
)

// Player tells a new scheduler what is in a journal, a record at a time, and compares what it decides with what
// was decided. It ends at the first difference, for from there on the two have different histories.
type Player struct {
	policy func(name string) (scheduler.Policy, bool)
	core   *scheduler.Scheduler
	report Report
}

// NewPlayer returns a player; policy resolves the names of policies.
func NewPlayer(policy func(name string) (scheduler.Policy, bool)) *Player {
	return &Player{policy: policy}
}

// Open takes in the header of a segment, in order. The error says that the journal does not begin with its first
// segment, so that it speaks of jobs that nobody has heard of, or that its configuration is refused.
func (p *Player) Open(h Header) (err error) {
	defer p.guard(&err)
	switch {
	case p.core != nil: // it goes on
		return nil
	case h.Segment != 0:
		return fmt.Errorf("it begins with segment %d, so what was decided before is not known", h.Segment)
	}
	core, err := scheduler.New(h.Config, p.policy)
	if err != nil {
		return err
	}
	if p.core = core; len(h.Speeds) > 0 {
		core.Step(0, scheduler.Restored{Speeds: h.Speeds})
	}
	return nil
}

// Step takes in a record, and says whether the player is at its end. The error says that the scheduler's contract
// is broken, so that this is not what a scheduler was told. Requires: Open has not failed.
func (p *Player) Step(r Record) (ended bool, err error) {
	defer p.guard(&err)
	if p.report.Difference != nil {
		return true, nil
	}
	p.report.Records++
	decided := p.core.Step(r.At, r.Event)
	p.report.Decisions += len(decided)
	if !equal(r.Decisions, decided) {
		p.report.Difference = &Difference{Record: r, Number: p.report.Records, Now: append([]scheduler.Decision(nil), decided...)}
	}
	return p.report.Difference != nil, nil
}

// Report is what was found until now.
func (p *Player) Report() Report { return p.report }

// Snapshot is what the scheduler knows by now. Requires: Open has not failed, nor Step.
func (p *Player) Snapshot() scheduler.Snapshot { return p.core.Snapshot() }

// guard makes an error of a panic of the scheduler.
func (p *Player) guard(err *error) {
	if broken := recover(); broken != nil {
		*err = fmt.Errorf("record %d breaks the scheduler's contract: %v", p.report.Records, broken)
	}
}
