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

// table prints what was measured, and a line for each theme.
func (r *run) table(out io.Writer) {
	peers := slices.ContainsFunc(r.results, func(res result) bool { return res.Front != string(ours) })
	fmt.Fprintf(out, "\n%d processors, load average %s at the beginning; took %s\n", runtime.NumCPU(), r.load, time.Since(r.began).Round(time.Second))
	fmt.Fprint(out, "\n| # | scenario | criterion | ")
	if peers {
		fmt.Fprint(out, "balancer | ")
	}
	fmt.Fprint(out, "measured | |\n|---|---|---|---|---|")
	if peers {
		fmt.Fprint(out, "---|")
	}
	fmt.Fprintln(out)
	cell := func(s string) string { return strings.ReplaceAll(s, "|", "/") }
	for _, res := range r.results {
		fmt.Fprintf(out, "| %s | %s | %s | ", res.ID, cell(res.Name), cell(res.Criterion))
		if peers {
			fmt.Fprintf(out, "%s | ", res.Front)
		}
		measured := res.Measured
		if res.Error != "" {
			measured += " (not measured: " + res.Error + ")"
		}
		fmt.Fprintf(out, "%s | %s |\n", cell(measured), res.verdict())
	}
	fmt.Fprintln(out)
	for _, t := range themes {
		if line := r.tally(t); line != "" {
			fmt.Fprintln(out, line)
		}
	}
}

// tally is a theme's line: how many of its scenarios held.
func (r *run) tally(t theme) string {
	held, all, skips := 0, 0, 0
	var not []string
	for _, res := range r.results {
		switch {
		case res.Theme != t || res.Front != string(ours):
		case res.Skipped:
			skips++
		default:
			all++
			if res.Held {
				held++
			} else {
				not = append(not, res.ID)
			}
		}
	}
	if all+skips == 0 {
		return ""
	}
	line := fmt.Sprintf("%-10s %2d of %2d held", t, held, all)
	if skips > 0 {
		line += fmt.Sprintf(", %d skipped", skips)
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
