package main

import (
	"fmt"
	"io"
	"os"

	"github.com/whisperpool/whisperpool/sim"
)

// runCompare has all policies and peers do the same work.
func (o *simulateOptions) runCompare(st sim.Study, file string, out io.Writer, p *progress) error {
	outcomes, err := st.Compare(sim.Rivals(), p.step)
	p.end()
	if err != nil {
		return err
	}
	chart := o.svg
	if chart == "" {
		chart = chartFile(file)
	}
	if err := os.WriteFile(chart, compareChart(st, outcomes), 0o644); err != nil {
		return fmt.Errorf("the chart: %w; say where with --svg", err)
	}
	if o.json {
		err = printJSON(out, struct {
			study
			Chart string `json:"chart"`
			Runs  []run  `json:"runs"`
		}{studyOf(st), chart, runsOf(outcomes)})
	} else {
		err = printCompare(out, st, outcomes, chart)
	}
	if err != nil {
		return err
	}
	return broken(outcomes)
}

func printCompare(out io.Writer, st sim.Study, outcomes []sim.Outcomes, chart string) error {
	if err := heading(out, st); err != nil {
		return err
	}
	fmt.Fprint(out, "Times in seconds. \"Told all\" starts with the true speeds; the others learn them; peers are set by hand from them.\n")
	for _, level := range st.Levels {
		g := grid{}
		g.add("", "mean", "x bound", "p50", "p95", "p99", "jobs/s", "eta", "errors")
		bound := 0.0
		for _, oc := range outcomes {
			if oc.Level != level {
				continue
			}
			bound = oc.Of(boundOf).Median
			g.add(oc.Rival.Name(), seconds(oc.Of(meanOf).Median), spread(oc.Of(ratioOf), ratio),
				seconds(oc.Of(p50Of).Median), seconds(oc.Of(p95Of).Median), spread(oc.Of(p99Of), seconds),
				fmt.Sprintf("%.2f", oc.Of(throughputOf).Median), ratio(oc.Of(etaOf).Median), errorsOf(oc))
		}
		fmt.Fprintf(out, "\n%s; the least possible mean is %s s\n\n", levelWords(st, level), seconds(bound))
		if err := g.print(out); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "\nChart: %s\n", chart)
	return err
}
