// Package journal writes down what a scheduler was told and what it decided, and reads it again: a header with
// the configuration and its seed, then one line of JSON a step. So what happened in production can be replayed
// against the same code, or in a simulation against another policy.
//
// There is nothing in it of the audio, the text, the files' names or the clients: a job is its model, its needs,
// its length and size, and the hash of its tenant. What backends answered with is left out; their addresses, which
// are part of the configuration, are not.
//
// The package turns values into bytes and back; reading and writing files is for its callers. The format is pinned
// by a test: whoever changes it, be it by a new field of an event, raises Version.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/whisperpool/whisperpool/scheduler"
)

// Version is that of the format which is written. Those from oldest on are read: what they lack was not there
// when they were written.
const (
	Version = 2
	oldest  = 1
)

// LineMax bounds a line, in bytes: the configuration of some ten thousand backends.
const LineMax = 8 << 20

// Header opens a journal, and each of its segments.
type Header struct {
	Config scheduler.Config
	Speeds []scheduler.SpeedRecord `json:",omitempty"` // learned before
	// Segment counts the parts of a journal. The first, 0, begins with a new scheduler, and only from there
	// on can decisions be compared; the others continue the one before, and have the configuration and the
	// speeds for those who only have them.
	Segment int
}

// Record is one step.
type Record struct {
	At        scheduler.Instant
	Event     scheduler.Event
	Decisions []scheduler.Decision
}

// The lines as they are written.
type (
	headerLine struct {
		Journal int // the version; what sets a header apart
		Header
	}
	recordLine struct {
		At        scheduler.Instant
		Event     tagged
		Decisions []tagged `json:",omitempty"`
	}
	// tagged is a value with the name of its type.
	tagged struct {
		Is   string
		Data json.RawMessage `json:",omitempty"`
	}
)

// AppendHeader appends a header's line.
func AppendHeader(to []byte, h Header) ([]byte, error) {
	return appendLine(to, headerLine{Version, h})
}

// Append appends a record's line.
func Append(to []byte, r Record) ([]byte, error) {
	line := recordLine{At: r.At}
	var err error
	if line.Event, err = tag(nameOfEvent(r.Event), clean(r.Event)); err != nil {
		return to, err
	}
	for _, d := range r.Decisions {
		t, err := tag(nameOfDecision(d), cleanDecision(d))
		if err != nil {
			return to, err
		}
		line.Decisions = append(line.Decisions, t)
	}
	return appendLine(to, line)
}

func tag(name string, value any) (tagged, error) {
	if name == "" {
		return tagged{}, fmt.Errorf("journal: %T is not known", value)
	}
	data, err := json.Marshal(value)
	if err != nil {
		return tagged{}, fmt.Errorf("journal: %w", err)
	}
	if string(data) == "{}" {
		data = nil
	}
	return tagged{name, data}, nil
}

func appendLine(to []byte, line any) ([]byte, error) {
	data, err := json.Marshal(line)
	if err != nil {
		return to, fmt.Errorf("journal: %w", err)
	}
	if len(data) > LineMax {
		return to, fmt.Errorf("journal: a line of %d bytes, at most %d are written", len(data), LineMax)
	}
	return append(append(to, data...), '\n'), nil
}

// clean leaves out of an event what is not to be written, or cannot be: sizes that are no numbers count as not
// told, as they do to the scheduler.
func clean(ev scheduler.Event) scheduler.Event {
	switch e := ev.(type) {
	case scheduler.Arrived:
		e.Job.AudioSeconds = number(e.Job.AudioSeconds)
		return e
	case scheduler.Finished:
		e.Outcome = cleanOutcome(e.Outcome)
		return e
	}
	return ev
}

func cleanDecision(d scheduler.Decision) scheduler.Decision {
	if s, ok := d.(scheduler.Settle); ok {
		s.Last = cleanOutcome(s.Last)
		return s
	}
	return d
}

func cleanOutcome(o scheduler.Outcome) scheduler.Outcome {
	o.Detail = ""
	o.AudioSeconds = number(o.AudioSeconds)
	return o
}

func number(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}

// Parse reads a line, which is a header or a record: one of the two is returned. It fails when the line is cut,
// of another version, or not of a journal.
func Parse(line []byte) (*Header, *Record, error) {
	if len(line) > LineMax {
		return nil, nil, fmt.Errorf("journal: a line of %d bytes, at most %d are read", len(line), LineMax)
	}
	if bytes.HasPrefix(line, []byte(`{"Journal":`)) { // as all headers are written
		return parseHeader(line)
	}
	var l recordLine
	if err := strictly(line, &l); err != nil {
		return nil, nil, err
	}
	r := &Record{At: l.At}
	var err error
	if r.Event, err = parseEvent(l.Event); err != nil {
		return nil, nil, err
	}
	for _, t := range l.Decisions {
		d, err := parseDecision(t)
		if err != nil {
			return nil, nil, err
		}
		r.Decisions = append(r.Decisions, d)
	}
	return nil, r, nil
}

func parseHeader(line []byte) (*Header, *Record, error) {
	var version struct{ Journal int }
	if err := json.Unmarshal(line, &version); err != nil {
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	if version.Journal < oldest || version.Journal > Version {
		return nil, nil, fmt.Errorf("journal: it is of version %d, this program reads versions %d to %d", version.Journal, oldest, Version)
	}
	var l headerLine
	if err := strictly(line, &l); err != nil {
		return nil, nil, err
	}
	if err := l.Config.Validate(); err != nil {
		return nil, nil, fmt.Errorf("journal: the configuration in its header is not valid: %w", err)
	}
	return &l.Header, nil, nil
}

// strictly reads JSON that has nothing else in it.
func strictly(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if d.More() {
		return errors.New("journal: a line has something behind its end")
	}
	return nil
}
