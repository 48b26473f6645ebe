package recording

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/scheduler"
)

// MeasuredLaw is how long a backend takes for a job of a model that it does alone: Fixed seconds, and PerSecond
// for each second of audio.
type MeasuredLaw struct {
	Model     string  `json:"model"`
	Fixed     float64 `json:"fixed_s"`
	PerSecond float64 `json:"per_second_s"`
	// From says where it comes from: "measured" from Jobs of its own jobs, else of other cards of the class, or of
	// what package gpu says of the class.
	From string `json:"from"`
	Jobs int    `json:"jobs"`
}

// Of is the time of a job of so many seconds of audio.
func (l MeasuredLaw) Of(audio float64) float64 { return l.Fixed + l.PerSecond*audio }

const (
	// lawJobs is how many answers with words a backend must have given for a model to have a law of its own.
	lawJobs = 10
	// lawSample bounds what is fitted, each so many-th of more.
	lawSample = 20_000
	// lawRounds of reweighting bring it to three digits; outliers beyond lawOutlier times the usual error count less.
	lawRounds  = 12
	lawOutlier = 2.5
	// sameLength is the relative spread of lengths below which they say nothing of what a second costs; then the law
	// has the shape that the scheduler begins with, 4 s of audio for what is fixed.
	sameLength = 0.05
	sameFixed  = 4.0
	// gainBetter is how much smaller the error must be for cards to be said to slow jobs down that are side by side.
	gainBetter = 0.97
)

// seen is a success.
type seen struct {
	audio, took float32
	beside      float32 // jobs that ran on the backend meanwhile, on average, itself included
}

// gains are what the most that jobs side by side get done together may be, in jobs' worth; 0: each is as fast as
// alone. See sim.Card.
var gains = []float64{0, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8}

// pace is how fast a job is that runs beside others, against alone: min(k^0.7, gain) / k, as package gpu has it.
func pace(beside, gain float64) float64 {
	if gain == 0 || beside <= 1 {
		return 1
	}
	return min(math.Pow(beside, 0.7), gain) / beside
}

// fitted is a law with its gain and the mean error of it.
type fitted struct {
	fixed, perSecond float64
	gain             float64
	off              float64 // mean of |log(measured / law)|
}

// fit finds the law and the gain that come closest to what was seen.
func fit(all []seen) fitted {
	if step := (len(all) + lawSample - 1) / lawSample; step > 1 {
		var some []seen
		for i := 0; i < len(all); i += step {
			some = append(some, all[i])
		}
		all = some
	}
	crowded := slices.ContainsFunc(all, func(s seen) bool { return s.beside > 1.2 })
	best := fitLaw(all, 0)
	for _, g := range gains[1:] {
		if !crowded {
			break
		}
		if f := fitLaw(all, g); f.off < best.off*gainBetter {
			best = f
		}
	}
	return best
}

// fitLaw is a line through times that have error in proportion to their length: least squares of the relative
// error, reweighted so that jobs which took far longer count less, and scaled so that measured / law is 1 on average.
func fitLaw(all []seen, gain float64) fitted {
	f := fitted{gain: gain}
	alone := make([]float64, len(all))
	audio, square, took := 0.0, 0.0, 0.0
	for i, s := range all {
		alone[i] = float64(s.took) * pace(float64(s.beside), gain)
		audio += float64(s.audio) / float64(len(all))
		took += alone[i] / float64(len(all))
	}
	for _, s := range all {
		square += (float64(s.audio) - audio) * (float64(s.audio) - audio) / float64(len(all))
	}
	f.perSecond = took / (audio + sameFixed)
	f.fixed = sameFixed * f.perSecond
	if math.Sqrt(square) > sameLength*audio {
		usual := math.Inf(1)
		for range lawRounds {
			f.line(all, alone, usual)
			usual = f.error(all, alone)
		}
	}
	ratio := 0.0
	for i, s := range all {
		ratio += alone[i] / f.of(s) / float64(len(all))
	}
	f.fixed, f.perSecond = f.fixed*ratio, f.perSecond*ratio
	f.off = f.error(all, alone)
	return f
}

func (f *fitted) of(s seen) float64 { return max(1e-6, f.fixed+f.perSecond*float64(s.audio)) }

// error is the mean of |log(measured / law)|.
func (f *fitted) error(all []seen, alone []float64) float64 {
	off := 0.0
	for i, s := range all {
		off += math.Abs(math.Log(max(alone[i], 1e-6)/f.of(s))) / float64(len(all))
	}
	return off
}

// line is one round: weighted least squares with the weights of the law so far. Neither part is negative.
func (f *fitted) line(all []seen, alone []float64, usual float64) {
	var w, wa, waa, wt, wat float64
	for i, s := range all {
		at := f.of(s)
		weight := 1 / (at * at)
		if off := math.Abs(math.Log(max(alone[i], 1e-6) / at)); off > lawOutlier*usual {
			weight *= lawOutlier * usual / off
		}
		a := float64(s.audio)
		w, wa, waa, wt, wat = w+weight, wa+weight*a, waa+weight*a*a, wt+weight*alone[i], wat+weight*a*alone[i]
	}
	f.perSecond = (w*wat - wa*wt) / (w*waa - wa*wa)
	f.fixed = (wt - f.perSecond*wa) / w
	switch {
	case f.perSecond < 0:
		f.perSecond, f.fixed = 0, wt/w
	case f.fixed < 0:
		f.fixed, f.perSecond = 0, wat/waa
	}
}

// laws finds laws for what was not measured.
type laws struct {
	measured []classLaw
	audio    float64 // mean length, at which laws are compared
}

type classLaw struct {
	MeasuredLaw
	class string
	prior scheduler.Law
}

// priorOf is what is expected of a class with a model before anything is measured.
func priorOf(class, model string) scheduler.Law {
	fixed, perSecond, _ := gpu.Prior(class, model)
	return scheduler.Law{Fixed: fixed, PerSecond: perSecond}
}

func priorFor(b scheduler.Backend, model string) scheduler.Law {
	if law, ok := b.Priors[model]; ok {
		return law
	}
	if b.Prior != (scheduler.Law{}) {
		return b.Prior
	}
	return priorOf(b.Class, model)
}

// of is the law of a card that has none of its own: the mean of those of the same class with the model; else what
// is expected of the class, times what the measured cards take on average of what is expected of them. False when
// nothing is known of the class.
func (l *laws) of(class, model string, prior scheduler.Law) (MeasuredLaw, bool) {
	out := MeasuredLaw{Model: model}
	n := 0
	for _, m := range l.measured {
		if class != "" && m.class == class && m.Model == model {
			out.Fixed, out.PerSecond, n = out.Fixed+m.Fixed, out.PerSecond+m.PerSecond, n+1
		}
	}
	if n > 0 {
		out.Fixed, out.PerSecond = out.Fixed/float64(n), out.PerSecond/float64(n)
		out.From = fmt.Sprintf("measured on %d other %s", n, class)
		return out, true
	}
	if prior == (scheduler.Law{}) {
		return out, false
	}
	name := class
	if name == "" {
		name = "its prior"
	}
	scale, ofModel := l.scale(model)
	out.From = "the law of " + name
	switch {
	case scale > 0 && ofModel:
		out.From += fmt.Sprintf(" x %.3g, as the measured cards with this model", scale)
	case scale > 0:
		out.From += fmt.Sprintf(" x %.3g, as the measured cards", scale)
	default:
		scale = 1
	}
	out.Fixed, out.PerSecond = scale*prior.Fixed.Seconds(), scale*prior.PerSecond.Seconds()
	return out, true
}

// scale is the median of measured / expected at the mean length: of the cards with the model, else of all; 0: there
// is none.
func (l *laws) scale(model string) (scale float64, ofModel bool) {
	var same, all []float64
	for _, m := range l.measured {
		expected := (m.prior.Fixed + time.Duration(float64(m.prior.PerSecond)*l.audio)).Seconds()
		if expected <= 0 {
			continue
		}
		ratio := m.Of(l.audio) / expected
		if all = append(all, ratio); m.Model == model {
			same = append(same, ratio)
		}
	}
	if len(same) > 0 {
		return median(same), true
	}
	return median(all), false
}

func median(xs []float64) float64 {
	n := len(xs)
	if n == 0 {
		return 0
	}
	slices.Sort(xs)
	return (xs[(n-1)/2] + xs[n/2]) / 2
}
