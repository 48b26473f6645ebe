package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
)

// results are what is kept of a comparison.
type results struct {
	Started time.Time     `json:"started"`
	Took    string        `json:"took"`
	Version string        `json:"version"` // of whisperpool
	Machine stage.Machine `json:"machine"`
	Model   string        `json:"model"`
	SpeedUp float64       `json:"speed_up"`
	Series  []*series     `json:"series"`
	Notes   []string      `json:"notes,omitempty"`
}

// line sums up a series: medians over the repetitions, and how far these were apart.
type line struct {
	series       *series
	mean         float64 // seconds, as all times
	low, high    float64 // of the mean
	p99          float64
	toBound      float64 // mean over bound
	boundLow     float64
	boundHigh    float64
	oursMean     float64 // our mean over the peer's, on the same jobs, each over the run's luck
	oursP99      float64
	errorPercent float64 // of all repetitions together
}

// comparison is a workload on a pool.
type comparison struct {
	pool, workload, lengths string
	lines                   []line // in the order of the peers
}

// comparisons groups the series by pool and workload.
func (r results) comparisons() []comparison {
	var all []comparison
	for _, s := range r.Series {
		if len(s.Runs) == 0 {
			continue
		}
		i := slices.IndexFunc(all, func(c comparison) bool { return c.pool == s.Pool && c.workload == s.Workload })
		if i < 0 {
			i = len(all)
			all = append(all, comparison{pool: s.Pool, workload: s.Workload, lengths: s.Lengths})
		}
		all[i].lines = append(all[i].lines, line{series: s})
	}
	for _, c := range all {
		us := slices.IndexFunc(c.lines, func(l line) bool { return l.series.Peer == ours })
		for i := range c.lines {
			var own *series
			if us >= 0 {
				own = c.lines[us].series
			}
			c.lines[i].fill(own)
		}
	}
	return all
}

func (l *line) fill(own *series) {
	var means, p99s, bounds, ourMeans, ourP99s []float64
	requests, errors := 0, 0
	for i, r := range l.series.Runs {
		means, p99s = append(means, r.Summary.Latency.Mean), append(p99s, r.Summary.Latency.P99)
		if r.Bound > 0 {
			bounds = append(bounds, r.Summary.Latency.Mean/r.Bound)
		}
		requests, errors = requests+r.Summary.Requests, errors+r.Summary.Refused+r.Summary.Failed
		if own != nil && i < len(own.Runs) && own.Runs[i].Repeat == r.Repeat && r.Luck > 0 && own.Runs[i].Luck > 0 {
			luck := r.Luck / own.Runs[i].Luck
			ourMeans = append(ourMeans, own.Runs[i].Summary.Latency.Mean/r.Summary.Latency.Mean*luck)
			ourP99s = append(ourP99s, own.Runs[i].Summary.Latency.P99/r.Summary.Latency.P99*luck)
		}
	}
	l.mean, l.low, l.high = median(means), slices.Min(means), slices.Max(means)
	l.p99, l.toBound = median(p99s), median(bounds)
	if len(bounds) > 0 {
		l.boundLow, l.boundHigh = slices.Min(bounds), slices.Max(bounds)
	}
	l.oursMean, l.oursP99 = median(ourMeans), median(ourP99s)
	if requests > 0 {
		l.errorPercent = 100 * float64(errors) / float64(requests)
	}
}

// median is the middle one, of an even number the mean of the two in the middle; 0 of none.
func median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(xs))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// best is the peer with the least mean, but for ourselves; nil when there is none.
func (c comparison) best() *line {
	var best *line
	for i := range c.lines {
		if l := &c.lines[i]; l.series.Peer != ours && (best == nil || l.mean < best.mean) {
			best = l
		}
	}
	return best
}

// text writes all of it for a person.
func (r results) text(w io.Writer) {
	fmt.Fprintf(w, "%s, %s\n%s\nemulated %s, %s; medians of %d, lowest and highest in brackets;\n"+
		"ours / it compares runs of the same jobs, each over how much longer the cards worked in that run than the law's mean;\n"+
		"the bound is loose in open loops, where it takes all cards for one fast one\n",
		r.Started.Format("2006-01-02 15:04"), r.Version, r.Machine, r.Model, pace(r.SpeedUp), r.repeats())
	for _, c := range r.comparisons() {
		fmt.Fprintf(w, "\n%s: %s, lengths %s\n", c.pool, c.workload, c.lengths)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "\tmean s\t\tx bound\t\tp99 s\tours / it\tours / it, p99\terrors %\tset by hand\t")
		for _, l := range c.lines {
			fmt.Fprintf(t, "%s\t%.3f\t(%.3f-%.3f)\t%.3f\t(%.3f-%.3f)\t%.3f\t", l.series.Peer, l.mean, l.low, l.high, l.toBound, l.boundLow, l.boundHigh, l.p99)
			if l.series.Peer == ours || l.oursMean == 0 {
				fmt.Fprint(t, "\t\t")
			} else {
				fmt.Fprintf(t, "%.2f\t%.2f\t", l.oursMean, l.oursP99)
			}
			fmt.Fprintf(t, "%.1f\t%s\t\n", l.errorPercent, l.series.Told)
		}
		_ = t.Flush() // like all of the text
		if best := c.best(); best != nil && best.oursMean > 0 {
			fmt.Fprintf(w, "  %.2f times the mean and %.2f times the p99 of the best of the others, %s\n", best.oursMean, best.oursP99, best.series.Peer)
		}
	}
	fmt.Fprintln(w)
	for _, n := range append(r.Notes, r.doubts()...) {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}

// pace says how time goes for the emulated cards.
func pace(speedUp float64) string {
	if speedUp < 1 {
		return fmt.Sprintf("time slowed down %g times", 1/speedUp)
	}
	return fmt.Sprintf("time sped up %g times", speedUp)
}

func (r results) repeats() int {
	most := 0
	for _, s := range r.Series {
		most = max(most, len(s.Runs))
	}
	return most
}

// doubts say how much else the machine did, and whether the generator kept up.
func (r results) doubts() []string {
	busy, late, all, busiest, latest := 0, 0, 0, 0.0, 0.0
	for _, s := range r.Series {
		for _, one := range s.Runs {
			all++
			busiest = max(busiest, one.Others)
			latest = max(latest, one.Summary.Generator.Late())
			if one.Others > stage.OthersMost {
				busy++
			}
			if len(one.Summary.Doubts()) > 0 {
				late++
			}
		}
	}
	var doubts []string
	if busy > 0 {
		doubts = append(doubts, fmt.Sprintf("programs of others used more than %.0f %% of the processors in %d of %d runs, up to %.0f %%: these are no figures to publish",
			100*stage.OthersMost, busy, all, 100*busiest))
	}
	if late > 0 {
		doubts = append(doubts, fmt.Sprintf("the generator was late by more than it should in %d of %d runs, up to %.1f ms (99th percentile)", late, all, 1000*latest))
	}
	if len(doubts) == 0 && all > 0 {
		doubts = append(doubts, fmt.Sprintf("in no run did others use more than %.1f %% of the processors, and the generator was at most %.1f ms late (99th percentile)", 100*busiest, 1000*latest))
	}
	return doubts
}

// drawing shows each workload's means as multiples of the bound.
func (r results) drawing() *bench.Drawing {
	d := &bench.Drawing{
		Title: "Mean response time, as a multiple of what is possible",
		Note:  fmt.Sprintf("emulated GPUs with %s over real sockets; medians of %d, with lowest and highest; the line is the lower bound", r.Model, r.repeats()),
	}
	for _, c := range r.comparisons() {
		chart := bench.BarChart{Title: c.pool + ": " + c.workload, Mark: 1}
		for _, l := range c.lines {
			bar := bench.Bar{
				Name: l.series.Peer, Value: l.toBound, Low: l.boundLow, High: l.boundHigh, Strong: l.series.Peer == ours,
				Text: fmt.Sprintf("%.2f  (%.2f s, p99 %.2f s)", l.toBound, l.mean, l.p99),
			}
			if len(l.series.Runs) < 2 {
				bar.Low, bar.High = 0, 0
			}
			chart.Bars = append(chart.Bars, bar)
		}
		d.Add(chart)
	}
	return d
}
