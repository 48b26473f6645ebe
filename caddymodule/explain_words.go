package caddymodule

import (
	"fmt"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// reasonWords are the reasons of placements, as what is said of the backend that was chosen.
var reasonWords = map[scheduler.Reason]string{
	scheduler.Best:     "it would be done there first",
	scheduler.Near:     "it was idle, and waiting for another would not have been worth it",
	scheduler.Explore:  "its speed was to be learned",
	scheduler.Starving: "it was idle, and the request had waited for far longer than predicted",
	scheduler.OnlyOne:  "nobody else could take it",
	scheduler.Turn:     "it was its turn",
	scheduler.Least:    "it had the least to do",
	scheduler.Fastest:  "it was the fastest that was idle",
	scheduler.HalfOpen: "it was to be tried again after it had been left alone",
	scheduler.Trying:   "it was tried with our own piece of speech",
	scheduler.Hedging:  "the attempt that ran took far longer than predicted",
}

// brief is a time as a person would say it.
func brief(d time.Duration) string {
	switch {
	case d < 0:
		return "0 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < 100*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// why says why the attempt went where it went, and what would have been next.
func (c *chapter) why() string {
	words := reasonWords[c.Reason]
	if c.Reason == scheduler.Hedging || c.Predicted == 0 {
		return words
	}
	some := c.considered.Candidates
	if c.Reason == scheduler.Explore || len(some) > 0 && !some[0].Known {
		words += " (at a guess in " + brief(c.Predicted)
	} else {
		words += " (predicted " + brief(c.Predicted)
	}
	if len(some) > 1 && some[1].Known && some[1].Predicted > 0 {
		next := &some[1]
		words += fmt.Sprintf("; on %s %s", next.Backend, brief(next.FreeIn+next.Predicted))
		if next.FreeIn > 0 {
			words += fmt.Sprintf(", with %s until it is free", brief(next.FreeIn))
		}
	}
	return words + ")"
}

// inWords tells the story in a few sentences. Requires: mu is held.
func (s *story) inWords(now time.Time) string {
	if len(s.attempts) == 0 {
		return s.unplacedInWords(now)
	}
	var b strings.Builder
	last := s.attempts[len(s.attempts)-1]
	b.WriteString(last.begin())
	b.WriteString(": ")
	b.WriteString(last.why())
	b.WriteString(". ")
	b.WriteString(s.endInWords(last, now))
	for i, c := range s.attempts[:len(s.attempts)-1] {
		if i == 0 {
			b.WriteString(" Before that")
		} else {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %s", c.resultInWords())
	}
	if s.leftOut > 0 {
		fmt.Fprintf(&b, " and %d more attempts", s.leftOut)
	}
	if len(s.attempts) > 1 {
		b.WriteString(".")
	}
	if len(s.found) > 0 {
		b.WriteString(" When it was given up")
		s.foundInWords(&b)
		return b.String()
	}
	for i, a := range last.absent {
		if i == 3 {
			fmt.Fprintf(&b, " %d others could not take it either.", len(last.absent)-i+last.absentNot)
			break
		}
		fmt.Fprintf(&b, " %s could not take it: %s.", a.backend, a.why)
	}
	return b.String()
}

// begin says where the attempt went, and what it waited for.
func (c *chapter) begin() string {
	d := c.considered.Declined
	switch {
	case c.Reason == scheduler.Hedging:
		return fmt.Sprintf("Started a second time on %s", c.Backend)
	case d.For != "" && d.For == c.Backend:
		return fmt.Sprintf("Waited %s for %s, which was predicted to finish in %s; %s was idle but would have taken %s. Then went to %[2]s",
			brief(c.Waited), d.For, brief(d.In), d.Idle, brief(d.IdleIn))
	case d.For != "":
		return fmt.Sprintf("Waited %s, first for %s, which was predicted to finish in %s, while %s was idle but would have taken %s. Then went to %s",
			brief(c.Waited), d.For, brief(d.In), d.Idle, brief(d.IdleIn), c.Backend)
	case c.Waited >= 50*time.Millisecond:
		return fmt.Sprintf("Waited %s until a slot was free, then went to %s", brief(c.Waited), c.Backend)
	case c.Number > 1:
		return fmt.Sprintf("Went to %s as attempt %d", c.Backend, c.Number)
	}
	return fmt.Sprintf("Went to %s at once", c.Backend)
}

// endInWords says how the last attempt ended, or that it runs. Requires: mu is held.
func (s *story) endInWords(c *chapter, now time.Time) string {
	switch {
	case c.result == 0 && s.outcome != "":
		return fmt.Sprintf("The request ended as %s while it ran.", s.outcome)
	case c.result == 0:
		return fmt.Sprintf("It has run for %s.", brief(now.Sub(c.began)))
	case c.result == scheduler.Success && c.Predicted > 0 && s.outcome == scheduler.Served.String():
		return fmt.Sprintf("It took %s, %.0f %% of what was predicted.", brief(c.took), 100*c.took.Seconds()/c.Predicted.Seconds())
	case c.result == scheduler.Success:
		return fmt.Sprintf("It took %s.", brief(c.took))
	case s.outcome == "":
		return fmt.Sprintf("That ended as %s after %s; it waits again.", withDetail(c.result.String(), c.detail), brief(c.took))
	}
	return fmt.Sprintf("That ended as %s after %s, and the request as %s.", withDetail(c.result.String(), c.detail), brief(c.took), s.outcome)
}

func (c *chapter) resultInWords() string {
	if c.result == 0 {
		return fmt.Sprintf("%s, which runs yet", c.Backend)
	}
	return fmt.Sprintf("%s: %s after %s", c.Backend, withDetail(c.result.String(), c.detail), brief(c.took))
}

func withDetail(what, detail string) string {
	if detail == "" {
		return what
	}
	return what + " (" + detail + ")"
}

// unplacedInWords is for a request that no backend has seen. Requires: mu is held.
func (s *story) unplacedInWords(now time.Time) string {
	if s.outcome == "" {
		return fmt.Sprintf("Has waited %s for a slot, and was not placed yet.", brief(now.Sub(s.came)))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Not served (%s)", s.outcome)
	if s.waited > 0 {
		fmt.Fprintf(&b, " after it had waited %s", brief(s.waited))
	}
	s.foundInWords(&b)
	return b.String()
}

// foundInWords says what the backends were when the request was turned away. Requires: mu is held.
func (s *story) foundInWords(b *strings.Builder) {
	for i, p := range s.found {
		if i == 3 {
			fmt.Fprintf(b, "; and %d more", len(s.found)-i+s.foundNot)
			break
		}
		b.WriteString([]string{": ", "; ", "; "}[i])
		fmt.Fprintf(b, "%s %s", p.Backend, prospectInWords(p))
	}
	b.WriteString(".")
}

// prospectInWords says what a backend would have been for a job.
func prospectInWords(p scheduler.Prospect) string {
	switch {
	case p.Lacks != "":
		return "could not take it (" + p.Lacks + ")"
	case p.Idle && p.Predicted > 0:
		return "was idle, and would have taken " + brief(p.Predicted)
	case p.Idle:
		return "was idle"
	case p.Predicted > 0:
		return fmt.Sprintf("was busy for %s, and would then have taken %s", brief(p.FreeIn), brief(p.Predicted))
	}
	return fmt.Sprintf("was busy for %s", brief(p.FreeIn))
}
