package backend

import (
	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/transcript"
)

// span is a part of a recording in samples, from included, to not.
type span struct{ from, to int }

func (s span) length() int { return s.to - s.from }

// stretch is what is kept of a recording, and in it the speech, with silence around.
type stretch struct{ kept, speech span }

// vadRules say what is speech; all but the threshold are numbers of samples.
type vadRules struct {
	threshold  float32 // probability from which a window is speech
	minSpeech  int     // what is shorter is noise
	minSilence int     // what is shorter is a pause within speech
	maxSpeech  int     // what is longer is cut, at a pause if there is one; 0: no limit
	pad        int     // silence that is kept before and behind each stretch
}

// Samples that belong to no rule of a client's: as Silero's authors and whisper.cpp have them.
const (
	vadHysteresis   = 0.15                         // speech ends where it is less likely than the threshold by this
	vadSilenceLeast = 0.01                         // but nothing ends at less than that
	vadCutPause     = 98 * audio.SampleRate / 1000 // the pause at which overlong speech is cut
	vadMergeGap     = audio.SampleRate / 5         // stretches nearer to each other than that are one
)

// rulesOf fills in whisper.cpp's defaults for clients of its own API. Others cannot choose, so they get some that
// lose fewer words: 30 ms cut the first word off a recording that begins with it, and 250 ms is longer than "no".
func rulesOf(api transcript.API, v transcript.VAD) vadRules {
	const perMS = audio.SampleRate / 1000
	r := vadRules{threshold: 0.5, minSpeech: 100 * perMS, minSilence: 100 * perMS, pad: 100 * perMS}
	if api == transcript.WhisperServer {
		r.minSpeech, r.pad = 250*perMS, 30*perMS
	}
	if v.Threshold != nil {
		r.threshold = float32(*v.Threshold)
	}
	for into, ms := range map[*int]*int{&r.minSpeech: v.MinSpeechMS, &r.minSilence: v.MinSilenceMS, &r.pad: v.SpeechPadMS} {
		if ms != nil {
			*into = *ms * perMS
		}
	}
	const longest = 100000 // seconds: from here on whisper.cpp sees no limit
	if v.MaxSpeechS != nil && *v.MaxSpeechS <= longest {
		r.maxSpeech = max(0, int(*v.MaxSpeechS)*audio.SampleRate-SpeechWindow-2*r.pad)
	}
	return r
}

// overlapOf is by how many samples each stretch of speech goes on into the silence behind it.
func overlapOf(v transcript.VAD) int {
	const usual = 0.1 // seconds, as in whisper.cpp
	if v.Overlap == nil {
		return usual * audio.SampleRate
	}
	return int(*v.Overlap * audio.SampleRate)
}

// stretches finds out of the probability of speech of each window where somebody speaks: in order, not
// overlapping. They are those that whisper.cpp 1.9.1 finds; the last may reach beyond the end by less than a window.
func stretches(likely []float32, r vadRules) []stretch {
	h := hearing{rules: r}
	for i, p := range likely {
		h.window(i*SpeechWindow, p)
	}
	end := len(likely) * SpeechWindow
	if h.speaking && end-h.start > r.minSpeech {
		h.found = append(h.found, span{h.start, end})
	}
	return padded(merged(h.found, r.minSpeech), r.pad, end)
}

// hearing goes through a recording window by window.
type hearing struct {
	rules vadRules
	found []span

	speaking bool
	start    int // of the speech that is on
	pause    int // where its present pause began; 0: there is none
	cutEnd   int // where speech ended before its latest pause that is long enough to cut at; 0: none was
	cutStart int // and where it went on after that; before cutEnd: not yet
}

// window hears the window that begins at a sample.
func (h *hearing) window(at int, p float32) {
	speech := p >= h.rules.threshold
	if speech && h.pause > 0 {
		h.pause = 0
		if h.cutStart < h.cutEnd {
			h.cutStart = at
		}
	}
	if speech && !h.speaking {
		h.speaking, h.start = true, at
		return
	}
	if h.speaking && h.rules.maxSpeech > 0 && at-h.start > h.rules.maxSpeech && !h.cut(at) {
		return
	}
	if h.speaking && p < max(h.rules.threshold-vadHysteresis, vadSilenceLeast) {
		h.silent(at)
	}
}

// cut ends speech that goes on for too long, and tells whether the window at hand still belongs to some.
func (h *hearing) cut(at int) bool {
	switch {
	case h.cutEnd == 0:
		h.end(at)
		return false
	case h.cutStart < h.cutEnd:
		h.end(h.cutEnd)
	default:
		h.found = append(h.found, span{h.start, h.cutEnd})
		h.start = h.cutStart
		h.pause, h.cutEnd, h.cutStart = 0, 0, 0
	}
	return true
}

// silent hears silence within speech.
func (h *hearing) silent(at int) {
	if h.pause == 0 {
		h.pause = at
	}
	if at-h.pause > vadCutPause {
		h.cutEnd = h.pause
	}
	if at-h.pause < h.rules.minSilence {
		return
	}
	if h.pause-h.start > h.rules.minSpeech {
		h.end(h.pause)
		return
	}
	*h = hearing{rules: h.rules, found: h.found}
}

func (h *hearing) end(at int) {
	*h = hearing{rules: h.rules, found: append(h.found, span{h.start, at})}
}

// merged makes one of stretches that almost touch, and drops those that are too short still.
func merged(found []span, minSpeech int) []span {
	var all []span
	for _, s := range found {
		if n := len(all); n > 0 && s.from-all[n-1].to < vadMergeGap {
			all[n-1].to = s.to
			continue
		}
		all = append(all, s)
	}
	kept := all[:0]
	for _, s := range all {
		if s.length() >= minSpeech {
			kept = append(kept, s)
		}
	}
	return kept
}

// padded adds silence to both ends of each stretch, at most half of what is between two, and rounds to hundredths
// of a second, in which whisper.cpp counts.
func padded(speech []span, pad, end int) []stretch {
	all := make([]stretch, len(speech))
	share := 0 // of what is before
	for i, s := range speech {
		kept := span{s.from - share, min(end, s.to+pad)}
		if i == 0 {
			kept.from = max(0, s.from-pad)
		}
		if i+1 < len(speech) {
			share = min(pad, (speech[i+1].from-s.to)/2)
			kept.to = s.to + share
		}
		all[i] = stretch{kept: span{hundredths(kept.from), hundredths(kept.to)}, speech: s}
	}
	return all
}

// hundredths rounds to a multiple of a hundredth of a second.
func hundredths(samples int) int {
	const one = audio.SampleRate / 100
	return (samples + one/2) / one * one
}
