package journal

import (
	"errors"
	"fmt"
	"iter"
	"reflect"

	"github.com/whisperpool/whisperpool/scheduler"
)

// Records reads a journal from its lines, segments one after the other. A last line that cannot be read is taken
// to be cut, since whoever wrote it was, and left out. Any other mistake is the last thing that is yielded.
// The header of the first segment is given to opened, before the first record, and so are those that follow.
func Records(lines iter.Seq[[]byte], opened func(Header)) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var bad error // of the line before
		number, segment, begun := 0, 0, false
		for line := range lines {
			if bad != nil {
				yield(Record{}, bad)
				return
			}
			number++
			header, record, err := Parse(line)
			switch {
			case err != nil:
				bad = fmt.Errorf("line %d: %w", number, err)
			case header != nil && begun && header.Segment != segment+1:
				bad = fmt.Errorf("line %d: segment %d follows segment %d", number, header.Segment, segment)
			case header != nil:
				segment, begun = header.Segment, true
				opened(*header)
			case !begun:
				bad = fmt.Errorf("line %d: a journal begins with a header", number)
			case !yield(*record, nil):
				return
			}
		}
		if bad != nil && number == 1 { // nothing was read
			yield(Record{}, bad)
		} else if number == 0 {
			yield(Record{}, errors.New("the journal is empty"))
		}
	}
}

// Report is what a replay found.
type Report struct {
	Records    int
	Decisions  int
	Difference *Difference // the first, nil when there is none
}

// Difference is a step that was decided otherwise.
type Difference struct {
	Record
	Number int                  // of the record, from 1
	Now    []scheduler.Decision // what is decided now
}

func (d *Difference) Error() string {
	return fmt.Sprintf("record %d, %T: decided then %+v, now %+v", d.Number, d.Event, d.Decisions, d.Now)
}

// Replay tells a new scheduler all that is in a journal, and compares what it decides with what was decided. It
// stops at the first difference, for from there on the two have different histories. The error says what is
// wrong with the journal: also that it does not begin with its first segment, so that it speaks of jobs that
// nobody has heard of.
func Replay(lines iter.Seq[[]byte], policy func(name string) (scheduler.Policy, bool)) (r Report, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("record %d breaks the scheduler's contract: %v", r.Records, broken)
		}
	}()
	var core *scheduler.Scheduler
	var refused error
	opened := func(h Header) {
		switch {
		case core != nil: // it goes on
		case h.Segment != 0:
			refused = fmt.Errorf("it begins with segment %d, so what was decided before is not known", h.Segment)
		default:
			if core, refused = scheduler.New(h.Config, policy); refused == nil && len(h.Speeds) > 0 {
				core.Step(0, scheduler.Restored{Speeds: h.Speeds})
			}
		}
	}
	for record, err := range Records(lines, opened) {
		if err = errors.Join(refused, err); err != nil {
			return r, err
		}
		r.Records++
		decided := core.Step(record.At, record.Event)
		r.Decisions += len(decided)
		if !equal(record.Decisions, decided) {
			r.Difference = &Difference{Record: record, Number: r.Records, Now: append([]scheduler.Decision(nil), decided...)}
			return r, nil
		}
	}
	return r, refused
}

func equal(then, now []scheduler.Decision) bool {
	if len(then) != len(now) {
		return false
	}
	for i := range then {
		if !reflect.DeepEqual(cleanDecision(then[i]), cleanDecision(now[i])) {
			return false
		}
	}
	return true
}
