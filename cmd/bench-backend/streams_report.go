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

// streamResults are what is kept of a comparison.
type streamResults struct {
	Started    time.Time       `json:"started"`
	Took       string          `json:"took"`
	Version    string          `json:"version"`
	Machine    stage.Machine   `json:"machine"`
	Processors int             `json:"processors"` // that could be used
	Series     []*streamSeries `json:"series"`
}

// streamLine sums up a series: medians over the repetitions, and how far these were apart.
type streamLine struct {
	series          *streamSeries
	speed           float64 // seconds of audio a second
	low, high       float64
	each            float64 // median response time, seconds
	ratio           float64 // to whisper-server, of the same repetition
	ratioLow, rHigh float64
}

// group is what is compared: one model, search and number of streams.
type streamGroup struct {
	title string
	lines []streamLine
}

func (r *streamResults) groups() []streamGroup {
	var all []streamGroup
	for _, s := range r.Series {
		if len(s.Runs) == 0 {
			continue
		}
		title := fmt.Sprintf("%s, %s, %d streams", s.Model, s.Search, s.Streams)
		i := slices.IndexFunc(all, func(g streamGroup) bool { return g.title == title })
		if i < 0 {
			i = len(all)
			all = append(all, streamGroup{title: title})
		}
		all[i].lines = append(all[i].lines, streamLine{series: s})
	}
	for _, g := range all {
		at := slices.IndexFunc(g.lines, func(l streamLine) bool { return l.series.Contender.Theirs })
		for i := range g.lines {
			var theirs *streamSeries
			if at >= 0 {
				theirs = g.lines[at].series
			}
			g.lines[i].fill(theirs)
		}
	}
	return all
}

func (l *streamLine) fill(theirs *streamSeries) {
	var speeds, each, ratios []float64
	for i, r := range l.series.Runs {
		speeds = append(speeds, l.series.Audio/r.Seconds)
		each = append(each, r.Each...)
		if theirs != nil && i < len(theirs.Runs) && theirs.Runs[i].Repeat == r.Repeat {
			ratios = append(ratios, theirs.Runs[i].Seconds/r.Seconds)
		}
	}
	l.speed, l.low, l.high, l.each = median(speeds), slices.Min(speeds), slices.Max(speeds), median(each)
	if l.ratio = median(ratios); len(ratios) > 0 {
		l.ratioLow, l.rHigh = slices.Min(ratios), slices.Max(ratios)
	}
}

// text writes all of it for a person.
func (r *streamResults) text(w io.Writer) {
	fmt.Fprintf(w, "%s, %s\n%s, %d processors used\nmedians over the repetitions, lowest and highest in brackets; the ratio compares runs of the same repetition\n",
		r.Started.Format("2006-01-02 15:04"), r.Version, r.Machine, r.Processors)
	for _, g := range r.groups() {
		fmt.Fprintf(w, "\n%s\n", g.title)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "\taudio s / s\t\tresponse s\tx whisper-server\t\t")
		for _, l := range g.lines {
			fmt.Fprintf(t, "%s\t%.2f\t(%.2f-%.2f)\t%.2f\t", l.series.Contender.Name, l.speed, l.low, l.high, l.each)
			if l.series.Contender.Theirs || l.ratio == 0 {
				fmt.Fprint(t, "\t\t\n")
				continue
			}
			fmt.Fprintf(t, "%.3f\t(%.3f-%.3f)\t\n", l.ratio, l.ratioLow, l.rHigh)
		}
		_ = t.Flush()
	}
	fmt.Fprintln(w)
	for _, n := range r.doubts() {
		fmt.Fprintln(w, n)
	}
}

// doubts say how much else the machine did.
func (r *streamResults) doubts() []string {
	busy, all, busiest := 0, 0, 0.0
	for _, s := range r.Series {
		for _, one := range s.Runs {
			all++
			busiest = max(busiest, one.Others)
			if one.Others > stage.OthersMost {
				busy++
			}
		}
	}
	if busy > 0 {
		return []string{fmt.Sprintf("note: programs of others used more than %.0f %% of the processors in %d of %d runs, up to %.0f %%: these are no figures to publish",
			100*stage.OthersMost, busy, all, 100*busiest)}
	}
	return []string{fmt.Sprintf("note: in no run did programs of others use more than %.1f %% of the processors", 100*busiest)}
}

// drawing shows how many seconds of audio each gets done in a second.
func (r *streamResults) drawing() *bench.Drawing {
	d := &bench.Drawing{
		Title: "Seconds of audio a second, beside whisper-server",
		Note:  fmt.Sprintf("%s; %d processors for each; medians with lowest and highest", r.Machine.CPU, r.Processors),
	}
	for _, g := range r.groups() {
		chart := bench.BarChart{Title: g.title}
		for _, l := range g.lines {
			bar := bench.Bar{Name: l.series.Contender.Name, Value: l.speed, Low: l.low, High: l.high, Strong: !l.series.Contender.Theirs, Text: fmt.Sprintf("%.2f", l.speed)}
			if !l.series.Contender.Theirs && l.ratio > 0 {
				bar.Text += fmt.Sprintf("  (x %.2f)", l.ratio)
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
