package gpu

import (
	"math"
	"math/rand/v2"
	"time"
)

// Law is how long a model takes on a class of GPU, by the formula
//
//	t = F + W * (E + n * D)
//
// with W windows of 30 s and n tokens in each, for greedy decoding with flash attention. The
// formula is how whisper.cpp works (one run of the encoder a window, one of the decoder a token);
// where its figures come from is told at the table.
type Law struct {
	Fixed  time.Duration // F: of every job
	Encode time.Duration // E: of every window
	Token  time.Duration // D: of every token, at greedy decoding

	GainMax  float64 // most that jobs side by side can do together, as a multiple of one job
	Exponent float64 // by which the total rises until then; 0: 0.7
	Knee     int     // jobs side by side beyond which the total falls again; 0: not known to fall
}

// What the formula is fed with. But for the first, which is whisper's own, all are estimates; that
// of beams is what whisper.cpp's author measured for 5 beams on a V100 with large-v2 (10.8 ms a
// token instead of 7.6).
const (
	WindowSeconds   = 30.0 // audio that one run of the encoder covers
	tokensPerWindow = 110  // in a window full of English speech
	overlap         = 0.2  // a window moves by its last timestamp, so up to this share more of them
	tailShare       = 0.035
	tailMin         = 2.0 // a window that falls back to higher temperatures is decoded 2 to 6 times
	tailMax         = 6.0
	sigma           = 0.15  // of the lognormal noise of the whole
	beamCost        = 0.1   // each beam beyond the first: 5 beams cost 1.4 times a greedy token
	silentBelow     = 0.100 // seconds: whisper.cpp answers shorter audio at once, without words
	gainExponent    = 0.7
)

// Job is what the law wants to know of a job.
type Job struct {
	Seconds float64 // of audio
	Speech  float64 // share of the audio that is speech, 0..1
	Detect  bool    // the language is to be found out, which costs one more run of the encoder
	Beams   int     // of beam search; 0 and 1: greedy
}

// windows is the least number of windows that cover the audio.
func (j Job) windows() float64 { return max(1, math.Ceil(j.Seconds/WindowSeconds)) }

// window is the time of one window of the job: E + n * D.
func (l Law) window(j Job) float64 {
	tokens := tokensPerWindow * j.Speech * j.Seconds / WindowSeconds / j.windows()
	beams := 1 + beamCost*float64(max(j.Beams, 1)-1)
	return float64(l.Encode) + tokens*beams*float64(l.Token)
}

// fixed is the time that does not depend on the number of windows.
func (l Law) fixed(j Job) float64 {
	if j.Detect {
		return float64(l.Fixed + l.Encode)
	}
	return float64(l.Fixed)
}

// Typical is the time that a job takes alone on the GPU, without noise and without fallbacks.
func (l Law) Typical(j Job) time.Duration {
	if j.Seconds < silentBelow {
		return 0
	}
	return time.Duration(l.fixed(j) + j.windows()*(1+overlap/2)*l.window(j))
}

// Mean is the time that a job takes alone on the GPU on average over [Law.Draw]: what is typical, and
// the windows that are decoded again.
func (l Law) Mean(j Job) time.Duration {
	if j.Seconds < silentBelow {
		return 0
	}
	again := 1 + tailShare*((tailMin+tailMax)/2-1)
	return time.Duration(l.fixed(j) + j.windows()*(1+overlap/2)*again*l.window(j))
}

// Draw is the time that one job takes alone on the GPU, with the chance that is in real ones:
// overlapping windows, fallbacks, noise. All of it comes from rng.
func (l Law) Draw(j Job, rng *rand.Rand) time.Duration {
	if j.Seconds < silentBelow {
		return 0
	}
	passes := 0.0
	for left := j.windows() * (1 + overlap*rng.Float64()); left > 0; left-- {
		cost := 1.0
		if rng.Float64() < tailShare {
			cost = tailMin + (tailMax-tailMin)*rng.Float64()
		}
		passes += cost * min(left, 1)
	}
	noise := math.Exp(sigma*rng.NormFloat64() - sigma*sigma/2) // of mean 1
	return time.Duration((l.fixed(j) + passes*l.window(j)) * noise)
}

// Gain is what k jobs side by side get done together, as a multiple of one job alone:
//
//	g(k) = min(k^0.7, GainMax) * (1 - 0.02 * max(0, k - Knee))
//
// with Exponent in place of 0.7 where a card was measured.
// The falling part ends at a tenth, where the formula was not meant to reach. All of it is an
// estimate from what the users of several servers report.
func (l Law) Gain(k int) float64 { return l.gain(float64(k)) }

// gain is Gain for a mean number of jobs.
func (l Law) gain(k float64) float64 {
	if k <= 1 {
		return 1
	}
	exponent := l.Exponent
	if exponent == 0 {
		exponent = gainExponent
	}
	gain := min(math.Pow(k, exponent), l.GainMax)
	if knee := float64(l.Knee); knee > 0 && k > knee {
		gain *= max(0.1, 1-0.02*(k-knee))
	}
	return gain
}

// Pace is how fast each of k jobs side by side runs, compared with a job alone: Gain(k) / k.
func (l Law) Pace(k int) float64 { return l.Gain(k) / float64(max(k, 1)) }

// Prior is the line that comes closest to what a model takes on a class of GPU alone, for speech
// in a language that is given: fixed + perSecond * seconds of audio. It is where a scheduler starts
// from. ok is false when no law is known, then a scheduler has to learn from nothing.
//
// The steps of whole windows are evened out by half a window in the fixed part; fallbacks are left
// out, since speeds are learned robustly against them.
func Prior(class, model string) (fixed, perSecond time.Duration, ok bool) {
	law, ok := LawOf(class, model)
	if !ok {
		return 0, 0, false
	}
	fixed, perSecond = law.Line(1)
	return fixed, perSecond, true
}

// Line is the line that comes closest to Typical, for audio that is speech to that share.
func (l Law) Line(speech float64) (fixed, perSecond time.Duration) {
	full := l.window(Job{Seconds: WindowSeconds, Speech: speech})
	fixed = l.Fixed + time.Duration((1+overlap/2)*float64(l.Encode)/2)
	perSecond = time.Duration((1 + overlap/2) * full / WindowSeconds)
	return fixed, perSecond
}
