package bench

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func mustLengths(t *testing.T, s string) Lengths {
	t.Helper()
	l, err := ParseLengths(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLengths(t *testing.T) {
	for _, c := range []struct {
		text, says string
		median     float64
		longest    float64
	}{
		{"5", "5 s", 5, 5},
		{"2.5s", "2.5 s", 2.5, 2.5},
		{"5, 10,30", "5, 10, 30 s", 10, 30},
		{"lognormal:12,1.2,600", "lognormal, median 12 s, sigma 1.2, at most 600 s", 12, 600},
		{"lognormal:12,1.2,20", "lognormal, median 12 s, sigma 1.2, at most 20 s", 12, 20},
	} {
		l := mustLengths(t, c.text)
		if l.String() != c.says {
			t.Errorf("%s says %q", c.text, l.String())
		}
		jobs := NewSchedule(Load{Burst: 20_001}, NewSpeech(l, MuLaw), 3).Jobs()
		var xs []float64
		for _, j := range jobs {
			xs = append(xs, j.Seconds)
		}
		slices.Sort(xs)
		if m := percentile(xs, 0.5); math.Abs(m-c.median) > 0.03*c.median {
			t.Errorf("%s: median %v, want %v", c.text, m, c.median)
		}
		if xs[len(xs)-1] > c.longest || xs[0] < secondsMin {
			t.Errorf("%s: from %v to %v", c.text, xs[0], xs[len(xs)-1])
		}
		if c.text == "lognormal:12,1.2,600" { // a standard deviation above the median is 12 * exp(1.2)
			if x := percentile(xs, 0.8413); math.Abs(x-39.84) > 2 {
				t.Errorf("the 84th percentile is %v, want about 39.8", x)
			}
		}
	}
	for _, bad := range []string{"", "x", "0", "-1", "NaN", "1e9", "5,,6", "lognormal:12", "lognormal:12,9,600", "lognormal:12,1,6", "lognormal:12,NaN,600"} {
		if _, err := ParseLengths(bad); err == nil || !strings.Contains(err.Error(), `"`+bad+`"`) {
			t.Errorf("%q: error %v does not say which", bad, err)
		}
	}
}

func TestLoadsSayWhatIsWrong(t *testing.T) {
	for _, l := range []Load{
		{Burst: 5}, {Clients: 3, Requests: 10}, {Clients: 3, Duration: time.Second}, {Rate: 2.5, Duration: time.Second}, {Rate: 1, Requests: 3},
	} {
		if err := l.Check(); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
	for _, l := range []Load{
		{}, {Burst: 5, Clients: 3}, {Burst: 5, Requests: 6}, {Burst: -1}, {Clients: 3}, {Clients: 3, Requests: 1, Duration: 1},
		{Rate: math.NaN(), Requests: 1}, {Rate: -1, Requests: 1}, {Rate: math.Inf(1), Requests: 1}, {Clients: 1, Requests: -1},
		{Burst: 3, Sustain: true}, {Clients: 3, Duration: 1, Sustain: true}, {Burst: most + 1}, {Rate: 1e6, Duration: time.Hour},
	} {
		if l.Check() == nil {
			t.Errorf("%+v: no error", l)
		}
	}
	for l, want := range map[Load]string{
		{Burst: 5}:                             "burst of 5",
		{Clients: 1, Requests: 7}:              "closed loop of 1 client, 7 requests",
		{Clients: 4, Duration: time.Minute}:    "closed loop of 4 clients, 1m0s",
		{Rate: 12.5, Duration: time.Second}:    "open loop of 12.5/s, 1s",
		{Rate: 0.0625, Requests: 1_000_000}:    "open loop of 0.0625/s, 1000000 requests",
		{Clients: 16, Requests: most, Rate: 0}: "closed loop of 16 clients, 5000000 requests",
	} {
		if l.String() != want {
			t.Errorf("%q, want %q", l.String(), want)
		}
	}
}

// The same seed makes the same jobs, and the lengths are the same at any rate.
func TestSchedulesRepeat(t *testing.T) {
	speech := NewSpeech(mustLengths(t, "lognormal:12,1.2,600"), MuLaw)
	at := func(load Load, seed uint64) []Job { return NewSchedule(load, speech, seed).Jobs() }
	first := at(Load{Rate: 10, Requests: 100}, 1)
	if !slices.Equal(first, at(Load{Rate: 10, Requests: 100}, 1)) {
		t.Error("one seed, two schedules")
	}
	if other := at(Load{Rate: 10, Requests: 100}, 2); other[0].Seconds == first[0].Seconds || other[0].At == first[0].At {
		t.Error("two seeds, one schedule")
	}
	quicker := at(Load{Rate: 20, Requests: 100}, 1)
	for i := range first {
		if quicker[i].Seconds != first[i].Seconds || math.Abs(float64(2*quicker[i].At-first[i].At)) > 200 {
			t.Fatalf("job %d: %+v at 10/s, %+v at 20/s", i, first[i], quicker[i])
		}
	}
	burst := at(Load{Burst: 100}, 1)
	for i := range first {
		if burst[i].Seconds != first[i].Seconds || burst[i].At != 0 {
			t.Fatalf("job %d of a burst: %+v, want %v s at 0", i, burst[i], first[i].Seconds)
		}
	}
}

// A Poisson process: the gaps are exponential, their standard deviation is their mean.
func TestOpenLoopIsPoisson(t *testing.T) {
	jobs := NewSchedule(Load{Rate: 50, Duration: 10 * time.Minute}, NewSpeech(mustLengths(t, "5"), MuLaw), 4).Jobs()
	if n := float64(len(jobs)); math.Abs(n-30_000) > 4*math.Sqrt(30_000) {
		t.Errorf("%v arrivals in ten minutes at 50/s", n)
	}
	var gaps []float64
	last := time.Duration(0)
	for i, j := range jobs {
		if j.At < last || j.At >= 10*time.Minute || j.Index != i {
			t.Fatalf("job %d: %+v after %v", i, j, last)
		}
		gaps = append(gaps, (j.At - last).Seconds())
		last = j.At
	}
	m, square := mean(gaps), 0.0
	for _, g := range gaps {
		square += (g - m) * (g - m)
	}
	if deviation := math.Sqrt(square / float64(len(gaps))); math.Abs(deviation/m-1) > 0.03 {
		t.Errorf("gaps of %v with a deviation of %v", m, deviation)
	}
}
