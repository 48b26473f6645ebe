package recording

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/journal"
)

// story is a scheduler that is told what a test says, and written down.
type story struct {
	t     *testing.T
	core  *scheduler.Scheduler
	cfg   scheduler.Config
	lines [][]byte
	last  scheduler.AttemptID // dispatched
}

func newStory(t *testing.T, backends ...scheduler.Backend) *story {
	t.Helper()
	s := &story{t: t, cfg: scheduler.Config{Backends: backends, Queue: scheduler.Queue{MaxRequests: 1}}}
	core, err := scheduler.New(s.cfg, policies.ByName)
	if err != nil {
		t.Fatal(err)
	}
	s.core = core
	return s
}

// at has an event happen after so many milliseconds.
func (s *story) at(ms int, ev scheduler.Event) {
	s.t.Helper()
	now := scheduler.Instant(time.Duration(ms) * time.Millisecond)
	ds := s.core.Step(now, ev)
	for _, d := range ds {
		if d, ok := d.(scheduler.Dispatch); ok {
			s.last = d.Attempt
		}
	}
	line, err := journal.Append(nil, journal.Record{At: now, Event: ev, Decisions: ds})
	if err != nil {
		s.t.Fatal(err)
	}
	s.lines = append(s.lines, line)
}

func (s *story) header(segment int) []byte {
	s.t.Helper()
	line, err := journal.AppendHeader(nil, journal.Header{Config: s.cfg, Segment: segment})
	if err != nil {
		s.t.Fatal(err)
	}
	return line
}

// done is a success of the attempt that was dispatched last, or of another.
func done(attempt scheduler.AttemptID, audio float64) scheduler.Finished {
	return scheduler.Finished{Attempt: attempt, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true, AudioSeconds: audio}}
}

// write puts files into a folder, by name.
func write(t *testing.T, files map[string][]byte) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func review(t *testing.T, paths ...string) *Review {
	t.Helper()
	r, err := Find(paths)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Review(true, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// eventful is a story in which jobs end in all ways.
func eventful(t *testing.T) *story {
	s := newStory(t, scheduler.Backend{ID: "a", Address: "a:1", Class: "T4", Slots: 1, Models: []string{"base"}})
	job := func(id scheduler.JobID, audio float64) scheduler.Arrived {
		return scheduler.Arrived{Job: scheduler.Job{ID: id, Model: "base", AudioSeconds: audio, Tenant: scheduler.Tenant(id % 2)}}
	}
	s.at(1000, job(1, 10)) // served, told a wrong length
	s.at(1500, done(s.last, 20))
	s.at(2000, job(2, 0)) // served, at the second attempt
	s.at(2100, scheduler.Finished{Attempt: s.last, Outcome: scheduler.Outcome{Result: scheduler.Died, Unreached: true}})
	s.at(8000, scheduler.Ticked{})
	s.at(9000, done(s.last, 0))
	s.at(10_000, job(3, 5))                  // runs, and its client leaves
	s.at(10_100, job(4, 5))                  // waits, and its client leaves
	s.at(10_200, job(5, 5))                  // is refused: one waits
	s.at(10_300, scheduler.Canceled{Job: 4}) //
	s.at(10_400, scheduler.Canceled{Job: 3}) //
	s.at(10_500, scheduler.Finished{Attempt: s.last, Outcome: scheduler.Outcome{Result: scheduler.Aborted}})
	s.at(11_000, job(6, 5)) // the backend refuses it
	s.at(11_100, scheduler.Finished{Attempt: s.last, Outcome: scheduler.Outcome{Result: scheduler.ClientError}})
	s.at(11_200, scheduler.Arrived{Job: scheduler.Job{ID: 7, Model: "other", AudioSeconds: 5}}) // nobody has it
	s.at(12_000, job(8, 5))                                                                     // runs on
	return s
}

func TestWhatHappenedIsCounted(t *testing.T) {
	s := eventful(t)
	got := review(t, write(t, map[string][]byte{"r.jsonl": slices.Concat(append([][]byte{s.header(0)}, s.lines...)...)}))
	if d := got.Decided; d.Difference != nil || d.Compared != len(s.lines) {
		t.Errorf("decided %+v, want %d", d, len(s.lines))
	}
	want := map[string]int{"served": 2, "client_gone": 2, "queue_full": 1, "refused": 1, "no_backend": 1}
	for reason, n := range want {
		if got.Settled[reason] != n {
			t.Errorf("settled %v, want %v", got.Settled, want)
		}
	}
	if got.Jobs != 8 || got.Open != 1 || got.Unknown != 1 || got.Retried != 1 || got.Attempts != 6 || got.Tenants != 1 || !got.Begins || got.Cut != nil {
		t.Errorf("%+v", got.Summary)
	}
	if r := got.Response; r.N != 2 || math.Abs(r.Max-7) > 1e-9 || math.Abs(r.Mean-3.75) > 1e-9 || math.Abs(got.Service.P50-0.5) > 1e-9 {
		t.Errorf("response %+v, service %+v", r, got.Service)
	}
	b := got.Backends[0]
	if b.Attempts != 6 || b.Ended["died"] != 1 || b.Ended["success"] != 2 || b.Ended["aborted"] != 1 || b.Ended["client_error"] != 1 || b.Share != 1 || b.Slots != 1 {
		t.Errorf("backend %+v", b)
	}
	if len(got.Models) != 2 || got.Models[0].Model != "base" || got.Models[0].Jobs != 7 || got.Models[0].Audio != 50 {
		t.Errorf("models %+v", got.Models) // one answer did not tell its length, and half a minute is guessed
	}
}

func TestTheWorkload(t *testing.T) {
	s := eventful(t)
	w := review(t, write(t, map[string][]byte{"r.jsonl": slices.Concat(append([][]byte{s.header(0)}, s.lines...)...)})).Workload
	if len(w.Jobs) != 6 || w.Wrong != 1 || w.Impossible != 1 {
		t.Fatalf("%d jobs, %d wrong, %d impossible", len(w.Jobs), w.Wrong, w.Impossible)
	}
	first, second := w.Jobs[0], w.Jobs[1]
	if first.At != 0 || first.Audio != 20 || first.Told != 10 || !first.Served() || second.At != time.Second || second.Audio != guessSeconds || second.Told != 0 {
		t.Errorf("served: %+v, %+v", first, second)
	}
	law := w.Cards[0].Laws["base"]
	if took := law.Of(first.Audio) * first.Luck; math.Abs(took-0.5) > 1e-9 || law.From != "the law of T4" {
		t.Errorf("it takes %.3f s on the card that took 0.5, by %+v", took, law)
	}
	if left := w.Jobs[2]; left.Leaves != 400*time.Millisecond || left.Luck != 1 || !left.Left() {
		t.Errorf("left: %+v", left)
	}
	if refused := w.Jobs[4]; refused.Leaves != 0 || refused.Served() || refused.Luck != 1 {
		t.Errorf("refused: %+v", refused)
	}
}

// TestSegments: what can be read of several files, and what is said of those that cannot.
func TestSegments(t *testing.T) {
	s := eventful(t)
	all := slices.Concat(s.lines...)
	half := len(s.lines) / 2
	head, tail := slices.Concat(s.lines[:half]...), slices.Concat(s.lines[half:]...)
	const began = "main-20261125T000000.000Z-"
	other := "main-20261126T000000.000Z-000000.jsonl"
	for name, c := range map[string]struct {
		files map[string][]byte
		says  string // "": it is read
		check func(r *Review) bool
	}{
		"two segments": {map[string][]byte{began + "000000.jsonl": slices.Concat(s.header(0), head), began + "000001.jsonl": slices.Concat(s.header(1), tail)}, "",
			func(r *Review) bool {
				return r.Records == len(s.lines) && r.Decided.Difference == nil && len(r.Files) == 2
			}},
		"other names, the wrong way round": {map[string][]byte{"b.jsonl": slices.Concat(s.header(0), head), "a.jsonl": slices.Concat(s.header(1), tail)}, "",
			func(r *Review) bool { return r.Records == len(s.lines) && r.Decided.Compared == len(s.lines) }},
		"cut at its end": {map[string][]byte{"a.jsonl": slices.Concat(s.header(0), all[:len(all)-5])}, "",
			func(r *Review) bool {
				return r.Records == len(s.lines)-1 && r.Cut != nil && r.Cut.Line == len(s.lines)+1
			}},
		"cut behind its last line": {map[string][]byte{"a.jsonl": slices.Concat(s.header(0), all[:len(all)-1])}, "",
			func(r *Review) bool { return r.Records == len(s.lines) && r.Cut == nil }},
		"a last segment that is empty": {map[string][]byte{"a.jsonl": slices.Concat(s.header(0), all), "b.jsonl": nil}, "",
			func(r *Review) bool { return r.Records == len(s.lines) && r.Cut != nil && r.Cut.Line == 1 }},
		"without its start": {map[string][]byte{"a.jsonl": slices.Concat(s.header(4), tail)}, "",
			func(r *Review) bool {
				return !r.Begins && r.Decided.Compared == 0 && r.Earlier == 2 && r.Jobs == 4 && r.Attempts == 2
			}},
		"damaged":                       {map[string][]byte{"a.jsonl": slices.Concat(s.header(0), head, []byte("{\"At\":what}\n"), tail)}, "a.jsonl: line 10 (byte ", nil},
		"damaged at its end":            {map[string][]byte{"a.jsonl": slices.Concat(s.header(0), head, []byte("{\"At\":what}\n"))}, "it is damaged", nil},
		"cut in the middle":             {map[string][]byte{"a.jsonl": slices.Concat(s.header(0), head[:len(head)-9]), "b.jsonl": slices.Concat(s.header(1), tail)}, "a.jsonl: line 9 (byte ", nil},
		"one missing":                   {map[string][]byte{began + "000000.jsonl": slices.Concat(s.header(0), head), began + "000002.jsonl": slices.Concat(s.header(2), tail)}, "a piece is missing", nil},
		"one twice":                     {map[string][]byte{"a.jsonl": slices.Concat(s.header(1), head), "b.jsonl": slices.Concat(s.header(1), tail)}, "are both segment 1", nil},
		"newer":                         {map[string][]byte{"a.jsonl": []byte("{\"Journal\":99,\"Config\":{}}\n")}, "replay it with the whisperpool that recorded it", nil},
		"without a header":              {map[string][]byte{"a.jsonl": all}, "a.jsonl: line 1: it does not begin with a header", nil},
		"two in one":                    {map[string][]byte{"a.jsonl": slices.Concat(s.header(0), head, s.header(1), tail)}, "two files were put together", nil},
		"two recordings":                {map[string][]byte{began + "000000.jsonl": slices.Concat(s.header(0), head), other: slices.Concat(s.header(0), head)}, "these are 2 recordings", nil},
		"something else":                {map[string][]byte{"a.jsonl": []byte("{\"level\":\"info\"}\n")}, "the segments that the option record has written", nil},
		"empty":                         {map[string][]byte{"a.jsonl": nil}, "nothing has been written yet", nil},
		"no events":                     {map[string][]byte{"a.jsonl": s.header(0)}, "no events", nil},
		"no files":                      {nil, "there is no segment", nil},
		"jobs that nobody has heard of": {map[string][]byte{"a.jsonl": slices.Concat(s.header(0), s.lines[1])}, "a.jsonl: line 2 (byte ", nil},
	} {
		var got *Review
		r, err := Find([]string{write(t, c.files)})
		if err == nil {
			got, err = r.Review(false, nil)
		}
		switch {
		case c.says == "" && (err != nil || !c.check(got)):
			t.Errorf("%s: %+v, %v", name, got, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want it to say %q", name, err, c.says)
		}
	}
}

func TestPathsAreExpanded(t *testing.T) {
	s := eventful(t)
	half := len(s.lines) / 2
	folder := write(t, map[string][]byte{
		"a-1.jsonl": slices.Concat(append([][]byte{s.header(0)}, s.lines[:half]...)...),
		"a-2.jsonl": slices.Concat(append([][]byte{s.header(1)}, s.lines[half:]...)...),
		"notes.txt": []byte("mine"),
	})
	one, two := filepath.Join(folder, "a-1.jsonl"), filepath.Join(folder, "a-2.jsonl")
	for _, paths := range [][]string{{folder}, {two, one}, {filepath.Join(folder, "a-*")}, {folder, one, filepath.Join(folder, "*.jsonl")}} {
		if r, err := Find(paths); err != nil || len(r.Files) != 2 || r.Files[0].Path != one || r.Size() == 0 {
			t.Errorf("%v: %+v, %v", paths, r, err)
		}
	}
	for path, says := range map[string]string{filepath.Join(folder, "b-*"): "no file matches", filepath.Join(folder, "a-3.jsonl"): "no such file"} {
		if _, err := Find([]string{path}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want it to say %q", path, err, says)
		}
	}
}

// TestADifferenceIsNamed: a decision that was another is told with its place.
func TestADifferenceIsNamed(t *testing.T) {
	s := eventful(t)
	text := string(slices.Concat(append([][]byte{s.header(0)}, s.lines...)...))
	changed := strings.Replace(text, `"Is":"dispatch","Data":{"Attempt":4,"Job":3`, `"Is":"dispatch","Data":{"Attempt":4,"Job":9`, 1)
	if changed == text {
		t.Fatal("nothing was changed")
	}
	got := review(t, write(t, map[string][]byte{"r.jsonl": []byte(changed)}))
	d := got.Decided.Difference
	if d == nil || d.Line != 8 || d.At != 10 || !strings.HasPrefix(d.Event, "arrived") || !strings.Contains(d.Then, "job 9 to a") || !strings.Contains(d.Now, "job 3 to a") {
		t.Errorf("%+v", d)
	}
	if got.Jobs != 8 {
		t.Errorf("%d jobs are counted", got.Jobs)
	}
}

func TestLawsOfWhatWasNotMeasured(t *testing.T) {
	prior := priorOf("T4", "base")
	seconds := func(l scheduler.Law, audio float64) float64 { return l.Fixed.Seconds() + audio*l.PerSecond.Seconds() }
	l := laws{audio: 10, measured: []classLaw{{MeasuredLaw{Model: "base", Fixed: prior.Fixed.Seconds() / 2, PerSecond: prior.PerSecond.Seconds() / 2}, "T4", prior}}}
	if got, ok := l.of("T4", "base", prior); !ok || math.Abs(got.Of(10)-seconds(prior, 10)/2) > 1e-9 || !strings.Contains(got.From, "other T4") {
		t.Errorf("of the same class: %+v", got)
	}
	h100 := priorOf("H100", "base")
	if got, ok := l.of("H100", "base", h100); !ok || math.Abs(got.Of(30)-seconds(h100, 30)/2) > 1e-9 || !strings.Contains(got.From, "the law of H100 x 0.5") {
		t.Errorf("of another class: %+v", got)
	}
	large := priorOf("H100", "large-v3")
	if got, ok := l.of("H100", "large-v3", large); !ok || math.Abs(got.Of(30)-seconds(large, 30)/2) > 1e-9 {
		t.Errorf("with another model: %+v", got)
	}
	if got, ok := l.of("GTX", "base", scheduler.Law{}); ok {
		t.Errorf("of a class that nobody knows: %+v", got)
	}
}

func TestFitIsRobust(t *testing.T) {
	var all []seen
	for i := range 200 {
		audio := float64(1 + i%50)
		took := 0.2 + audio/40
		if i%20 == 7 {
			took *= 5
		}
		all = append(all, seen{float32(audio), float32(took), 1})
	}
	if f := fit(all); math.Abs(f.fixed/f.perSecond-0.2*40) > 1.5 || f.gain != 0 {
		t.Errorf("%+v", f)
	}
	for i := range all {
		all[i].audio, all[i].took = 5, 0.5
	}
	if f := fit(all); math.Abs(f.fixed+5*f.perSecond-0.5) > 1e-6 || f.perSecond <= 0 {
		t.Errorf("all of one length: %+v", f)
	}
}
