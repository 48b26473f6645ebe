package gpu

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func law(t *testing.T, class, model string) Law {
	t.Helper()
	l, ok := LawOf(class, model)
	if !ok {
		t.Fatalf("no law for %s on %s", model, class)
	}
	return l
}

// The table's last column: seconds of a full window of speech. It leaves out F and the overlap.
func TestWindowsTakeWhatTheTableSays(t *testing.T) {
	for _, c := range []struct {
		class, model string
		want         float64
	}{
		{"T4", "base", 0.24}, {"T4", "large-v3", 1.66}, {"T4", "turbo", 0.45},
		{"A10G", "base", 0.16}, {"A10G", "large", 0.98}, {"A10G", "large-v3-turbo", 0.25},
		{"H100", "base", 0.07}, {"H100", "large", 0.39}, {"H100", "turbo", 0.09},
	} {
		got := law(t, c.class, c.model).window(Job{Seconds: 30, Speech: 1}) / float64(time.Second)
		if math.Abs(got-c.want) > 0.006 {
			t.Errorf("%s on %s: a window takes %.3f s, the table says %.2f", c.model, c.class, got, c.want)
		}
	}
}

func TestOnlyWhatHasASourceHasALaw(t *testing.T) {
	for _, c := range [][2]string{
		{"L4", "base"}, {"A100", "base"}, {"CPU", "base"}, {"desk-cpu", "base"}, {"", "base"},
		{"T4", "distil-large-v3"}, {"T4", ""},
	} {
		if _, ok := LawOf(c[0], c[1]); ok {
			t.Errorf("a law for %s on %q out of nowhere", c[1], c[0])
		}
		if _, _, ok := Prior(c[0], c[1]); ok {
			t.Errorf("a prior for %s on %q out of nowhere", c[1], c[0])
		}
	}
	if _, ok := LawOf("h100", "BASE.en"); !ok {
		t.Error("names are looked up in any case")
	}
}

func TestFamiliesAndClassesAreInOrder(t *testing.T) {
	for _, class := range []string{"T4", "A10G", "H100"} {
		before := time.Duration(0)
		for _, model := range []string{"tiny", "base", "small", "medium", "large"} {
			d := law(t, class, model).Typical(Job{Seconds: 30, Speech: 1})
			if d <= before {
				t.Errorf("%s: %s takes %v, no more than the smaller model's %v", class, model, d, before)
			}
			before = d
		}
	}
	for _, model := range []string{"tiny", "base", "small", "medium", "large", "turbo"} {
		t4, a10g, h100 := law(t, "T4", model), law(t, "A10G", model), law(t, "H100", model)
		job := Job{Seconds: 60, Speech: 1}
		if t4.Typical(job) <= a10g.Typical(job) || a10g.Typical(job) <= h100.Typical(job) {
			t.Errorf("%s: the classes are out of order", model)
		}
	}
}

func TestTypical(t *testing.T) {
	l := Law{Fixed: 60 * time.Millisecond, Encode: 20 * time.Millisecond, Token: 2 * time.Millisecond}
	for _, c := range []struct {
		job  Job
		want time.Duration
	}{
		{Job{Seconds: 0.09, Speech: 1}, 0},
		// 60 + 1.1 * 20: a window without words costs its encoder run, however short.
		{Job{Seconds: 1}, 82 * time.Millisecond},
		{Job{Seconds: 30}, 82 * time.Millisecond},
		{Job{Seconds: 31}, 104 * time.Millisecond},
		{Job{Seconds: 30, Detect: true}, 102 * time.Millisecond},
		// 60 + 1.1 * (20 + 110 * 2)
		{Job{Seconds: 30, Speech: 1}, 324 * time.Millisecond},
		// 60 + 1.1 * (20 + 110 * 2 * 1.4)
		{Job{Seconds: 30, Speech: 1, Beams: 5}, 420800 * time.Microsecond},
	} {
		if got := l.Typical(c.job); (got - c.want).Abs() > time.Microsecond {
			t.Errorf("Typical(%+v) = %v, want %v", c.job, got, c.want)
		}
	}
}

// A drawn time is at least the encoder's, repeats with its seed, and has the mean of its parts: the
// typical time, and 3.5 % of windows at 4 times their cost.
func TestDraw(t *testing.T) {
	l := law(t, "A10G", "base")
	job := Job{Seconds: 30, Speech: 1}
	draws := func(seed uint64) (mean float64, first time.Duration) {
		rng := rand.New(rand.NewPCG(seed, 0))
		const n = 20000
		for i := range n {
			d := l.Draw(job, rng)
			if i == 0 {
				first = d
			}
			if d <= 0 {
				t.Fatalf("drew %v", d)
			}
			mean += d.Seconds() / n
		}
		return mean, first
	}
	mean, first := draws(1)
	again, firstAgain := draws(1)
	if mean != again || first != firstAgain {
		t.Error("the same seed gave other times")
	}
	if _, other := draws(2); other == first {
		t.Error("another seed gave the same time")
	}
	passes := 1.1 * l.window(job) / 1e9
	want := l.Fixed.Seconds() + passes*(1+tailShare*((tailMin+tailMax)/2-1))
	if math.Abs(mean-want)/want > 0.02 {
		t.Errorf("mean of drawn times %.4f s, want %.4f", mean, want)
	}
	if l.Draw(Job{Seconds: 0.05, Speech: 1}, rand.New(rand.NewPCG(1, 1))) != 0 {
		t.Error("audio that whisper does not look at takes time")
	}
}

func TestMeanIsTheMeanOfDraws(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, j := range []Job{{Seconds: 5, Speech: 1}, {Seconds: 100, Speech: 0.5, Detect: true, Beams: 5}} {
		l := law(t, "T4", "large")
		const n = 200_000 // the mean's standard deviation is then 0.15 %
		sum := 0.0
		for range n {
			sum += float64(l.Draw(j, rng))
		}
		if got, want := float64(l.Mean(j)), sum/n; math.Abs(got/want-1) > 0.007 {
			t.Errorf("%+v: mean %v, %d draws say %v", j, l.Mean(j), n, time.Duration(want))
		}
	}
	if l := law(t, "T4", "base"); l.Mean(Job{Seconds: 0.05}) != 0 {
		t.Error("silence takes time")
	}
}

func TestGain(t *testing.T) {
	t4 := law(t, "T4", "large")
	for k, want := range map[int]float64{0: 1, 1: 1, 2: 1.15, 4: 1.15 * 0.96, 100: 1.15 * 0.1} {
		if got := t4.Gain(k); math.Abs(got-want) > 1e-9 {
			t.Errorf("T4 large: Gain(%d) = %v, want %v", k, got, want)
		}
	}
	h100 := law(t, "H100", "base")
	if got, want := h100.Gain(4), math.Pow(4, 0.7); got != want {
		t.Errorf("H100 base: Gain(4) = %v, want %v", got, want)
	}
	if got := h100.Gain(64); got != 5 {
		t.Errorf("H100 base: Gain(64) = %v, want 5", got)
	}
	if got := h100.Pace(64); got != 5.0/64 {
		t.Errorf("Pace(64) = %v", got)
	}
}

// A line cannot follow steps: below a minute it is off by up to a half where the encoder is most of
// the work (turbo), from a minute on it is close.
func TestPriorComesCloseToTheLaw(t *testing.T) {
	for _, class := range []string{"T4", "A10G", "H100"} {
		for _, model := range []string{"tiny", "base", "small", "medium", "large", "turbo"} {
			l := law(t, class, model)
			fixed, perSecond, ok := Prior(class, model)
			if !ok {
				t.Fatalf("no prior for %s on %s", model, class)
			}
			for _, seconds := range []float64{5, 15, 30, 60, 95, 300, 3600} {
				want := l.Typical(Job{Seconds: seconds, Speech: 1}).Seconds()
				got := fixed.Seconds() + seconds*perSecond.Seconds()
				limit := 0.12
				if seconds < 60 {
					limit = 0.5
				}
				if off := math.Abs(got-want) / want; off > limit {
					t.Errorf("%s on %s, %.0f s: prior %.3f s, law %.3f s: %.0f %% off", model, class, seconds, got, want, 100*off)
				}
			}
		}
	}
}
