package bench

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestPercentiles(t *testing.T) {
	var xs []float64
	for i := range 100 {
		xs = append(xs, float64(i+1))
	}
	for share, want := range map[float64]float64{0: 1, 0.5: 50, 0.9: 90, 0.95: 95, 0.99: 99, 0.999: 100, 1: 100} {
		if got := percentile(xs, share); got != want {
			t.Errorf("percentile %v of 1..100 is %v, want %v", share, got, want)
		}
	}
	if percentile(nil, 0.5) != 0 || percentile([]float64{7}, 0.99) != 7 || percentile(xs[:20], 0.95) != 19 {
		t.Error("small samples")
	}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestSummary(t *testing.T) {
	r := Result{Wall: 2 * time.Second, Hiccups: []time.Duration{ms(1), 0, ms(3)}}
	add := func(o Outcome, at, sent, done int) {
		r.Samples = append(r.Samples, Sample{Job: Job{At: ms(at), Seconds: 5}, Outcome: o, Sent: ms(sent), Done: ms(done)})
	}
	add(Outcome{Backend: "a", Service: ms(80)}, 0, 0, 100)
	add(Outcome{Backend: "a", Service: ms(120)}, 100, 110, 300) // 10 ms late: counts from 100
	add(Outcome{Backend: "b", Service: ms(300)}, 0, 0, 300)
	add(Outcome{Class: Refused, What: "status 503", Detail: "full"}, 0, 0, 1)
	add(Outcome{Class: Failed, What: "status 500", Detail: "first"}, 0, 0, 1)
	add(Outcome{Class: Failed, What: "status 500", Detail: "second"}, 0, 0, 1)
	add(Outcome{Class: Abandoned}, 0, 0, 1900)
	s := Summarize(r)
	if s.Requests != 6 || s.OK != 3 || s.Refused != 1 || s.Failed != 2 || s.Abandoned != 1 || s.ErrorPercent() != 50 {
		t.Errorf("%+v", s)
	}
	if math.Abs(s.Latency.Mean-0.2) > 1e-12 || s.Latency.P50 != 0.2 || s.Latency.Max != 0.3 || s.Rate != 1.5 || s.AudioRate != 7.5 {
		t.Errorf("%+v", s)
	}
	if want := []Problem{{"status 500", false, 2, "first"}, {"status 503", true, 1, "full"}}; !slices.Equal(s.Problems, want) {
		t.Errorf("problems %+v", s.Problems)
	}
	if want := []Share{{"a", 2, 10, 0.1}, {"b", 1, 5, 0.3}}; !slices.Equal(s.Backends, want) {
		t.Errorf("backends %+v", s.Backends)
	}
	if g := s.Generator; g.LagMax != 0.01 || g.HiccupMax != 0.003 {
		t.Errorf("generator %+v", g)
	}
}

func TestNothingIsSummedUpWithoutNaN(t *testing.T) {
	s := Summarize(Result{})
	if s.ErrorPercent() != 0 || s.Latency != (Latency{}) || s.Rate != 0 || len(s.Doubts()) != 0 {
		t.Errorf("%+v", s)
	}
}

func TestALateGeneratorIsDoubted(t *testing.T) {
	run := func(latency, lag, hiccup int) Summary {
		return Summarize(Result{
			Samples: []Sample{{Job: Job{At: 0}, Sent: ms(lag), Done: ms(latency)}}, Hiccups: []time.Duration{ms(hiccup)},
		})
	}
	for _, c := range []struct {
		latency, lag, hiccup int
		doubted              bool
	}{
		{1000, 40, 0, false}, {1000, 60, 0, true}, {1000, 0, 60, true}, {10, 4, 4, false}, {10, 6, 0, true},
	} {
		if got := len(run(c.latency, c.lag, c.hiccup).Doubts()) > 0; got != c.doubted {
			t.Errorf("%+v: doubted %v", c, got)
		}
	}
}
