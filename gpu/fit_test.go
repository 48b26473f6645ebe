package gpu

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// drawn are jobs as a card would do them: n of each length alone, then n of 24 s at each number of
// streams.
func drawn(l Law, n int, streams []int, rng *rand.Rand) (all []Sample) {
	add := func(seconds float64, beside, n int) {
		for range n {
			took := l.Draw(Job{Seconds: seconds, Speech: 1}, rng).Seconds() / l.Pace(beside)
			all = append(all, Sample{Seconds: seconds, Took: took, Beside: float64(beside)})
		}
	}
	for _, seconds := range []float64{3, 9, 18, 27, 45, 75, 105} {
		add(seconds, 1, n)
	}
	for _, k := range streams {
		add(24, k, n)
	}
	return all
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got/want-1) > within {
		t.Errorf("%s: %.4g, want %.4g", what, got, want)
	}
}

func TestFitGivesBackTheLaw(t *testing.T) {
	for _, class := range []string{"T4", "A10G", "H100"} {
		for _, model := range []string{"base", "large-v3", "turbo"} {
			want := law(t, class, model)
			streams := []int{2, 3, 4, 6, 8, 12}
			got := Fit(drawn(want, 100, streams, rand.New(rand.NewPCG(1, 2))))
			name := model + " on " + class
			for _, seconds := range []float64{1, 5, 20, 30, 60, 120, 600} {
				j := Job{Seconds: seconds, Speech: 1}
				near(t, name, got.Typical(j).Seconds(), want.Typical(j).Seconds(), 0.07)
			}
			near(t, name+": a window", got.window(Job{Seconds: 30, Speech: 1}), want.window(Job{Seconds: 30, Speech: 1}), 0.1)
			for _, k := range streams {
				near(t, name+": gain", got.Gain(k), want.Gain(k), 0.08)
			}
		}
	}
}

// Without chance each figure is what it was.
func TestFitIsExactWithoutNoise(t *testing.T) {
	want := Law{Fixed: 50 * time.Millisecond, Encode: 100 * time.Millisecond, Token: 4 * time.Millisecond, GainMax: 1.6, Exponent: 0.5}
	var all []Sample
	for _, tokens := range []float64{1, 0.4} { // of dense speech
		for _, seconds := range []float64{2, 10, 25, 40, 80} {
			s := Sample{Seconds: seconds, Tokens: tokens * tokensPerWindow * seconds / WindowSeconds, Beside: 1}
			for _, k := range []float64{1, 2, 3.5} {
				s.Beside = k
				s.Took = want.Typical(Job{Seconds: seconds, Speech: tokens}).Seconds() / want.gain(k) * k
				all = append(all, s)
			}
		}
	}
	all[5].Took *= 5 // a window that was decoded again and again
	got := Fit(all)
	near(t, "F", got.Fixed.Seconds(), 0.05, 0.02)
	near(t, "E", got.Encode.Seconds(), 0.1, 0.02)
	near(t, "D", got.Token.Seconds(), 0.004, 0.02)
	for _, k := range []float64{2, 3, 3.5} {
		near(t, "gain", got.gain(k), want.gain(k), 0.02)
	}
}

func TestFitOfLittle(t *testing.T) {
	if l := Fit(nil); l.Fixed+l.Encode+l.Token != 0 || l.GainMax != 1 {
		t.Errorf("of nothing: %+v", l)
	}
	one := Fit([]Sample{{Seconds: 5, Took: 2, Beside: 1}, {Seconds: 5, Took: 2, Beside: 1}, {Seconds: 5, Took: 4, Beside: 2}})
	near(t, "one length", one.Typical(Job{Seconds: 5, Speech: 1}).Seconds(), 2, 0.001)
	near(t, "no gain", one.Gain(2), 1, 0.02)
	// Two that share a card badly get less done than one.
	worse := Fit([]Sample{{Seconds: 5, Took: 2, Beside: 1}, {Seconds: 5, Took: 5, Beside: 2}})
	near(t, "a loss", worse.Gain(2), 0.8, 0.02)
}
