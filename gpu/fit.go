package gpu

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Sample is one job that was measured.
type Sample struct {
	Seconds float64 // of audio
	Tokens  float64 // of the answer; 0: not known, then as many as English speech of that length has
	Took    float64 // seconds
	Beside  float64 // jobs that ran meanwhile, on average, itself included
}

// Speech is the sample's share of dense speech, as [Job] has it.
func (s Sample) Speech() float64 {
	if s.Tokens == 0 {
		return 1
	}
	return s.Tokens / tokensPerWindow * WindowSeconds / s.Seconds
}

// Off is measured / law: how much longer the job took than is typical.
func (l Law) Off(s Sample) float64 {
	alone := l.Typical(Job{Seconds: s.Seconds, Speech: s.Speech()}).Seconds()
	return s.Took * l.gain(s.Beside) / max(s.Beside, 1) / max(alone, 1e-9)
}

// GainOf is what the device got done while the job ran, as a multiple of what it does with one.
func (l Law) GainOf(s Sample) float64 { return l.gain(s.Beside) / max(l.Off(s), 1e-9) }

// Fit finds the law that comes closest to samples: what jobs take by those that were alone, what they
// gain side by side by all. Outliers, such as windows that were decoded twice, hardly count. What the
// samples leave open is 0: with one length only, there is nothing but the fixed part.
func Fit(samples []Sample) Law {
	var alone []Sample
	for _, s := range samples {
		if s.Beside < 1.05 {
			alone = append(alone, s)
		}
	}
	fixed, encode, token := fitAlone(alone)
	l := Law{Fixed: seconds(fixed), Encode: seconds(encode), Token: seconds(token), GainMax: 1}
	l.fitGain(samples)
	return l
}

func seconds(v float64) time.Duration { return time.Duration(v * float64(time.Second)) }

// terms are what F, E and D are multiplied with in [Law.Typical].
func (s Sample) terms() [3]float64 {
	j := Job{Seconds: s.Seconds, Speech: s.Speech()}
	windows := j.windows() * (1 + overlap/2)
	return [3]float64{1, windows, windows * tokensPerWindow * j.Speech * s.Seconds / WindowSeconds / j.windows()}
}

const (
	fitRounds  = 20  // of reweighting bring it to three digits
	fitOutlier = 0.5 // times the usual error: from there on a sample counts less. So low it is near the median: most errors are delays
)

// fitAlone is F, E and D, in seconds, by least squares of the relative error, reweighted so that
// outliers count in proportion to their error only (Huber's estimator).
func fitAlone(all []Sample) (fixed, encode, token float64) {
	if len(all) == 0 {
		return 0, 0, 0
	}
	weights := make([]float64, len(all))
	for i, s := range all {
		weights[i] = 1 / (s.Took * s.Took)
	}
	var c [3]float64
	offs := make([]float64, len(all))
	for range fitRounds {
		c = leastSquares(all, weights)
		for i, s := range all {
			offs[i] = math.Abs(s.Took/max(dot(c, s.terms()), 1e-9) - 1)
		}
		usual := max(median(offs)/0.6745, 1e-6) // of normal noise that is the standard deviation
		for i, s := range all {
			at := max(dot(c, s.terms()), 1e-9)
			weights[i] = 1 / (at * at) / max(1, offs[i]/(fitOutlier*usual))
		}
	}
	return c[0], c[1], c[2]
}

func dot(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// leastSquares solves for coefficients none of which is negative: of all choices of those that are
// not 0, the one with the least error.
func leastSquares(all []Sample, weights []float64) [3]float64 {
	var a [3][3]float64
	var b [3]float64
	for i, s := range all {
		t := s.terms()
		for r := range 3 {
			b[r] += weights[i] * t[r] * s.Took
			for c := range 3 {
				a[r][c] += weights[i] * t[r] * t[c]
			}
		}
	}
	var best [3]float64
	least := math.Inf(1)
	for choice := 1; choice < 8; choice++ {
		x, ok := solve(a, b, choice)
		if !ok || min(x[0], x[1], x[2]) < 0 {
			continue
		}
		square := 0.0
		for i, s := range all {
			d := s.Took - dot(x, s.terms())
			square += weights[i] * d * d
		}
		if square < least*(1-1e-9) { // of equals the simplest
			best, least = x, square
		}
	}
	return best
}

// solve solves the equations of the chosen coefficients, a bit each; the others are 0. ok is false
// where the samples do not tell them apart.
func solve(a [3][3]float64, b [3]float64, choice int) (x [3]float64, ok bool) {
	var m [][]float64
	var chosen []int
	for i := range 3 {
		if choice&(1<<i) != 0 {
			chosen = append(chosen, i)
		}
	}
	for _, r := range chosen {
		row := make([]float64, 0, 4)
		for _, c := range chosen {
			row = append(row, a[r][c]/math.Sqrt(a[r][r]*a[c][c]))
		}
		m = append(m, append(row, b[r]/math.Sqrt(a[r][r])))
	}
	n := len(m)
	for i := range n {
		if m[i][i] < 1e-6 { // scaled, so that 1 is a term of its own and 0 one that follows from others
			return x, false
		}
		for r := range n {
			if r == i {
				continue
			}
			f := m[r][i] / m[i][i]
			for c := i; c <= n; c++ {
				m[r][c] -= f * m[i][c]
			}
		}
	}
	for i, at := range chosen {
		x[at] = m[i][n] / m[i][i] / math.Sqrt(a[at][at])
	}
	return x, true
}

// gainBetter is how much smaller the error must be for a gain that is not of the usual shape.
const gainBetter = 0.9

// crowd is what jobs have in common that ran beside as many others.
type crowd struct {
	jobs   float64 // side by side, on average
	gain   float64 // that was measured: the median of the jobs
	weight float64 // how many jobs
}

// crowds sorts samples by how many were side by side, to a quarter of a job.
func (l Law) crowds(samples []Sample) []crowd {
	gains, jobs := map[int][]float64{}, map[int]float64{}
	for _, s := range samples {
		if s.Beside >= 1.05 {
			bin := int(math.Round(4 * s.Beside))
			gains[bin] = append(gains[bin], l.GainOf(s))
			jobs[bin] += s.Beside
		}
	}
	var all []crowd
	for bin, of := range gains {
		n := float64(len(of))
		beside := jobs[bin] / n
		all = append(all, crowd{beside, median(of), n * min(1, beside-1)}) // who was hardly ever disturbed tells little
	}
	slices.SortFunc(all, func(a, b crowd) int { return cmp.Compare(a.jobs, b.jobs) })
	return all
}

// fitGain finds how jobs side by side slow each other down, by trying: the usual shape first, another
// exponent or a knee where that is clearly closer. Beyond what was measured no more is expected.
func (l *Law) fitGain(samples []Sample) {
	all := l.crowds(samples)
	if len(all) == 0 {
		return
	}
	most := all[len(all)-1].jobs
	best, least := *l, math.Inf(1)
	try := func(exponent float64, knee int, margin float64) {
		c := *l
		c.Exponent, c.Knee = exponent, knee
		highest := math.Pow(most, exponent)
		for c.GainMax = min(0.1, highest); ; c.GainMax = min(c.GainMax*1.005, highest) {
			if e := c.error(all); e < least*margin {
				best, least = c, e
			}
			if c.GainMax >= highest {
				return
			}
		}
	}
	knees := []int{0}
	for _, c := range all[:len(all)-1] {
		if k := int(math.Round(c.jobs)); k > knees[len(knees)-1] {
			knees = append(knees, k)
		}
	}
	try(gainExponent, 0, 1)
	for _, exponent := range []float64{gainExponent, 1, 0.9, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1} {
		for _, knee := range knees {
			try(exponent, knee, gainBetter)
		}
	}
	best.GainMax = math.Round(best.GainMax*1000) / 1000
	if best.Exponent == gainExponent {
		best.Exponent = 0
	}
	*l = best
}

// error is the mean of |log(measured / law)|.
func (l Law) error(all []crowd) float64 {
	sum, weights := 0.0, 0.0
	for _, c := range all {
		sum += c.weight * math.Abs(math.Log(c.gain/l.gain(c.jobs)))
		weights += c.weight
	}
	return sum / weights
}
