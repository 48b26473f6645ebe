package bench

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisperpool/whisperpool/sim"
)

func result(n int) Result {
	rng := rand.New(rand.NewPCG(1, 1))
	r := Result{Wall: 10 * time.Second}
	for i := range n {
		o := Outcome{Backend: "h100 <rack & 2>", Service: ms(100)}
		switch {
		case i%10 == 0:
			o = Outcome{Class: Refused, What: "status 503", Detail: "queue_full"}
		case i%3 == 0:
			o = Outcome{Backend: "t4", Service: ms(600)}
		}
		r.Samples = append(r.Samples, Sample{Job: Job{Index: i, Seconds: 5}, Outcome: o, Done: ms(100 + rng.IntN(900))})
	}
	return r
}

func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	for _, bad := range []string{"NaN", "Inf", `="-`} {
		if strings.Contains(string(svg), bad) {
			t.Errorf("%q in\n%s", bad, svg)
		}
	}
}

func TestReport(t *testing.T) {
	res := result(200)
	r := Report{
		URL: "http://host/v1", Load: "burst of 200", Audio: "generated speech of 5 s", Summary: Summarize(res), Notes: []string{"a note"},
		Bound: Bounds(Load{Burst: 200}, []Kind{{4, rangeOf(0.1, 200)}}, nil),
	}
	var text strings.Builder
	r.Text(&text)
	for _, want := range []string{
		"burst of 200 of generated speech of 5 s to http://host/v1", "served 180 of 200 in 10.00 s: 18.00 requests/s, 90.00 s of audio a second",
		"p99.9", "bound", "2.550", "times the bound: the exact schedule", "h100 <rack & 2>", "0.100", "t4", "0.600",
		"not served: 20 refused (429, 503), 0 failed", "20  status 503: queue_full", "note: a note",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	encoded, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Summary struct {
			OK      int
			Latency map[string]float64
		}
		Bound struct {
			Mean float64 `json:"mean_s"`
		}
	}
	if err := json.Unmarshal(encoded, &back); err != nil || back.Summary.OK != 180 || back.Summary.Latency["p99_s"] != r.Summary.Latency.P99 || back.Bound.Mean != r.Bound.Mean {
		t.Errorf("%+v, %v of %s", back, err, encoded)
	}
	svg := r.Drawing().SVG()
	wellFormed(t, svg)
	for _, want := range []string{"Response times of http://host/v1", "99.9 %", "h100 &lt;rack &amp; 2&gt;", "bound", "10.0 % not served"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("no %q in the drawing", want)
		}
	}
}

func rangeOf(x float64, n int) []float64 {
	xs := make([]float64, n)
	for i := range xs {
		xs[i] = x
	}
	return xs
}

// Whatever came of a run, it can be drawn.
func TestOddResultsAreDrawn(t *testing.T) {
	zero := result(3)
	for i := range zero.Samples {
		zero.Samples[i].Done = 0
	}
	for _, res := range []Result{{}, result(1), result(2), zero} {
		r := Report{Summary: Summarize(res)}
		wellFormed(t, r.Drawing().SVG())
		r.Text(io.Discard)
	}
	wellFormed(t, Table{}.Drawing().SVG())
	Table{}.Text(io.Discard)
}

// The table's columns are those of the load tests that the project started from.
func TestTable(t *testing.T) {
	// Ten slots of half a second: 64 jobs are six rounds of ten and four at 3.5 s, 119 s / 64 = 1.86 s.
	synctest.Test(t, func(t *testing.T) {
		s := newServer(10, 500*time.Millisecond)
		table := Table{URL: "http://host", Audio: "clips", Seed: 1}
		var loads []int
		once := func(load Load) Result {
			loads = append(loads, load.Burst)
			return Run(t.Context(), NewSchedule(load, speech(t), 1), s.send, nil)
		}
		table.Measure(t.Context(), once, &Pool{cards: []sim.Card{{Law: &sim.Law{Fixed: 0.5}, Slots: 4}, {Law: &sim.Law{Fixed: 0.5}, Slots: 6}}, speedUp: 1})
		var csv strings.Builder
		table.CSV(&csv)
		want := "concurrency,mean_s,p95_s,error_pct\n4,0.50,,0.0\n8,0.50,,0.0\n16,0.69,,0.0\n32,1.06,2.00,0.0\n64,1.86,3.50,0.0\n" +
			"128,3.45,6.50,0.0\n192,5.05,9.50,0.0\n256,6.65,12.50,0.0\n512,13.05,24.50,0.0\n"
		if csv.String() != want {
			t.Errorf("%s", csv.String())
		}
		for _, row := range table.Rows {
			if ratio := row.Mean / row.Bound.Mean; ratio < 0.9999 || ratio > 1.0001 {
				t.Errorf("%d at once: %v, the bound is %v", row.Concurrency, row.Mean, row.Bound.Mean)
			}
		}
		var text strings.Builder
		table.Text(&text)
		for _, want := range []string{"concurrency  mean_s  p95_s  error_pct  bound_mean_s", "512   13.05  24.50        0.0         13.05"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("no %q in\n%s", want, text.String())
			}
		}
		wellFormed(t, table.Drawing().SVG())
	})
}

func TestAStoppedTableKeepsWhatItHas(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	table := Table{}
	table.Measure(ctx, func(load Load) Result {
		if load.Burst == 32 {
			cancel()
		}
		return result(load.Burst)
	}, nil)
	if len(table.Rows) != 3 || len(table.Notes) == 0 || !strings.Contains(table.Notes[len(table.Notes)-1], "burst of 32") {
		t.Errorf("%d rows, notes %q", len(table.Rows), table.Notes)
	}
}

func TestNiceTicks(t *testing.T) {
	for _, top := range []float64{0, 0.0003, 0.9, 1, 7, 12.3, 999, 1e6} {
		ticks := niceTicks(top)
		if last := ticks[len(ticks)-1].At; len(ticks) < 3 || len(ticks) > 8 || last < top || top > 0 && last > 2*top {
			t.Errorf("up to %v: %v", top, ticks)
		}
	}
}

// buffer is a terminal that can be looked at while it is written to.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewProgress(10)
		for range 6 {
			p.started()
		}
		for _, c := range []Class{OK, OK, OK, OK, Refused} {
			p.ended(c)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var terminal buffer
		wait := p.Show(ctx, &terminal)
		time.Sleep(time.Second)
		cancel()
		wait()
		got := terminal.text.String()
		if !strings.Contains(got, "[===============               ] 5 of 10, 1 under way, 1 s, 1 not served") || !strings.HasSuffix(got, "\r\033[K") {
			t.Errorf("%q", got)
		}
		if got := NewProgress(0).bar(time.Minute); got != "0 done, 0 under way, 60 s" {
			t.Errorf("%q", got)
		}
	})
}

func TestTheMachineIsNamed(t *testing.T) {
	m := ThisMachine()
	if _, err := os.Stat("/proc/loadavg"); err == nil && m.Load < 0 || m.CPUs < 1 {
		t.Errorf("%+v", m)
	}
}
