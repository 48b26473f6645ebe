package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim"
	"github.com/whisperpool/whisperpool/sim/recording"
)

// mind is what differences are to be read with.
const mind = "Jobs come when they came, whatever comes back: clients that wait for answers would have come later or sooner."

// simulatedWords say what of a recording is simulated, and on what.
func simulatedWords(r *recording.Review, st sim.Study) string {
	w := r.Workload
	text := fmt.Sprintf("Simulated: %d of %d jobs, at their moments, on %s.", len(w.Jobs), r.Jobs, st.Pool())
	if w.Wrong > 0 {
		text += fmt.Sprintf(" %d are left out that a backend refused for what the client wrote.", w.Wrong)
	}
	if w.Impossible > 0 {
		text += fmt.Sprintf(" %d are left out that no card here could do.", w.Impossible)
	}
	if len(w.Unmeasured) > 0 {
		text += " Nothing is known of " + strings.Join(w.Unmeasured, ", ") + "."
	}
	return text
}

// lawsGrid says how long the cards take, and how that is known.
func lawsGrid(st sim.Study) *grid {
	g := &grid{}
	g.add("card", "model", "fixed s", "audio s / s", "slots", "side by side", "law")
	for _, c := range st.Cards {
		for _, class := range st.Recorded.Classes {
			law, known := c.Recorded.Laws[class.Model]
			if !known || class.Needs != firstNeeds(st, class.Model) {
				continue
			}
			speed, from, gain := "-", law.From, "-"
			if law.PerSecond > 0 {
				speed = fmt.Sprintf("%.3g", 1/law.PerSecond)
			}
			if law.Jobs > 0 {
				from += fmt.Sprintf(", %d jobs", law.Jobs)
			}
			if c.Gain > 0 {
				gain = fmt.Sprintf("x %.3g", c.Gain)
			}
			g.add(c.Name, class.Model, fmt.Sprintf("%.3f", law.Fixed), speed, fmt.Sprint(c.Slots), gain, from)
		}
	}
	return g
}

// firstNeeds are those of the first class with a model, so that each model is listed once.
func firstNeeds(st sim.Study, model string) scheduler.Capability {
	for _, class := range st.Recorded.Classes {
		if class.Model == model {
			return class.Needs
		}
	}
	return 0
}

// compareReplay has all policies and peers do the recorded jobs.
func (o *simulateOptions) compareReplay(r *recording.Review, st sim.Study, out io.Writer, p *progress) error {
	rivals := sim.Rivals()
	p.step(0, len(rivals))
	outcomes, err := st.Compare(rivals, p.step)
	p.end()
	if err != nil {
		return err
	}
	chart := o.svg
	if chart == "" {
		chart = filepath.Base(chartFile(r.Files[0]))
	}
	if err := os.WriteFile(chart, compareChart(st, outcomes), 0o644); err != nil {
		return fmt.Errorf("the chart: %w; say where with --svg", err)
	}
	recorded := sim.Recorded(r)
	if o.json {
		err = printJSON(out, struct {
			replayed
			Chart string `json:"chart"`
			Runs  []run  `json:"runs"`
		}{replayedOf(r, st, recorded), chart, runsOf(outcomes)})
	} else {
		err = printCompareReplay(out, r, st, recorded, outcomes, chart)
	}
	if err != nil {
		return err
	}
	return broken(outcomes)
}

func printCompareReplay(out io.Writer, r *recording.Review, st sim.Study, recorded sim.Result, outcomes []sim.Outcomes, chart string) error {
	if err := printSimulated(out, r, st); err != nil {
		return err
	}
	bound := outcomes[0].Results[0].Bound.Mean
	fmt.Fprintf(out, "\nTimes in seconds; the least possible mean is %s s. \"Told all\" starts with these laws, the others with what the proxy knew; peers are set by hand from them.\n%s\n\n", seconds(bound), mind)
	g := grid{}
	g.add("", "mean", "x bound", "p50", "p95", "p99", "wait", "errors", "left")
	row := func(name string, m sim.Result) {
		times := "-"
		if m.Ratio > 0 {
			times = ratio(m.Ratio)
		}
		g.add(name, seconds(m.Mean), times, seconds(m.P50), seconds(m.P95), seconds(m.P99), seconds(m.Wait), fmt.Sprint(m.Errors), fmt.Sprint(m.Left))
	}
	row("as recorded", recorded)
	for _, oc := range outcomes {
		row(oc.Rival.Name(), oc.Results[0])
	}
	if err := g.print(out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nChart: %s\n", chart)
	return err
}

func printSimulated(out io.Writer, r *recording.Review, st sim.Study) error {
	fmt.Fprintf(out, "%s\n%s\n\n", recordingWords(&r.Summary), simulatedWords(r, st))
	return lawsGrid(st).print(out)
}

// replayed is what JSON output says of what was simulated.
type replayed struct {
	Recording recording.Summary `json:"recording"`
	Pool      string            `json:"pool"`
	Jobs      int               `json:"jobs"`
	Wrong     int               `json:"left_out_wrong"`
	Nobody    int               `json:"left_out_impossible"`
	Cards     []replayedCard    `json:"cards"`
	Recorded  sim.Result        `json:"as_recorded"`
}

type replayedCard struct {
	Name string                           `json:"name"`
	Gain float64                          `json:"gain,omitempty"`
	Laws map[string]recording.MeasuredLaw `json:"laws"`
}

func replayedOf(r *recording.Review, st sim.Study, recorded sim.Result) replayed {
	out := replayed{r.Summary, st.Pool(), len(r.Workload.Jobs), r.Workload.Wrong, r.Workload.Impossible, nil, recorded}
	for _, c := range st.Cards {
		out.Cards = append(out.Cards, replayedCard{c.Name, c.Gain, c.Recorded.Laws})
	}
	return out
}

// whatIfReplay says what cards that come or go would have changed.
func (o *simulateOptions) whatIfReplay(r *recording.Review, st sim.Study, out io.Writer, p *progress) error {
	changes, err := sim.ParseChanges(o.whatIf)
	if err != nil {
		return err
	}
	changed, err := st.Apply(changes)
	if err != nil {
		return err
	}
	rivals := []sim.Rival{{Policy: st.Policy, Told: st.Told}}
	if st.Policy != contrast {
		rivals = append(rivals, sim.Rival{Policy: contrast, Told: sim.ToldNothing})
	}
	p.step(0, 2*len(rivals))
	found, err := st.WhatIf(changes, rivals, p.step)
	p.end()
	if err != nil {
		return err
	}
	recorded := sim.Recorded(r)
	if o.json {
		err = printJSON(out, struct {
			replayed
			Changed     string             `json:"changed_pool"`
			Comparisons []whatIfComparison `json:"comparisons"`
		}{replayedOf(r, changed, recorded), changed.Pool(), comparisonsOf(found)})
	} else {
		err = printWhatIfReplay(out, r, st, changed, recorded, found)
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

func printWhatIfReplay(out io.Writer, r *recording.Review, st, changed sim.Study, recorded sim.Result, found []sim.WhatIf) error {
	if err := printSimulated(out, r, changed); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nFrom %s to %s, on the recorded jobs. Times in seconds.\n%s\n\n", st.Pool(), changed.Pool(), mind)
	g := grid{}
	g.add("", "mean before", "after", "change", "p99 before", "after", "change", "wait before", "after", "errors before", "after", "it")
	for _, w := range found {
		before, after := w.Before.Results[0], w.After.Results[0]
		g.add(w.Policy, seconds(before.Mean), seconds(after.Mean), change(after.Mean/before.Mean), seconds(before.P99), seconds(after.P99), change(after.P99/before.P99),
			seconds(before.Wait), seconds(after.Wait), fmt.Sprint(before.Errors), fmt.Sprint(after.Errors), w.Verdict())
	}
	if err := g.print(out); err != nil {
		return err
	}
	before := found[0].Before.Results[0]
	_, err := fmt.Fprintf(out, "\nRecorded: mean %s, p99 %s, wait %s; the simulation before the change has a mean that is %s of it.\n",
		seconds(recorded.Mean), seconds(recorded.P99), seconds(recorded.Wait), ratio(before.Mean/recorded.Mean))
	return err
}
