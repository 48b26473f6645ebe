package whispercpp

import (
	"strings"

	"github.com/whisperpool/whisperpool/transcript"
)

// Modes of [Config].ShortClips.
const (
	ShortClipsAuto = "auto" // where measurements show that no word is lost
	ShortClipsOn   = "on"
	ShortClipsOff  = "off"
)

// A window is 30 s however little of it is sound, and encoding it is half of a short clip's work or
// more. An encoder with fewer positions does proportionally less and hears the same, as long as the
// clip fits with room to spare; with too little room the decoder loops.
const (
	// shortCtx is the context of the states for short clips. Under flash attention whisper.cpp reads
	// rows padded to a multiple of 256; with such a multiple there are none that hold something old.
	shortCtx = 768

	positionsPerSecond = 50  // of the encoder
	shortMargin        = 200 // positions that must be left over

	// shortWindowsMax bounds what a short pass may cost: with one window a clip is done, with a second
	// one it may be, and a third one is the sign of a decoder that does not get on.
	shortWindowsMax = 2
)

// shortMeasured lists for which models, by family, and on which devices the short path was measured
// to lose no word. It is empty until it was measured.
var shortMeasured = map[string]map[bool]bool{} // family -> on a GPU

// family is the kind of model by its sizes: "base", "base.en", "large", "turbo".
func (m Model) family() string {
	name := map[int]string{384: "tiny", 512: "base", 768: "small", 1024: "medium", 1280: "large"}[m.AudioState]
	switch {
	case name == "":
		return "unknown"
	case m.TextLayers < m.AudioLayers && m.TextLayers == 4 && name == "large":
		name = "turbo"
	case m.TextLayers < m.AudioLayers:
		name = "distil-" + name
	}
	if !m.Multilingual() {
		name += ".en"
	}
	return name
}

// shortClips tells whether a model on such a device has states for short clips.
func shortClips(mode string, m Model, gpu bool) bool {
	switch mode {
	case ShortClipsOn:
		return true
	case ShortClipsOff:
		return false
	}
	return shortMeasured[m.family()][gpu]
}

// goesShort tells whether all that the encoder may hear fits into a short state with room to spare.
func (o *options) goesShort() bool {
	return o.audioCtx == 0 && !o.detectOnly && o.reach*positionsPerSecond+shortMargin <= shortCtx
}

// firstPass is how a clip is tried on a short state: without a second try there, and given up as soon
// as it goes wrong, so that a clip never costs more than a short and a full run.
func (o *options) firstPass() *options {
	first := *o
	first.temperatureInc = 0
	first.shortPass = true
	return &first
}

// languageProbMin is how sure of a detected language a short pass must be. A wrong one gives sentences
// that nothing else shows to be wrong.
const languageProbMin = 0.5

// ratioMax is how much text may be compressible before it is taken for a loop (OpenAI's
// whisper/transcribe.py, compression_ratio_threshold).
const ratioMax = 2.4

// lateness is how far behind the end of the audio a timestamp may be, seconds.
const lateness = 1.0

// evidence is what a short pass is judged by, besides its text.
type evidence struct {
	speech  []int   // tokens, markers and timestamps left out
	last    float64 // latest timestamp, seconds
	logprob float64 // mean over all tokens
	capped  bool    // a sequence was as long as whisper.cpp lets it be
}

// distrust says why the result of a short pass cannot be trusted, or "".
func distrust(o *options, t transcript.Transcript, e evidence) string {
	var text strings.Builder
	for _, s := range t.Segments {
		text.WriteString(s.Text)
	}
	switch {
	case len(t.Segments) == 0:
		return "nothing was heard"
	case t.LanguageProbs != nil && t.LanguageProbs[t.Language] < languageProbMin:
		return "the language is in doubt"
	case e.capped:
		return "it did not end"
	case e.last > o.duration+lateness:
		return "it goes on behind the end of the audio"
	case e.logprob < o.logprobThold:
		return "it is improbable"
	case compressionRatio(text.String()) > ratioMax, repeats(e.speech):
		return "it repeats itself"
	}
	return ""
}

// Bounds of what repeats takes for a loop. People do say things twice.
const (
	repetitionsMin   = 3
	repeatedMin      = 12 // tokens in all
	repeatedUnitsMax = 40 // tokens of one
)

// repeats tells whether the same few tokens come over and over.
func repeats(tokens []int) bool {
	for unit := 1; unit <= min(repeatedUnitsMax, len(tokens)/repetitionsMin); unit++ {
		length := unit // of the stretch up to i that has this period
		for i := unit; i < len(tokens); i++ {
			if tokens[i] != tokens[i-unit] {
				length = unit
				continue
			}
			if length++; length >= max(repeatedMin, repetitionsMin*unit) {
				return true
			}
		}
	}
	return false
}
