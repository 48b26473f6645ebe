package main

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
)

// compressionRatio is how much zlib shrinks a text, by which loops show.
func compressionRatio(text string) float64 {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	_, _ = w.Write([]byte(text)) // into memory: cannot fail
	_ = w.Close()
	return float64(len(text)) / float64(out.Len())
}

// accuracyReport sums up what was heard.
type accuracyReport struct {
	Distinct int            `json:"distinct_words"`
	Rows     []*accuracyRow `json:"rows"`
}

// accuracyRow compares a path with the whole context, over the clips that went both ways.
type accuracyRow struct {
	Model  string `json:"model"`
	Search string `json:"search"`
	Bucket int    `json:"bucket"` // 0: all
	Real   bool   `json:"real"`   // recordings alone
	Path   string `json:"path"`

	Clips       int     `json:"clips"`
	Words       int     `json:"words"`
	Errors      int     `json:"errors"`
	FullErrors  int     `json:"full_errors"`
	Deleted     int     `json:"deleted"`
	FullDeleted int     `json:"full_deleted"`
	Worse       int     `json:"clips_worse"` // with more errors than with the whole context
	Better      int     `json:"clips_better"`
	CPU         float64 `json:"cpu_seconds"` // sums
	FullCPU     float64 `json:"full_cpu_seconds"`
	Slowest     float64 `json:"slowest"` // the largest ratio of a clip's time to that with the whole context
}

func percent(part, all int) float64 { return 100 * float64(part) / float64(max(1, all)) }

// summarise pairs every path with the whole context.
func summarise(all []heard) accuracyReport {
	full := map[string]heard{}
	pair := func(h heard) string { return fmt.Sprintf("%s|%s|%s|%g", h.Clip, h.Model, h.Search, h.Inc) }
	var said []string
	for _, h := range all {
		if h.Path == pathFull {
			full[pair(h)] = h
			said = append(said, h.Said)
		}
	}
	r := accuracyReport{Distinct: distinct(said...)}
	rows := map[accuracyRow]*accuracyRow{}
	for _, h := range all {
		f, found := full[pair(h)]
		if !found {
			continue
		}
		for _, bucket := range []int{h.Bucket, 0} {
			for _, real := range []bool{false, true} {
				if real && !h.Real {
					continue
				}
				key := accuracyRow{Model: h.Model, Search: h.Search, Bucket: bucket, Real: real, Path: h.Path}
				row := rows[key]
				if row == nil {
					row = &accuracyRow{Model: h.Model, Search: h.Search, Bucket: bucket, Real: real, Path: h.Path}
					rows[key] = row
					r.Rows = append(r.Rows, row)
				}
				row.add(h, f)
			}
		}
	}
	slices.SortFunc(r.Rows, func(a, b *accuracyRow) int {
		return cmp.Or(cmp.Compare(b.Model, a.Model), cmp.Compare(b.Search, a.Search), truth(a.Real)-truth(b.Real), cmp.Compare(order(a.Path), order(b.Path)), cmp.Compare(a.Bucket, b.Bucket))
	})
	return r
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func order(path string) int {
	n, err := strconv.Atoi(path)
	switch {
	case path == pathFull:
		return 0
	case err != nil:
		return 2000
	}
	return n
}

func (r *accuracyRow) add(h, full heard) {
	r.Clips++
	r.Words += h.Words
	r.Errors, r.FullErrors = r.Errors+h.Errors, r.FullErrors+full.Errors
	r.Deleted, r.FullDeleted = r.Deleted+h.Deleted, r.FullDeleted+full.Deleted
	r.CPU, r.FullCPU = r.CPU+h.CPU, r.FullCPU+full.CPU
	if full.CPU > 0 {
		r.Slowest = max(r.Slowest, h.CPU/full.CPU)
	}
	switch {
	case h.Errors > full.Errors:
		r.Worse++
	case h.Errors < full.Errors:
		r.Better++
	}
}

// text writes it for a person.
func (r accuracyReport) text(w io.Writer) {
	fmt.Fprintf(w, "%d distinct words; each path against the whole context on the same clips; CPU is seconds of processor time a clip\n", r.Distinct)
	last := ""
	var t *tabwriter.Writer
	for _, row := range r.Rows {
		kind := "all clips"
		if row.Real {
			kind = "recordings alone"
		}
		if head := fmt.Sprintf("%s, %s, %s", row.Model, row.Search, kind); head != last {
			if t != nil {
				_ = t.Flush()
			}
			last = head
			fmt.Fprintf(w, "\n%s\n", head)
			t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintln(t, "\tclips\twords\tWER % full\tthis\tlost words full\tthis\tclips worse\tbetter\tCPU s full\tthis\tratio\tslowest clip\t")
		}
		length := "all"
		if row.Bucket > 0 {
			length = fmt.Sprintf("%d s", row.Bucket)
		}
		n := float64(row.Clips)
		fmt.Fprintf(t, "%s, %s\t%d\t%d\t%.2f\t%.2f\t%d\t%d\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t\n", row.Path, length, row.Clips, row.Words,
			percent(row.FullErrors, row.Words), percent(row.Errors, row.Words), row.FullDeleted, row.Deleted, row.Worse, row.Better,
			row.FullCPU/n, row.CPU/n, row.CPU/max(0.01, row.FullCPU), row.Slowest)
	}
	if t != nil {
		_ = t.Flush()
	}
}

// drawing shows processor time a clip by length and path; nil when there is nothing.
func (r accuracyReport) drawing() *bench.Drawing {
	d := &bench.Drawing{Title: "Processor time of short clips, by context", Note: "seconds a clip on one thread; beside it the word error rate with this context and with the whole one"}
	charts := map[string]*bench.BarChart{}
	var order []string
	for _, row := range r.Rows {
		if row.Real || row.Bucket == 0 || row.Path == pathFull && row.Bucket > 20 {
			continue
		}
		name := row.Model + ", " + row.Search
		if charts[name] == nil {
			charts[name] = &bench.BarChart{Title: name}
			order = append(order, name)
		}
		n := float64(row.Clips)
		charts[name].Bars = append(charts[name].Bars, bench.Bar{
			Name: fmt.Sprintf("%d s, %s", row.Bucket, row.Path), Value: row.CPU / n, Strong: row.Path != pathFull,
			Text: fmt.Sprintf("%.2f s, WER %.1f / %.1f %%", row.CPU/n, percent(row.Errors, row.Words), percent(row.FullErrors, row.Words)),
		})
	}
	if len(order) == 0 {
		return nil
	}
	for _, name := range order {
		d.Add(*charts[name])
	}
	return d
}
