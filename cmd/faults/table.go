package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// sort brings the results into the order of the scenarios, ours first.
func (r *run) sort() {
	order := map[string]int{}
	for i, s := range scenarios() {
		order[s.ID] = i
	}
	fronts := []string{string(ours), string(stockCaddy), string(haproxy)}
	slices.SortStableFunc(r.results, func(a, b result) int {
		if a.Theme != b.Theme {
			return slices.Index(themes, a.Theme) - slices.Index(themes, b.Theme)
		}
		if a.ID != b.ID {
			return order[a.ID] - order[b.ID]
		}
		return slices.Index(fronts, a.Front) - slices.Index(fronts, b.Front)
	})
}

// keep writes the figures.
func (r *run) keep() error {
	r.sort()
	encoded, err := json.MarshalIndent(map[string]any{
		"started": r.began.UTC().Format(time.RFC3339), "took": time.Since(r.began).Round(time.Second).String(),
		"short": r.short, "cpus": runtime.NumCPU(), "load_average": r.load, "results": r.results,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "faults.json"), append(encoded, '\n'), 0o644)
}

// print prints the table of figures that were kept.
func (o options) print(out io.Writer) error {
	r := &run{options: o}
	latest := map[string]result{}
	for _, path := range o.from {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var kept struct{ Results []result }
		if err := json.Unmarshal(text, &kept); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, res := range kept.Results {
			if at := slices.IndexFunc(scenarios(), func(s scenario) bool { return s.ID == res.ID }); at >= 0 {
				res.Name, res.Criterion, res.Theme = scenarios()[at].Name, scenarios()[at].Criterion, scenarios()[at].Theme
				if key := res.ID + " " + res.Front; res.Error == "" || latest[key].Measured == "" { // what was measured counts
					latest[key] = res
				}
			}
		}
	}
	for _, kind := range []frontKind{ours, stockCaddy, haproxy} {
		found := false
		for _, res := range latest {
			if res.Front == string(kind) {
				r.results = append(r.results, res)
				found = true
			}
		}
		if found && !slices.Contains(r.fronts, kind) {
			r.fronts = append(r.fronts, kind)
		}
	}
	r.sort()
	r.rows(out)
	return nil
}

// table prints what was measured, a row for each scenario with a column for each balancer, and a line
// for each theme.
func (r *run) table(out io.Writer) {
	fmt.Fprintf(out, "\n%d processors, load average %s at the beginning; took %s\n", runtime.NumCPU(), r.load, time.Since(r.began).Round(time.Second))
	r.rows(out)
	fmt.Fprintln(out)
	for _, t := range themes {
		if line := r.tally(t); line != "" {
			fmt.Fprintln(out, line)
		}
	}
}

// rows are the table itself.
func (r *run) rows(out io.Writer) {
	fmt.Fprint(out, "\n| # | scenario | criterion |")
	for _, kind := range r.fronts {
		fmt.Fprintf(out, " %s |", kind)
	}
	fmt.Fprintf(out, "\n|---|---|---|%s\n", strings.Repeat("---|", len(r.fronts)))
	cell := func(s string) string { return strings.ReplaceAll(s, "|", "/") }
	for i, res := range r.results {
		if i > 0 && r.results[i-1].ID == res.ID {
			continue
		}
		fmt.Fprintf(out, "| %s | %s | %s |", res.ID, cell(res.Name), cell(res.Criterion))
		for _, kind := range r.fronts {
			text := "-" // makes no sense there
			for _, of := range r.results[i:] {
				if of.ID == res.ID && of.Front == string(kind) {
					text = "**" + of.verdict() + "**: " + of.text()
				}
			}
			fmt.Fprintf(out, " %s |", cell(text))
		}
		fmt.Fprintln(out)
	}
}

// text is what was measured, and why it could not be.
func (r result) text() string {
	text := r.Measured
	if r.Error != "" {
		text = strings.TrimSpace(text + " (not measured: " + r.Error + ")")
	}
	if r.First != "" {
		text += "; the first time: " + r.First
	}
	if r.Stalled > stalledMuch && !r.Skipped && r.Theme != simulations {
		text += fmt.Sprintf("; meanwhile this machine stood still for %.0f %% of the time", 100*r.Stalled)
	}
	return text
}

// tally is a theme's line: how many of its scenarios held.
func (r *run) tally(t theme) string {
	held, all, skips, undecided := 0, 0, 0, 0
	var not []string
	for _, res := range r.results {
		switch {
		case res.Theme != t || res.Front != string(ours):
		case res.Skipped:
			skips++
		case res.Undecided:
			undecided++
		default:
			all++
			if res.Held {
				held++
			} else {
				not = append(not, res.ID)
			}
		}
	}
	if all+skips+undecided == 0 {
		return ""
	}
	line := fmt.Sprintf("%-10s %2d of %2d held", t, held, all)
	if skips > 0 {
		line += fmt.Sprintf(", %d skipped", skips)
	}
	if undecided > 0 {
		line += fmt.Sprintf(", %d undecided, since this machine was too busy both times", undecided)
	}
	if len(not) > 0 {
		line += "; not: " + strings.Join(not, ", ")
	}
	return line
}

// loadAverage is that of the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
