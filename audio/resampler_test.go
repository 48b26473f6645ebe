package audio

import (
	"context"
	"fmt"
	"math"
	"testing"
)

func resample(x []float32, from int) []float32 {
	r := newResampler(from)
	return r.flush(r.write(nil, x))
}

// component is the amplitude of a frequency in x, by correlation with its sine and cosine.
func component(x []float32, hz float64, rate int) float64 {
	var re, im, window float64
	for i, v := range x {
		w := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(len(x)))
		s, c := math.Sincos(2 * math.Pi * hz * float64(i) / float64(rate))
		re, im, window = re+w*float64(v)*c, im+w*float64(v)*s, window+w
	}
	return 2 * math.Hypot(re, im) / window
}

func TestResamplerKeepsTones(t *testing.T) {
	for _, rate := range []int{8000, 11025, 12000, 22050, 24000, 32000, 44100, 44099, 48000, 96000, 192000} {
		for _, hz := range []float64{100, 1000, 3000, 6000} {
			if hz > 0.4*float64(rate) {
				continue
			}
			y := resample(tone(hz, 1, rate), rate)
			if len(y) != SampleRate {
				t.Errorf("%d Hz: a second became %d samples", rate, len(y))
			}
			want := tone(hz, 1, SampleRate)
			inner := func(x []float32) []float32 { return x[800 : len(x)-800] }
			if a := component(inner(y), hz, SampleRate); math.Abs(a-0.5) > 0.005 {
				t.Errorf("%d Hz: a tone of %g Hz came out at amplitude %.4f instead of 0.5", rate, hz, a)
			}
			// Equal phase too: no delay, no drift.
			if snr := signalToNoise(inner(want), inner(y)); snr < 50 {
				t.Errorf("%d Hz: a tone of %g Hz came out with %.1f dB to the true one", rate, hz, snr)
			}
		}
	}
}

func TestResamplerSuppressesAliases(t *testing.T) {
	for _, c := range []struct {
		rate int
		hz   float64
	}{{48000, 15000}, {48000, 9000}, {48000, 20000}, {44100, 12000}, {44099, 12000}, {22050, 10000}, {96000, 40000}} {
		y := resample(tone(c.hz, 1, c.rate), c.rate)
		db := 20 * math.Log10(rms(y[800:len(y)-800])/rms(tone(c.hz, 1, c.rate)))
		t.Logf("%g Hz at %d Hz: %.1f dB", c.hz, c.rate, db)
		if db > -60 {
			t.Errorf("a tone of %g Hz at %d Hz is only %.1f dB down", c.hz, c.rate, db)
		}
	}
	// Upwards, the image of a tone is what must not appear.
	y := resample(tone(3000, 1, 8000), 8000)
	if image := component(y[800:len(y)-800], 5000, SampleRate); image > 0.5e-3 {
		t.Errorf("3 kHz at 8 kHz has an image of %.1f dB at 5 kHz", 20*math.Log10(image/0.5))
	}
}

func TestResamplerIsTheSameInPieces(t *testing.T) {
	for _, rate := range []int{8000, 44100, 44099, 48000} {
		x := speech(0.7, rate)
		whole := resample(x, rate)
		r := newResampler(rate)
		var y []float32
		for i, n := 0, 1; i < len(x); i, n = i+n, n*3%997+1 {
			y = r.write(y, x[i:min(i+n, len(x))])
		}
		y = r.flush(y)
		if len(y) != len(whole) {
			t.Fatalf("%d Hz: %d samples in pieces, %d at once", rate, len(y), len(whole))
		}
		for i := range y {
			if y[i] != whole[i] {
				t.Fatalf("%d Hz: sample %d differs in pieces", rate, i)
			}
		}
	}
}

func TestResamplerOfNearlyNothing(t *testing.T) {
	for _, rate := range []int{rateMin, 8000, 44100, 48000, rateMax - 1, rateMax} {
		for _, n := range []int{0, 1, 2, 5, 100} {
			y := resample(make([]float32, n), rate)
			if want := (n*SampleRate + rate - 1) / rate; len(y) != want {
				t.Errorf("%d samples at %d Hz became %d, not %d", n, rate, len(y), want)
			}
		}
	}
}

func TestSinkSurvivesNonsense(t *testing.T) {
	k := newSink(context.Background(), 0, 1)
	if err := k.start(48000); err != nil {
		t.Fatal(err)
	}
	x := tone(440, 0.2, 48000)
	x[100], x[200], x[300] = float32(math.NaN()), float32(math.Inf(1)), 1e30
	if err := k.mono(x); err != nil {
		t.Fatal(err)
	}
	for i, v := range k.samples() {
		if !(v >= -1 && v <= 1) {
			t.Fatalf("sample %d is %v", i, v)
		}
	}
}

func BenchmarkResampler(b *testing.B) {
	for _, rate := range []int{8000, 44100, 44099, 48000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			x := speech(10, rate)
			out := make([]float32, 0, 11*SampleRate)
			b.ResetTimer()
			for b.Loop() {
				r := newResampler(rate)
				r.flush(r.write(out[:0], x))
			}
			b.ReportMetric(10*float64(b.N)/b.Elapsed().Seconds(), "x-realtime")
		})
	}
}
