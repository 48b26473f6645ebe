package bench

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what is told of a run: to people by Text, to programs as JSON, as a chart by Drawing.
type Report struct {
	URL     string    `json:"url"`
	Load    string    `json:"load"`
	Audio   string    `json:"audio"`
	Seed    uint64    `json:"seed"`
	Started time.Time `json:"started"`
	Machine Machine   `json:"machine"` // of the generator
	Summary Summary   `json:"summary"`
	Bound   *Bound    `json:"bound,omitempty"`
	Notes   []string  `json:"notes,omitempty"`
}

// Machine is where the generator ran.
type Machine struct {
	CPUs int     `json:"cpus"`
	Load float64 `json:"load_average"` // of a minute, before the run; -1 where the system does not tell
}

// ThisMachine is the machine as it is now.
func ThisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Load: -1}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &m.Load) // stays -1 when it is something else
	}
	return m
}

// The generator's lateness above which its figures are doubted: so much of the median response, but
// a few milliseconds are never much.
const (
	lateShare = 0.05
	lateLeast = 0.005 // seconds
)

// Doubts are reasons not to believe a run's figures, none when there are none.
func (s Summary) Doubts() []string {
	var doubts []string
	late := s.Generator.Late()
	if s.OK > 0 && late > max(lateLeast, lateShare*s.Latency.P50) {
		doubts = append(doubts, fmt.Sprintf(
			"the generator itself was up to %s s late (99th percentile), so these times are partly its own: use a machine that is less busy, or a smaller load", short(late)))
	}
	for _, p := range s.Problems {
		if p.What == tooManyFiles {
			doubts = append(doubts, "this side ran out of file descriptors: raise the limit with ulimit -n")
		}
	}
	return doubts
}

// short writes seconds with as many digits as mean something.
func short(seconds float64) string {
	switch {
	case seconds == 0:
		return "0"
	case seconds < 0.001:
		return fmt.Sprintf("%.5f", seconds)
	case seconds < 0.1:
		return fmt.Sprintf("%.4f", seconds)
	case seconds < 10:
		return fmt.Sprintf("%.3f", seconds)
	default:
		return fmt.Sprintf("%.2f", seconds)
	}
}

// Text writes the report for a person.
func (r Report) Text(w io.Writer) {
	s := r.Summary
	fmt.Fprintf(w, "%s of %s to %s\n", r.Load, r.Audio, r.URL)
	fmt.Fprintf(w, "served %d of %d in %s s: %s requests/s, %s s of audio a second\n", s.OK, s.Requests, short(s.Wall), short(s.Rate), short(s.AudioRate))
	if s.OK > 0 {
		fmt.Fprintln(w)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "seconds\tmean\tp50\tp90\tp95\tp99\tp99.9\tmax\t")
		l := s.Latency
		fmt.Fprintf(t, "response\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", short(l.Mean), short(l.P50), short(l.P90), short(l.P95), short(l.P99), short(l.P999), short(l.Max))
		if b := r.Bound; b != nil {
			p95 := ""
			if b.P95 > 0 {
				p95 = short(b.P95)
			}
			fmt.Fprintf(t, "bound\t%s\t\t\t%s\t\t\t\t\n", short(b.Mean), p95)
		}
		_ = t.Flush() // like all of the text
		if b := r.Bound; b != nil {
			fmt.Fprintf(w, "the mean is %.3f times the bound: %s\n", l.Mean/b.Mean, b.What)
		}
	}
	s.textBackends(w)
	s.textProblems(w)
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
}

func (s Summary) textBackends(w io.Writer) {
	if len(s.Backends) == 0 || len(s.Backends) == 1 && s.Backends[0].Backend == "" {
		return // who served is not said
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "backend\trequests\taudio s\tservice s\t")
	for _, b := range s.Backends {
		service := ""
		if b.Service > 0 {
			service = short(b.Service)
		}
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%s\t\n", nameOr(b.Backend, "(not said)"), b.Requests, b.Audio, service)
	}
	_ = t.Flush() // like all of the text
}

func nameOr(name, other string) string {
	if name == "" {
		return other
	}
	return name
}

func (s Summary) textProblems(w io.Writer) {
	if s.Refused+s.Failed > 0 {
		fmt.Fprintf(w, "\nnot served: %d refused (429, 503), %d failed\n", s.Refused, s.Failed)
		for _, p := range s.Problems {
			fmt.Fprintf(w, "  %6d  %s", p.Count, p.What)
			if p.Example != "" {
				fmt.Fprintf(w, ": %s", p.Example)
			}
			fmt.Fprintln(w)
		}
	}
	if s.Abandoned > 0 {
		fmt.Fprintf(w, "%d requests were under way when it was stopped; they are in no figure\n", s.Abandoned)
	}
}

// Drawing shows the response times by percentile, and who served how many.
func (r Report) Drawing() *Drawing {
	s := r.Summary
	d := &Drawing{Title: "Response times of " + r.URL, Note: r.Load + " of " + r.Audio}
	if s.ErrorPercent() > 0 {
		d.Note += fmt.Sprintf("; %.1f %% not served", s.ErrorPercent())
	}
	if s.OK > 0 {
		d.Add(r.percentileChart())
	}
	if bars := s.bars(); len(bars) > 0 {
		d.Add(BarChart{Title: "Requests by backend", Bars: bars})
	}
	return d
}

// percentileChart has the percentiles on a scale on which each nine takes the same room.
func (r Report) percentileChart() LineChart {
	s := r.Summary
	nines := func(share float64) float64 { return -math.Log10(1 - share) }
	chart := LineChart{Title: "Response time in seconds", XTitle: "share of the responses that were at least as quick"}
	n := len(s.sorted)
	for _, t := range []Tick{{0, "0 %"}, {0.5, "50 %"}, {0.9, "90 %"}, {0.99, "99 %"}, {0.999, "99.9 %"}, {0.9999, "99.99 %"}} {
		chart.XTicks = append(chart.XTicks, Tick{nines(t.At), t.Text})
		if len(chart.XTicks) > 2 && 1-t.At <= 1/float64(n) {
			break
		}
	}
	end := chart.XTicks[len(chart.XTicks)-1].At
	line := Series{Name: "measured"}
	const steps = 200
	for i := range steps + 1 {
		x := end * float64(i) / steps
		line.Points = append(line.Points, Point{x, percentile(s.sorted, 1-math.Pow(10, -x))})
	}
	chart.Lines = append(chart.Lines, line)
	if b := r.Bound; b != nil && len(b.sorted) > 0 {
		bound := Series{Name: "bound", Dashed: true}
		for _, p := range line.Points {
			bound.Points = append(bound.Points, Point{p.X, percentile(b.sorted, 1-math.Pow(10, -p.X))})
		}
		chart.Lines = append(chart.Lines, bound)
	}
	return chart
}

// bars are the shares of the backends, the smallest put together when there are many.
func (s Summary) bars() []Bar {
	const shown = 30
	if len(s.Backends) == 1 && s.Backends[0].Backend == "" {
		return nil
	}
	var bars []Bar
	rest := 0
	for i, b := range s.Backends {
		if i >= shown {
			rest += b.Requests
			continue
		}
		text := fmt.Sprintf("%d", b.Requests)
		if b.Service > 0 {
			text += fmt.Sprintf(", %s s each", short(b.Service))
		}
		bars = append(bars, Bar{Name: ellipsis(nameOr(b.Backend, "(not said)"), 26), Value: float64(b.Requests), Text: text, Strong: true})
	}
	if rest > 0 {
		bars = append(bars, Bar{Name: fmt.Sprintf("%d others", len(s.Backends)-shown), Value: float64(rest), Text: fmt.Sprint(rest)})
	}
	return bars
}

// ellipsis cuts a long text in the middle, since addresses differ at their ends.
func ellipsis(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	half := (most - 1) / 2
	return strings.Join([]string{string(r[:half]), string(r[len(r)-half:])}, "…")
}
