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

// Replay tells a new scheduler all that is in a journal, as a Player does, until its end or the first difference. The
// error says what is wrong with the journal.
func Replay(lines iter.Seq[[]byte], policy func(name string) (scheduler.Policy, bool)) (Report, error) {
	p := NewPlayer(policy)
	var refused error
	opened := func(h Header) { refused = errors.Join(refused, p.Open(h)) }
	for record, err := range Records(lines, opened) {
		if err = errors.Join(refused, err); err != nil {
			return p.Report(), err
		}
		if ended, err := p.Step(record); ended || err != nil {
			return p.Report(), err
		}
	}
	return p.Report(), refused
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
