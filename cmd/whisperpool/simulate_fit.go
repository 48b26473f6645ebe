package main

import (
	"fmt"
	"io"
	"os"

	"github.com/whisperpool/whisperpool/sim"
)

// fitSigma is the chance of a service time on a fitted card, as that of package gpu's law.
const fitSigma = 0.15

// fitted is a load test and what the simulation of its fit measured.
type fitted struct {
	sim.LoadTest
	Fit      sim.Fit
	Outcomes []sim.Outcomes // by row
}

// runFit reproduces load tests.
func (o *simulateOptions) runFit(out io.Writer) error {
	text, err := os.ReadFile(o.fit)
	if err != nil {
		return err
	}
	tests, err := sim.ParseLoadTests(text)
	if err != nil {
		return fmt.Errorf("%s: %w", o.fit, err)
	}
	seeds := o.seeds
	if seeds == 0 {
		seeds = 5
	}
	var all []fitted
	var outcomes []sim.Outcomes
	for _, t := range tests {
		f := fitted{LoadTest: t, Fit: t.Fit()}
		st := t.Study(f.Fit, fitSigma, seeds)
		if f.Outcomes, err = st.Compare([]sim.Rival{{Policy: st.Policy, Told: st.Told}}, nil); err != nil {
			return err
		}
		all = append(all, f)
		outcomes = append(outcomes, f.Outcomes...)
	}
	if o.json {
		err = printJSON(out, fitJSON(all))
	} else {
		err = printFit(out, all, seeds)
	}
	if err != nil {
		return err
	}
	return broken(outcomes)
}

func printFit(out io.Writer, all []fitted, seeds int) error {
	fmt.Fprintf(out, "Bursts as measured, and as simulated on the slots and the service time that come closest; medians over %d seeds.\n", seeds)
	for _, f := range all {
		fmt.Fprintf(out, "\n%s: %d slots of %.3f s, %.1f jobs/s\n\n", f.Name, f.Fit.Slots, f.Fit.Service, float64(f.Fit.Slots)/f.Fit.Service)
		g := grid{}
		g.add("at once", "mean measured", "simulated", "off", "p95 measured", "simulated", "off")
		for i, row := range f.Rows {
			simulated := f.Outcomes[i].Of(meanOf).Median
			cells := []string{fmt.Sprint(row.AtOnce), seconds(row.Mean), seconds(simulated), change(simulated / row.Mean)}
			if row.P95 > 0 {
				late := f.Outcomes[i].Of(p95Of).Median
				cells = append(cells, seconds(row.P95), seconds(late), change(late/row.P95))
			}
			g.add(cells...)
		}
		if err := g.print(out); err != nil {
			return err
		}
	}
	fmt.Fprint(out, "\nAs cards of a scenario's pool:\n\n")
	for _, f := range all {
		fmt.Fprintf(out, "  {\"name\": %q, \"law\": {\"fixed_s\": %.3f, \"sigma\": %v}, \"slots\": %d}\n", f.GPU, f.Fit.Service, fitSigma, f.Fit.Slots)
	}
	return nil
}

func fitJSON(all []fitted) any {
	type row struct {
		AtOnce    int     `json:"concurrency"`
		Mean      float64 `json:"mean_s"`
		Simulated float64 `json:"mean_simulated_s"`
		P95       float64 `json:"p95_s,omitempty"`
		Late      float64 `json:"p95_simulated_s,omitempty"`
	}
	type test struct {
		Name    string  `json:"name"`
		Slots   int     `json:"slots"`
		Service float64 `json:"service_s"`
		Rows    []row   `json:"rows"`
	}
	var tests []test
	for _, f := range all {
		t := test{Name: f.Name, Slots: f.Fit.Slots, Service: f.Fit.Service}
		for i, r := range f.Rows {
			one := row{AtOnce: r.AtOnce, Mean: r.Mean, P95: r.P95, Simulated: f.Outcomes[i].Of(meanOf).Median}
			if r.P95 > 0 {
				one.Late = f.Outcomes[i].Of(p95Of).Median
			}
			t.Rows = append(t.Rows, one)
		}
		tests = append(tests, t)
	}
	return tests
}
