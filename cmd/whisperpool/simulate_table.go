package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/sim"
)

// grid is a table for a terminal: the first column to the left, the others to the right.
type grid struct{ rows [][]string }

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

func (g *grid) print(out io.Writer) error {
	var widths []int
	for _, row := range g.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for _, row := range g.rows {
		line := ""
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line += "  " + cell + pad
			} else {
				line += "  " + pad + cell
			}
		}
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// time is seconds with as many digits as tell something.
func seconds(s float64) string {
	if s >= 99.95 {
		return fmt.Sprintf("%.0f", s)
	}
	if s >= 9.995 {
		return fmt.Sprintf("%.1f", s)
	}
	return fmt.Sprintf("%.3f", s)
}

// spread is a median with how far the seeds lie around it.
func spread(s sim.Spread, format func(float64) string) string {
	half := (s.High - s.Low) / 2
	if half == 0 {
		return format(s.Median)
	}
	return format(s.Median) + " ±" + format(half)
}

func ratio(x float64) string { return fmt.Sprintf("%.3f", x) }

func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

// levelWords says a level with its unit.
func levelWords(st sim.Study, level float64) string {
	if st.Load.Share > 0 {
		return fmt.Sprintf("load %v of what the pool can do", level)
	}
	return fmt.Sprintf("%.4g %s", level, st.Load.Word())
}

// What is read from results.
func meanOf(r sim.Result) float64       { return r.Mean }
func ratioOf(r sim.Result) float64      { return r.Ratio }
func p50Of(r sim.Result) float64        { return r.P50 }
func p95Of(r sim.Result) float64        { return r.P95 }
func p99Of(r sim.Result) float64        { return r.P99 }
func etaOf(r sim.Result) float64        { return r.Eta }
func boundOf(r sim.Result) float64      { return r.Bound.Mean }
func throughputOf(r sim.Result) float64 { return r.Throughput }

// errorsOf are the jobs that got no transcript, over all seeds.
func errorsOf(o sim.Outcomes) string {
	n := 0
	for _, r := range o.Results {
		n += r.Errors
	}
	return fmt.Sprint(n)
}

func heading(out io.Writer, st sim.Study) error {
	about := st.About
	if about != "" {
		about += "\n"
	}
	jobs := fmt.Sprintf("%d jobs", st.Jobs)
	switch {
	case st.Load.Burst > 0:
		jobs = "bursts"
	case st.Duration > 0:
		jobs = st.Duration.String()
	}
	_, err := fmt.Fprintf(out, "%sPool: %s. %s after %d of warm-up; medians over %d seeds, ± half of the range.\n", about, st.Pool(), jobs, st.WarmUp, st.Seeds)
	return err
}

// runPlain is the file's own policy at every level.
func (o *simulateOptions) runPlain(st sim.Study, out io.Writer, p *progress) error {
	outcomes, err := st.Compare([]sim.Rival{{Policy: st.Policy, Told: st.Told}}, p.step)
	p.end()
	if err != nil {
		return err
	}
	if o.json {
		err = printJSON(out, struct {
			study
			Runs []run `json:"runs"`
		}{studyOf(st), runsOf(outcomes)})
	} else {
		err = printPlain(out, st, outcomes)
	}
	if err != nil {
		return err
	}
	return broken(outcomes)
}

func printPlain(out io.Writer, st sim.Study, outcomes []sim.Outcomes) error {
	if err := heading(out, st); err != nil {
		return err
	}
	fmt.Fprintf(out, "Policy: %s. Times in seconds.\n\n", outcomes[0].Rival.Name())
	g := grid{}
	g.add(st.Load.Word(), "mean", "bound", "x bound", "p50", "p95", "p99", "jobs/s", "eta", "errors")
	for _, oc := range outcomes {
		g.add(fmt.Sprintf("%.4g", oc.Level), spread(oc.Of(meanOf), seconds), seconds(oc.Of(boundOf).Median), spread(oc.Of(ratioOf), ratio),
			seconds(oc.Of(p50Of).Median), seconds(oc.Of(p95Of).Median), seconds(oc.Of(p99Of).Median),
			fmt.Sprintf("%.2f", oc.Of(throughputOf).Median), ratio(oc.Of(etaOf).Median), errorsOf(oc))
	}
	if err := g.print(out); err != nil {
		return err
	}
	fmt.Fprint(out, "\nWhere the jobs went, and how much of its slots' time each kind of card was at work:\n\n")
	if err := cardsTable(st, outcomes).print(out); err != nil {
		return err
	}
	return printLearning(out, outcomes)
}

// cardsTable has a row for each kind of card and a column for each level.
func cardsTable(st sim.Study, outcomes []sim.Outcomes) *grid {
	g := &grid{}
	header := []string{""}
	for _, oc := range outcomes {
		header = append(header, fmt.Sprintf("%.4g", oc.Level))
	}
	g.add(header...)
	var kinds []string
	for _, c := range st.Cards {
		if k := sim.KindOf(c.Name); len(kinds) == 0 || kinds[len(kinds)-1] != k {
			kinds = append(kinds, k)
		}
	}
	for _, kind := range kinds {
		row := []string{kind}
		for _, oc := range outcomes {
			share := oc.Of(func(r sim.Result) float64 { return ofKind(r, kind, true) })
			busy := oc.Of(func(r sim.Result) float64 { return ofKind(r, kind, false) })
			cell := fmt.Sprintf("%s, busy %s", percent(share.Median), percent(busy.Median))
			if st.Discover {
				cell += fmt.Sprintf(", %.3g slots", oc.Of(func(r sim.Result) float64 { return slotsOf(r, kind) }).Median)
			}
			row = append(row, cell)
		}
		g.add(row...)
	}
	return g
}

// ofKind is the share of the jobs that cards of a kind got, or how busy they were on average.
func ofKind(r sim.Result, kind string, share bool) float64 {
	sent, all, busy, n := 0, 0, 0.0, 0
	for _, b := range r.Backends {
		all += b.Sent
		if sim.KindOf(b.Name) == kind {
			sent, busy, n = sent+b.Sent, busy+b.Busy, n+1
		}
	}
	if share {
		return float64(sent) / float64(max(all, 1))
	}
	return busy / float64(max(n, 1))
}

// slotsOf is how many slots the scheduler has found to be useful on a card of a kind, on average.
func slotsOf(r sim.Result, kind string) float64 {
	sum, n := 0, 0
	for _, b := range r.Backends {
		if sim.KindOf(b.Name) == kind {
			sum, n = sum+b.Slots, n+1
		}
	}
	return float64(sum) / float64(max(n, 1))
}

// printLearning says how right the predictions were, and how soon changed speeds were found.
func printLearning(out io.Writer, outcomes []sim.Outcomes) error {
	g := grid{}
	for _, oc := range outcomes {
		if oc.Results[0].Prediction != nil {
			read := func(q func(p *sim.Prediction) float64) string {
				return ratio(oc.Of(func(r sim.Result) float64 {
					if r.Prediction == nil {
						return 0
					}
					return q(r.Prediction)
				}).Median)
			}
			g.add(fmt.Sprintf("%.4g", oc.Level), read(func(p *sim.Prediction) float64 { return p.P10 }),
				read(func(p *sim.Prediction) float64 { return p.P50 }), read(func(p *sim.Prediction) float64 { return p.P90 }))
		}
	}
	if len(g.rows) > 0 {
		fmt.Fprint(out, "\nActual / predicted service time, 10th, 50th and 90th percentile:\n\n")
		if err := g.print(out); err != nil {
			return err
		}
	}
	changes := grid{}
	for _, oc := range outcomes {
		for _, r := range oc.Results {
			for _, c := range r.SpeedChanges {
				found := fmt.Sprintf("found after %d jobs", c.Jobs)
				if !c.Found {
					found = fmt.Sprintf("not found in %d jobs", c.Jobs)
				}
				changes.add(fmt.Sprintf("%.4g, seed %d", oc.Level, r.Seed), c.Card, fmt.Sprintf("at %.0f s", c.At), fmt.Sprintf("x %.3g", c.Factor), found)
			}
		}
	}
	if len(changes.rows) == 0 {
		return nil
	}
	fmt.Fprint(out, "\nChanges of speed, and when predictions were within 20 % of the new one:\n\n")
	return changes.print(out)
}

// progress is a line on a terminal that says how far a simulation is; nothing elsewhere.
type progress struct {
	out   io.Writer
	shown bool
}

func newProgress(out io.Writer) *progress {
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &progress{out: out}
		}
	}
	return &progress{out: io.Discard}
}

// read is of a file, in bytes.
func (p *progress) read(done, of int64) {
	p.shown = true
	fmt.Fprintf(p.out, "\rreading the recording: %.0f %%", 100*float64(done)/float64(max(of, 1)))
}

func (p *progress) step(done, of int) {
	p.shown = true
	fmt.Fprintf(p.out, "\r\x1b[K%d of %d runs", done, of)
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}
