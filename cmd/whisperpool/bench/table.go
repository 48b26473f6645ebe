package bench

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
)

// TableConcurrency are the rows of a table: bursts of so many requests, one each.
var TableConcurrency = []int{4, 8, 16, 32, 64, 128, 192, 256, 512}

// p95Least is how many responses a 95th percentile wants; of fewer it is the slowest one.
const p95Least = 20

// Row is a burst of a table.
type Row struct {
	Concurrency  int     `json:"concurrency"`
	Mean         float64 `json:"mean_s"`
	P95          float64 `json:"p95_s,omitempty"` // left out of fewer than 20 responses
	ErrorPercent float64 `json:"error_pct"`
	Bound        *Bound  `json:"bound,omitempty"`
	Summary      Summary `json:"summary"`
}

// Table is a series of growing bursts.
type Table struct {
	URL     string    `json:"url"`
	Audio   string    `json:"audio"`
	Seed    uint64    `json:"seed"`
	Started time.Time `json:"started"`
	Machine Machine   `json:"machine"`
	Rows    []Row     `json:"rows"`
	Notes   []string  `json:"notes,omitempty"`
}

// newRow makes a row of a burst's result.
func newRow(concurrency int, s Summary, bound *Bound) Row {
	row := Row{Concurrency: concurrency, Mean: s.Latency.Mean, ErrorPercent: s.ErrorPercent(), Bound: bound, Summary: s}
	if s.OK >= p95Least {
		row.P95 = s.Latency.P95
	}
	return row
}

// Measure fills the table with bursts, one after the other; once makes one. It ends early with ctx.
// pool may be nil.
func (t *Table) Measure(ctx context.Context, once func(Load) Result, pool *Pool) {
	for _, n := range TableConcurrency {
		load := Load{Burst: n}
		r := once(load)
		if ctx.Err() != nil {
			t.Notes = append(t.Notes, fmt.Sprintf("it was stopped during the burst of %d", n))
			return
		}
		s := Summarize(r)
		var bound *Bound
		if pool != nil {
			bound = pool.Bound(load, r.Samples)
		}
		for _, doubt := range s.Doubts() {
			t.Notes = append(t.Notes, fmt.Sprintf("burst of %d: %s", n, doubt))
		}
		t.Rows = append(t.Rows, newRow(n, s, bound))
	}
}

func (r Row) fields() []string {
	p95 := ""
	if r.P95 > 0 {
		p95 = strconv.FormatFloat(r.P95, 'f', 2, 64)
	}
	return []string{
		strconv.Itoa(r.Concurrency), strconv.FormatFloat(r.Mean, 'f', 2, 64), p95,
		strconv.FormatFloat(r.ErrorPercent, 'f', 1, 64),
	}
}

// Text writes the columns concurrency, mean_s, p95_s and error_pct, and the bound beside them where
// it is known.
func (t Table) Text(w io.Writer) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	bounded := len(t.Rows) > 0 && t.Rows[0].Bound != nil
	fmt.Fprint(out, "concurrency\tmean_s\tp95_s\terror_pct\t")
	if bounded {
		fmt.Fprint(out, "bound_mean_s\tbound_p95_s\tmean/bound\t")
	}
	fmt.Fprintln(out)
	for _, r := range t.Rows {
		for _, f := range r.fields() {
			fmt.Fprintf(out, "%s\t", f)
		}
		if bounded {
			fmt.Fprintf(out, "%.2f\t%.2f\t%.3f\t", r.Bound.Mean, r.Bound.P95, r.Mean/r.Bound.Mean)
		}
		fmt.Fprintln(out)
	}
	_ = out.Flush() // like all of the text
	for _, note := range t.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
}

// CSV writes the four columns, comma-separated.
func (t Table) CSV(w io.Writer) {
	fmt.Fprintln(w, "concurrency,mean_s,p95_s,error_pct")
	for _, r := range t.Rows {
		f := r.fields()
		fmt.Fprintf(w, "%s,%s,%s,%s\n", f[0], f[1], f[2], f[3])
	}
}

// Drawing shows mean and 95th percentile over the size of the burst, and the bound of the mean.
func (t Table) Drawing() *Drawing {
	d := &Drawing{Title: "Bursts to " + t.URL, Note: "one clip each: " + t.Audio}
	chart := LineChart{Title: "Response time in seconds", XTitle: "requests at once"}
	means, p95, bound := Series{Name: "mean"}, Series{Name: "95th percentile"}, Series{Name: "bound of the mean", Dashed: true}
	for _, r := range t.Rows {
		x := float64(r.Concurrency)
		if len(chart.XTicks) == 0 && len(t.Rows) > 1 {
			chart.XTicks = append(chart.XTicks, Tick{0, "0"})
		}
		if r.Concurrency >= 64 {
			chart.XTicks = append(chart.XTicks, Tick{x, strconv.Itoa(r.Concurrency)})
		}
		means.Points = append(means.Points, Point{x, r.Mean})
		if r.P95 > 0 {
			p95.Points = append(p95.Points, Point{x, r.P95})
		}
		if r.Bound != nil {
			bound.Points = append(bound.Points, Point{x, r.Bound.Mean})
		}
	}
	for _, s := range []Series{means, p95, bound} {
		if len(s.Points) > 0 {
			chart.Lines = append(chart.Lines, s)
		}
	}
	if len(chart.XTicks) > 1 {
		d.Add(chart)
	}
	return d
}
