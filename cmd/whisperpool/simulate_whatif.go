package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/whisperpool/whisperpool/sim"
)

// contrast is what a change does under a balancer that counts connections, to show that it is the
// placing that makes the difference.
const contrast = "caddy_least_conn"

// runWhatIf says what cards that come or go do.
func (o *simulateOptions) runWhatIf(st sim.Study, out io.Writer, p *progress) error {
	changes, err := sim.ParseChanges(o.whatIf)
	if err != nil {
		return err
	}
	rivals := []sim.Rival{{Policy: st.Policy, Told: st.Told}}
	if st.Policy != contrast {
		rivals = append(rivals, sim.Rival{Policy: contrast, Told: sim.ToldNothing})
	}
	changed, err := st.Apply(changes)
	if err != nil {
		return err
	}
	found, err := st.WhatIf(changes, rivals, p.step)
	p.end()
	if err != nil {
		return err
	}
	if o.json {
		err = printJSON(out, whatIfJSON(st, changed, found))
	} else {
		err = printWhatIf(out, st, changed, found)
	}
	if err != nil {
		return err
	}
	var outcomes []sim.Outcomes
	for _, w := range found {
		outcomes = append(outcomes, w.Before, w.After)
	}
	return broken(outcomes)
}

// whatIfComparison is a WhatIf in JSON.
type whatIfComparison struct {
	Policy  string       `json:"policy"`
	Level   float64      `json:"level"`
	Verdict string       `json:"verdict"`
	Before  []sim.Result `json:"before"`
	After   []sim.Result `json:"after"`
}

func comparisonsOf(found []sim.WhatIf) (all []whatIfComparison) {
	for _, w := range found {
		all = append(all, whatIfComparison{w.Policy, w.Level, w.Verdict(), w.Before.Results, w.After.Results})
	}
	return all
}

func whatIfJSON(st, changed sim.Study, found []sim.WhatIf) any {
	return struct {
		study
		Changed     string             `json:"changed_pool"`
		Comparisons []whatIfComparison `json:"comparisons"`
	}{studyOf(st), changed.Pool(), comparisonsOf(found)}
}

func printWhatIf(out io.Writer, st, changed sim.Study, found []sim.WhatIf) error {
	if err := heading(out, st); err != nil {
		return err
	}
	fmt.Fprintf(out, "From %s to %s, on the same jobs. Times in seconds.\n", st.Pool(), changed.Pool())
	for i := 0; i < len(found); {
		policy := found[i].Policy
		g := grid{}
		g.add(st.Load.Word(), "mean before", "after", "change", "p99 before", "after", "change", "it")
		from := i
		for ; i < len(found) && found[i].Policy == policy; i++ {
			w := found[i]
			g.add(fmt.Sprintf("%.4g", w.Level),
				seconds(w.Before.Of(meanOf).Median), seconds(w.After.Of(meanOf).Median), change(w.Ratio(meanOf)),
				seconds(w.Before.Of(p99Of).Median), seconds(w.After.Of(p99Of).Median), change(w.Ratio(p99Of)), w.Verdict())
		}
		fmt.Fprintf(out, "\n%s\n\n", policy)
		if err := g.print(out); err != nil {
			return err
		}
		fmt.Fprintf(out, "\n  %s\n", verdicts(st, found[from:i]))
	}
	return nil
}

func change(ratio float64) string { return fmt.Sprintf("%+.0f %%", 100*(ratio-1)) }

// verdicts says in a sentence at which levels a change helps and at which it hurts.
func verdicts(st sim.Study, found []sim.WhatIf) string {
	var parts []string
	for i := 0; i < len(found); {
		verdict, from := found[i].Verdict(), i
		for i < len(found) && found[i].Verdict() == verdict {
			i++
		}
		if verdict == "no difference" {
			verdict = "makes no difference"
		}
		if from == 0 && i == len(found) {
			return "It " + verdict + " at every level."
		}
		at := fmt.Sprintf("%.4g", found[from].Level)
		if i-1 > from {
			at += fmt.Sprintf(" to %.4g", found[i-1].Level)
		}
		parts = append(parts, verdict+" at "+at)
	}
	return fmt.Sprintf("It %s %s.", strings.Join(parts, ", "), st.Load.Word())
}
