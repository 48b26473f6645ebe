package journal

import (
	"bytes"
	"flag"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

var rewrite = flag.Bool("rewrite", false, "write the pinned format anew; raise Version with it")

var events = []scheduler.Event{
	scheduler.Arrived{}, scheduler.Canceled{}, scheduler.Committed{}, scheduler.Finished{}, scheduler.Probed{},
	scheduler.Reported{}, scheduler.Configured{}, scheduler.Restored{}, scheduler.Ticked{},
}

var decisions = []scheduler.Decision{scheduler.Dispatch{}, scheduler.Abort{}, scheduler.Settle{}, scheduler.Probe{}, scheduler.Judged{}}

// fill sets every field to something of its own.
func fill(v reflect.Value, next *int) {
	*next++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), next)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), next)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, next)
		fill(value, next)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("text" + string('a'+rune(*next%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(float64(*next) + 0.5)
	case reflect.Uint8:
		v.SetUint(uint64(1 + *next%7))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*next))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*next))
	default:
		panic("nobody has said how a " + v.Kind().String() + " is filled")
	}
}

func filled[T any](v T) T {
	p := reflect.New(reflect.TypeOf(v)).Elem()
	next := 0
	fill(p, &next)
	out := p.Interface().(T)
	if c, ok := any(out).(scheduler.Configured); ok { // to something valid
		c.Config.Queue.Order, c.Config.Breaker.MaxOpenFor, c.Config.RetryBudget = scheduler.FIFO, time.Minute, 0.25
		return any(c).(T)
	}
	return out
}

// TestFormatIsPinned: a line for each event and decision, all of their fields in use, is as it was when this
// version of the format was made.
func TestFormatIsPinned(t *testing.T) {
	var now []byte
	var err error
	head := filled(Header{})
	head.Config = filled(scheduler.Configured{}).Config
	if now, err = AppendHeader(now, head); err != nil {
		t.Fatal(err)
	}
	for i, ev := range events {
		r := Record{At: scheduler.Instant(i), Event: filled(ev)}
		if i < len(decisions) {
			r.Decisions = []scheduler.Decision{filled(decisions[i])}
		}
		if now, err = Append(now, r); err != nil {
			t.Fatal(err)
		}
	}
	const path = "testdata/format.jsonl"
	if *rewrite {
		if err := os.WriteFile(path, now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pinned, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(now, pinned) {
		t.Errorf("the format has changed: raise Version and run with -rewrite\n%s\nbefore:\n%s", now, pinned)
	}
	if strings.Contains(string(now), "Detail\":\"text") {
		t.Error("what a backend answered with is written down")
	}
}

// TestOldJournalsAreRead: what earlier versions wrote, of every event and decision, is read without loss.
func TestOldJournalsAreRead(t *testing.T) {
	old, err := os.ReadFile("testdata/format_1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for line := range bytes.Lines(old) {
		line = bytes.TrimSpace(line)
		head, record, err := Parse(line)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if head != nil {
			if head.Config.Attempts != 32 || head.Config.Backends[0].Slots != 11 || head.Config.RetryBudget != 0 {
				t.Errorf("the header was read as %+v", head)
			}
			continue
		}
		read++
		again, err := Append(nil, *record)
		if err != nil || !bytes.Equal(bytes.TrimSpace(again), line) && record.At != 6 { // 6 is a configuration, which has more fields now
			t.Errorf("read and written again (%v):\n%swas\n%s", err, again, line)
		}
	}
	if read != len(events) {
		t.Errorf("%d records were read, want %d", read, len(events))
	}
}

func TestRecordsAreReadAsWritten(t *testing.T) {
	for _, ev := range events {
		for _, full := range []bool{true, false} {
			r := Record{At: 7, Event: ev}
			if full {
				r.Event = filled(ev)
				for _, d := range decisions {
					r.Decisions = append(r.Decisions, filled(d))
				}
			}
			line, err := Append(nil, r)
			if err != nil {
				t.Fatal(err)
			}
			_, got, err := Parse(line)
			if _, finished := ev.(scheduler.Finished); finished && !full {
				if err == nil {
					t.Error("an attempt without a result was read")
				}
				continue
			}
			if err != nil {
				t.Fatalf("%T: %v", ev, err)
			}
			want := Record{At: 7, Event: clean(r.Event)}
			for _, d := range r.Decisions {
				want.Decisions = append(want.Decisions, cleanDecision(d))
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("%T: read %+v, wrote %+v", ev, *got, want)
			}
		}
	}
}

func TestOddNumbersAreWritten(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		line, err := Append(nil, Record{Event: scheduler.Arrived{Job: scheduler.Job{ID: 1, AudioSeconds: x}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, r, err := Parse(line); err != nil || r.Event.(scheduler.Arrived).Job.AudioSeconds != 0 {
			t.Errorf("%v: %+v, %v", x, r, err)
		}
	}
}

func TestWhatIsNotOfAJournal(t *testing.T) {
	valid := `{"At":1,"Event":{"Is":"ticked"}}`
	if _, _, err := Parse([]byte(valid)); err != nil {
		t.Fatal(err)
	}
	for line, says := range map[string]string{
		"":                                       "journal: ",
		"GET / HTTP/1.1":                         "journal: ",
		valid[:len(valid)-3]:                     "journal: ",
		valid + valid:                            "journal: ",
		`{"Journal":3,"Config":{}}`:              "version 3, this program reads versions 1 to 2",
		`{"Journal":1,"Config":{},"More":1}`:     "unknown field",
		`{"Journal":1,"Config":{"Attempts":-1}}`: "not valid",
		`{"At":1,"Event":{"Is":"exploded"}}`:     `no event "exploded"`,
		`{"At":1,"Event":{"Is":"ticked"},"X":1}`: "unknown field",
		`{"At":1,"Event":{"Is":"arrived","Data":{"Job":{"Text":"a"}}}}`:          "unknown field",
		`{"At":1,"Event":{"Is":"finished","Data":{"Outcome":{"Result":9}}}}`:     "no result 9",
		`{"At":1,"Event":{"Is":"ticked"},"Decisions":[{"Is":"sleep"}]}`:          `no decision "sleep"`,
		`{"At":1,"Event":{"Is":"configured","Data":{"Config":{"Attempts":-1}}}}`: "attempts is -1",
		`{"Journal":1,"Config":{},"Segment":0}` + strings.Repeat(" ", LineMax):   "at most",
	} {
		if _, _, err := Parse([]byte(line)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60s: %v, want it to say %q", line, err, says)
		}
	}
	huge := make([]scheduler.SpeedRecord, 50_000)
	for i := range huge {
		huge[i] = scheduler.SpeedRecord{Address: strings.Repeat("x", 100), Learned: estimator.State{Levels: make([]estimator.Level, 1)}}
	}
	if line, err := Append([]byte("before"), Record{Event: scheduler.Restored{Speeds: huge}}); err == nil || string(line) != "before" {
		t.Errorf("a line of any length is written: %d bytes, %v", len(line), err)
	}
}

// lines splits what was written.
func lines(text []byte) [][]byte {
	return bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
}

func TestSegmentsFollowEachOther(t *testing.T) {
	tick, _ := Append(nil, Record{Event: scheduler.Ticked{}})
	head := func(n int) []byte {
		h, err := AppendHeader(nil, Header{Segment: n})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for name, c := range map[string]struct {
		text []byte
		read int
		says string
	}{
		"one":               {slices.Concat(head(0), tick, tick), 2, ""},
		"several":           {slices.Concat(head(3), tick, head(4), tick, tick, head(5)), 3, ""},
		"one is missing":    {slices.Concat(head(3), tick, head(5), tick), 1, "segment 5 follows segment 3"},
		"cut":               {slices.Concat(head(0), tick, tick[:len(tick)-4]), 1, ""},
		"cut in its header": {head(0)[:20], 0, "journal: "},
		"broken inside":     {slices.Concat(head(0), tick, []byte("what\n"), tick), 1, "line 3"},
		"without a header":  {slices.Concat(tick, tick), 0, "begins with a header"},
		"empty":             {nil, 0, "journal: "},
	} {
		read := 0
		var failed error
		for _, err := range Records(slices.Values(lines(c.text)), func(Header) {}) {
			if failed = err; err == nil {
				read++
			}
		}
		if read != c.read || (failed == nil) != (c.says == "") || failed != nil && !strings.Contains(failed.Error(), c.says) {
			t.Errorf("%s: %d records and %v, want %d and %q", name, read, failed, c.read, c.says)
		}
	}
	for _, err := range Records(slices.Values([][]byte{}), func(Header) {}) {
		if err == nil || !strings.Contains(err.Error(), "empty") {
			t.Errorf("no lines at all: %v", err)
		}
	}
}

// FuzzParse: whatever the bytes, and what is read is written and read again as it was.
func FuzzParse(f *testing.F) {
	if pinned, err := os.ReadFile("testdata/format.jsonl"); err == nil {
		for _, line := range lines(pinned) {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		header, record, err := Parse(line)
		switch {
		case err != nil:
		case header != nil:
			again, err := AppendHeader(nil, *header)
			if err != nil {
				t.Fatal(err)
			}
			h, _, err := Parse(again)
			if err != nil {
				t.Fatal(err)
			}
			if twice, err := AppendHeader(nil, *h); err != nil || !bytes.Equal(again, twice) {
				t.Fatalf("%s\n%s\n%v", again, twice, err)
			}
		default:
			again, err := Append(nil, *record)
			if err != nil {
				t.Fatal(err)
			}
			_, r, err := Parse(again)
			if err != nil {
				t.Fatal(err)
			}
			twice, err := Append(nil, *r)
			if err != nil || !bytes.Equal(again, twice) {
				t.Fatalf("%s\n%s\n%v", again, twice, err)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	r := Record{At: 1e12, Event: scheduler.Arrived{Job: scheduler.Job{ID: 12345, Model: "large-v3", AudioSeconds: 12.34, Bytes: 400_000, Tenant: 1 << 63}},
		Decisions: []scheduler.Decision{scheduler.Dispatch{Attempt: 12345, Job: 12345, Backend: "10.0.0.1:8000", Model: "large-v3", Timeout: 10e9, Predicted: 1e9, Number: 1}}}
	var line []byte
	var err error
	b.ReportAllocs()
	for b.Loop() {
		if line, err = Append(line[:0], r); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(line)))
}
