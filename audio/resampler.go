package audio

import "math"

// Resampling is a windowed sinc in polyphase form (Crochiere and Rabiner, Multirate Digital Signal
// Processing, 1983) with Kaiser's window (Kaiser, 1974; the formulas are those of Oppenheim and
// Schafer, Discrete-Time Signal Processing, 7.5.3).
const (
	// sincZeros is how many zero crossings the sinc has on each side, at the lower of both rates.
	sincZeros = 24
	// kaiserBeta gives about 70 dB of stop band.
	kaiserBeta = 6.76
	// rolloff puts the cut so far below the lower Nyquist frequency that what folds back stays in
	// the last 5 % of the band.
	rolloff = 0.95
	// phasesMax is how many phases are tabled; between them the taps are interpolated, which costs
	// an error of about -100 dB and only occurs at rates that share no factor with the output's.
	phasesMax = 512
)

// A resampler turns a stream of samples of one rate into one of another, with no delay: the first
// output is at the time of the first input.
type resampler struct {
	up, down int // output rate / input rate, in lowest terms
	phases   int // rows of bank, less the closing one
	taps     int
	bank     []float32 // (phases+1) rows of taps
	row      []float32 // taps of one output where they are interpolated

	in      []float32 // input that is still needed; in[0] is under the first tap of the next output
	phase   int       // position of the next output after its input sample, in 1/up
	inputs  int64
	outputs int64
}

// newResampler goes from a rate in Hz to SampleRate.
func newResampler(from int) *resampler {
	const to = SampleRate
	g := gcd(from, to)
	r := &resampler{up: to / g, down: from / g}
	cut := math.Min(1, float64(to)/float64(from)) // of the input's Nyquist frequency
	r.phases = r.up
	if r.up > phasesMax {
		// The sinc is stretched by 1/cut, and so much smoother from one input sample to the next.
		r.phases = max(32, int(phasesMax*cut))
	}
	half := int(math.Ceil(sincZeros / cut))
	r.taps = 2 * half
	r.bank = make([]float32, (r.phases+1)*r.taps)
	for p := 0; p <= r.phases; p++ {
		r.fillRow(r.bank[p*r.taps:(p+1)*r.taps], float64(p)/float64(r.phases), cut)
	}
	r.row = make([]float32, r.taps)
	r.in = make([]float32, half-1) // silence before the first sample
	return r
}

// fillRow computes the taps of an output that lies frac of a sample after its input sample.
func (r *resampler) fillRow(row []float32, frac, cut float64) {
	half := float64(r.taps / 2)
	sum := 0.0
	weights := make([]float64, len(row))
	for k := range weights {
		d := float64(k) - half + 1 - frac
		weights[k] = sinc(d*cut*rolloff) * kaiser(d/half)
		sum += weights[k]
	}
	// Each phase passes a constant unchanged; else the phases' differences would be heard as a tone.
	for k := range row {
		row[k] = float32(weights[k] / sum)
	}
}

// write takes input and appends the output that it completes to out.
func (r *resampler) write(out, x []float32) []float32 {
	r.in = append(r.in, x...)
	r.inputs += int64(len(x))
	return r.drain(out)
}

// flush appends what is left, so that the output is as long as the input.
func (r *resampler) flush(out []float32) []float32 {
	r.in = append(r.in, make([]float32, r.taps)...)
	have := len(out)
	want := (r.inputs*int64(r.up)+int64(r.down)-1)/int64(r.down) - r.outputs
	out = r.drain(out)
	return out[:min(len(out), have+int(max(want, 0)))]
}

func (r *resampler) drain(out []float32) []float32 {
	at := 0
	for at+r.taps <= len(r.in) {
		out = append(out, dot(r.in[at:at+r.taps], r.tapsAt(r.phase)))
		r.outputs++
		r.phase += r.down
		at += r.phase / r.up
		r.phase %= r.up
	}
	r.in = r.in[:copy(r.in, r.in[at:])]
	return out
}

// tapsAt returns the taps for an output phase/up of a sample after its input sample.
func (r *resampler) tapsAt(phase int) []float32 {
	if r.phases == r.up {
		return r.bank[phase*r.taps : (phase+1)*r.taps]
	}
	p := phase * r.phases / r.up
	w := float32(float64(phase*r.phases)/float64(r.up) - float64(p))
	a, b := r.bank[p*r.taps:(p+1)*r.taps], r.bank[(p+1)*r.taps:(p+2)*r.taps]
	for k := range r.row {
		r.row[k] = a[k] + w*(b[k]-a[k])
	}
	return r.row
}

// dot has four sums so that the additions don't wait for each other.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	for len(a) >= 4 && len(b) >= 4 {
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
		a, b = a[4:], b[4:]
	}
	for i := range min(len(a), len(b)) {
		s0 += a[i] * b[i]
	}
	return (s0 + s1) + (s2 + s3)
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiser is Kaiser's window at x within -1..1.
func kaiser(x float64) float64 {
	if x <= -1 || x >= 1 {
		return 0
	}
	return besselI0(kaiserBeta*math.Sqrt(1-x*x)) / besselI0(kaiserBeta)
}

// besselI0 is the modified Bessel function of the first kind and order zero, by its power series.
func besselI0(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= (x / (2 * k)) * (x / (2 * k))
		sum += term
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
