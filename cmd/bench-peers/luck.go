package main

import (
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
)

// bound finds the least mean that was possible for a run's jobs, with the luck that they had.
//
// How long a job takes has chance in it (see package gpu), so a run on lucky jobs would look well
// placed. The luck of a job is its time, as the answer told it, over the law's mean for its card and
// length. Answers tell of slightly different things (our proxy's include the way to the card), so
// all are scaled such that together they come to busy, the seconds for which the cards themselves say
// that they worked. Equal clips share the luck of all of them: nobody could know which of them takes
// longer.
func (r *run) bound(p pool, load bench.Load, result bench.Result, backends []*backend, busy, speedUp float64) {
	served := func(s []bench.Sample) []bench.Sample {
		return slices.DeleteFunc(slices.Clone(s), func(s bench.Sample) bool { return s.Class != bench.OK })
	}
	samples := served(result.Samples)
	if len(samples) == 0 {
		return
	}
	slices.SortFunc(samples, func(a, b bench.Sample) int { return a.Index - b.Index })
	luck := make([]float64, len(samples))
	var clips []float64
	var arrived []time.Duration
	told, typical := 0.0, 0.0 // of those that are counted
	for i, s := range samples {
		clips = append(clips, s.Seconds)
		arrived = append(arrived, max(0, s.At))
		luck[i] = 1
		if class := classOf(backends, s.Backend); class != "" && s.Service > 0 {
			expected := meanSeconds(class, s.Seconds) / speedUp
			luck[i] = s.Service.Seconds() / expected
			told, typical = told+s.Service.Seconds(), typical+expected
		}
	}
	toldAll := told
	for _, s := range served(result.Further) {
		toldAll += s.Service.Seconds()
	}
	r.Luck = 1
	scale := 1.0
	if told > 0 && busy > 0 {
		scale = busy / toldAll
		r.Luck = scale * told / typical
	}
	equal := !slices.ContainsFunc(clips, func(x float64) bool { return x != clips[0] })
	of := func(job int) float64 {
		if equal {
			return r.Luck
		}
		return luck[job] * scale
	}
	if b := bench.Bounds(load, p.kinds(clips, of, speedUp), arrived); b != nil {
		r.Bound = b.Mean
	}
}

// classOf is the class of the card that an answer names, by its name or by its instance; "" when
// it names none.
func classOf(backends []*backend, who string) string {
	for _, b := range backends {
		if who != "" && (who == b.name || who == b.instance) {
			return b.class
		}
	}
	return ""
}
