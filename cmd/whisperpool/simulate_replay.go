package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim"
	"github.com/whisperpool/whisperpool/sim/recording"
)

// runReplay says what happened in a recording, or what would have happened to its jobs.
func (o *simulateOptions) runReplay(paths []string, out io.Writer, p *progress) error {
	defer p.end()
	found, err := recording.Find(paths)
	if err != nil {
		return err
	}
	r, err := found.Review(o.compare || o.whatIf != "", p.read)
	p.end()
	if err != nil {
		return err
	}
	if !o.compare && o.whatIf == "" {
		if o.json {
			return printJSON(out, r.Summary)
		}
		return printReplay(out, &r.Summary)
	}
	st := sim.Replay(r.Workload)
	switch {
	case st.Jobs == 0 || len(st.Cards) == 0:
		return errors.New("there is nothing to simulate: the recording has no job that a backend could do whose speed is known or whose GPU class is; see it without --compare and --what-if")
	case o.compare:
		return o.compareReplay(r, st, out, p)
	}
	return o.whatIfReplay(r, st, out, p)
}

// printReplay says what happened.
func printReplay(out io.Writer, s *recording.Summary) error {
	fmt.Fprintf(out, "%s\n\n", recordingWords(s))
	fmt.Fprintf(out, "%s\n\n", jobsWords(s))
	g := grid{}
	g.add("seconds, of jobs served", "mean", "p50", "p95", "p99", "longest")
	for _, row := range []struct {
		name string
		f    recording.Figures
	}{{"waiting", s.Waiting}, {"service", s.Service}, {"response", s.Response}} {
		g.add(row.name, seconds(row.f.Mean), seconds(row.f.P50), seconds(row.f.P95), seconds(row.f.P99), seconds(row.f.Max))
	}
	if err := g.print(out); err != nil {
		return err
	}
	fmt.Fprint(out, "\n")
	if err := backendsGrid(s).print(out); err != nil {
		return err
	}
	fmt.Fprint(out, "\n")
	g = grid{}
	g.add("model", "jobs", "served", "audio", "mean response")
	for _, m := range s.Models {
		g.add(m.Model, fmt.Sprint(m.Jobs), fmt.Sprint(m.Served), span(m.Audio), seconds(m.Response))
	}
	if err := g.print(out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%s\n", decidedWords(s))
	return err
}

// recordingWords say what was read, and what could not be.
func recordingWords(s *recording.Summary) string {
	text := "Recording: " + s.Files[0]
	if n := len(s.Files); n > 1 {
		text += fmt.Sprintf(" to %s (%d segments)", filepath.Base(s.Files[n-1]), n)
	}
	text += fmt.Sprintf(", %d events in %s.", s.Records, span(s.Span))
	if !s.Begins {
		text += "\nIt does not begin with a start of the proxy: jobs that had come before are left out, and whether this version decides the same cannot be told."
	}
	if s.Cut != nil {
		text += fmt.Sprintf("\nIts end is cut, at %v, as where the proxy still writes or was killed: what is before that is used.", *s.Cut)
	}
	return text
}

// jobsWords say what became of the jobs.
func jobsWords(s *recording.Summary) string {
	text := fmt.Sprintf("Jobs: %d with %s of audio served", s.Jobs, span(s.Audio))
	if s.Span > 0 {
		text += fmt.Sprintf(", %.3g a second", float64(s.Jobs)/s.Span)
	}
	var ended []string
	for _, reason := range scheduler.SettleReasons {
		if n := s.Settled[reason.String()]; n > 0 {
			ended = append(ended, fmt.Sprintf("%d %s", n, reason))
		}
	}
	if s.Open > 0 {
		ended = append(ended, fmt.Sprintf("%d not settled at the end", s.Open))
	}
	text += ": " + strings.Join(ended, ", ") + "."
	text += fmt.Sprintf("\nAttempts: %d; %d jobs had more than one.", s.Attempts, s.Retried)
	if s.Unknown > 0 {
		text += fmt.Sprintf(" The length of %d was not known or guessed from their bytes.", s.Unknown)
	}
	text += fmt.Sprintf("\nPolicy: %s.", strings.Join(s.Policies, ", then "))
	if s.Tenants > 0 {
		text += fmt.Sprintf(" Tenants: %d.", s.Tenants)
	}
	if s.Configs > 1 {
		text += fmt.Sprintf(" The configuration was renewed %d times.", s.Configs-1)
	}
	return text
}

func backendsGrid(s *recording.Summary) *grid {
	g := &grid{}
	g.add("backend", "class", "slots", "jobs served", "busy", "audio s / s", "learned for 10 s", "attempts that failed")
	for _, b := range s.Backends {
		var learned, failed []string
		for _, l := range b.Speeds {
			one := fmt.Sprintf("%.3g", l.Speed)
			if len(b.Speeds) > 1 {
				one = l.Model + " " + one
			}
			learned = append(learned, one)
		}
		for _, result := range scheduler.Results[1:] {
			if n := b.Ended[result.String()]; n > 0 {
				failed = append(failed, fmt.Sprintf("%d %s", n, result))
			}
		}
		g.add(b.Name, cmp.Or(b.Class, "-"), fmt.Sprint(b.Slots), percent(b.Share), percent(b.Busy), fmt.Sprintf("%.3g", b.Speed),
			cmp.Or(strings.Join(learned, ", "), "-"), cmp.Or(strings.Join(failed, ", "), "-"))
	}
	return g
}

// decidedWords say whether this version decides the same.
func decidedWords(s *recording.Summary) string {
	d := s.Decided.Difference
	switch {
	case !s.Begins:
		return "Decisions: not compared, since the recording does not begin with a start."
	case d == nil:
		return fmt.Sprintf("Decisions: this version decides the same, at all of %d events.", s.Decided.Compared)
	}
	return fmt.Sprintf("Decisions: this version decides otherwise, first at event %d of %d, %s after the start:\n  %v\n  event: %s\n  then:  %s\n  now:   %s\nWhat it would have learned is told up to there.",
		s.Decided.Compared, s.Records, span(d.At), d.Place, d.Event, d.Then, d.Now)
}

// span is a length of time in words.
func span(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
