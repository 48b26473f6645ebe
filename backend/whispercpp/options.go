package whispercpp

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/transcript"
)

// SampleRate is the only rate that whisper takes, in samples a second.
const SampleRate = 16000

const (
	samplesMin = SampleRate / 10        // whisper.cpp does nothing with less than 100 ms
	samplesMax = 24 * 3600 * SampleRate // whisper.cpp counts samples in 32 bits
	sampleMax  = 1e6                    // full scale is 1; the spectrum of very much more overflows to NaN

	// temperatureIncMin bounds the steps in which whisper.cpp goes up to temperature 1: tiny ones
	// never get there.
	temperatureIncMin = 0.1
)

// Codes of the refusals, the same as transcript's.
const (
	codeInvalid     = "invalid_value"
	codeUnsupported = "unsupported_value"
)

// options is what one run is asked for, all of it checked and within what whisper.cpp can take.
type options struct {
	task                 transcript.Task
	language             string // "" means detect; else a code that the model knows
	prompt               string
	offsetMS, durationMS int // within the audio; a durationMS of 0 means to its end
	maxContext           int // tokens; -1: the library's default
	maxLen               int // characters a segment; 0: no limit
	splitOnWord          bool
	audioCtx             int // encoder positions; 0: all
	beamSize, bestOf     int // both at least 1
	temperature          float64
	temperatureInc       float64
	entropyThold         float64
	logprobThold         float64
	noSpeechThold        float64
	wordThold            float64
	noTimestamps         bool
	words                bool // words with their times are wanted
	asServer             bool // the answer is to be as whisper.cpp's server gives it,
	tokenWords           bool // with the tokens of each segment for its words, whether they have times or not
	suppressNonSpeech    bool
	carryPrompt          bool
	tinyDiarize          bool
	detectOnly           bool    // the language is all that is wanted
	languageProbs        bool    // what the language might be is wanted too
	duration             float64 // of the whole audio, seconds
	reach                float64 // from the offset to the end of the audio, seconds: what the encoder may hear
	nothingToDo          bool    // too short for whisper: the answer is empty
	shortPass            bool    // a first try on a short state, to be given up as soon as it goes wrong
}

// tokenTimes tells whether tokens need times: for words, and to cut segments at maxLen.
func (o *options) tokenTimes() bool { return o.words || o.maxLen > 0 }

// limits is what an engine and its model allow, and its defaults.
type limits struct {
	id               string
	model            Model
	languages        map[string]bool
	languageCodes    []string // by whisper's number
	beamSize, bestOf int
	maxDecoders      int
}

// newOptions checks a request for so many samples again, whoever checked it before: given what is
// refused here, whisper.cpp reads out of bounds, loops for ever or answers with the words of an
// earlier request.
func newOptions(p transcript.Params, samples int, l limits) (*options, *transcript.Error) {
	o := &options{
		task: p.Task, prompt: cleanPrompt(p.Prompt), maxContext: -1, maxLen: p.MaxLen, splitOnWord: p.SplitOnWord,
		audioCtx: p.AudioCtx, temperature: p.Temperature, noTimestamps: p.NoTimestamps, words: p.Words,
		suppressNonSpeech: p.SuppressNonSpeech, duration: float64(samples) / SampleRate,
		carryPrompt: p.CarryPrompt, tinyDiarize: p.TinyDiarize, detectOnly: p.DetectOnly,
		asServer: p.API == transcript.WhisperServer,
	}
	o.tokenWords = o.asServer && (p.Words || p.Format == transcript.VerboseJSON)
	o.languageProbs = o.asServer && p.Format == transcript.VerboseJSON && !p.NoLanguageProbs
	if samples > samplesMax {
		return nil, transcript.Invalid("file", "audio_too_long", "The audio is %.1f hours long; at most 24 are taken: cut it into pieces.", o.duration/3600)
	}
	for _, check := range []func(transcript.Params, limits) *transcript.Error{
		o.setLanguage, o.setTemperatures, o.setDecoders, o.setThresholds, o.setRanges, o.checkTinyDiarize,
	} {
		if refusal := check(p, l); refusal != nil {
			return nil, refusal
		}
	}
	o.setWindow(p, samples)
	return o, nil
}

func (o *options) setLanguage(p transcript.Params, l limits) *transcript.Error {
	if o.task == "" {
		o.task = transcript.Transcribe
	}
	o.language = p.Language
	if o.detectOnly {
		o.language = ""
	}
	if !l.model.Multilingual() {
		if o.task == transcript.Translate {
			return transcript.Invalid("model", codeUnsupported, "The model %s knows only English and cannot translate; ask for a multilingual model.", l.id)
		}
		if o.language != "" && o.language != "en" {
			return transcript.Invalid("language", codeUnsupported, "The model %s knows only English, not %q; ask for a multilingual model or leave language out.", l.id, p.Language)
		}
		o.language = "en" // detection on an English model yields nonsense
		return nil
	}
	if o.language != "" && !l.languages[o.language] {
		return transcript.Invalid("language", codeInvalid, "The model %s does not know the language %q; send a code such as en, de or zh, or leave language out to have it detected.", l.id, p.Language)
	}
	return nil
}

func (o *options) setTemperatures(p transcript.Params, _ limits) *transcript.Error {
	if !(o.temperature >= 0 && o.temperature <= 1) { // so that NaN is refused too
		return transcript.Invalid("temperature", codeInvalid, "temperature is %v; send a number from 0 to 1.", p.Temperature)
	}
	o.temperatureInc = 0.2 // whisper.cpp's default, and OpenAI's
	if p.TemperatureInc != nil {
		o.temperatureInc = *p.TemperatureInc
	}
	if inc := o.temperatureInc; inc != 0 && !(inc >= temperatureIncMin && inc <= 1) {
		return transcript.Invalid("temperature_inc", codeInvalid, "temperature_inc is %v; send 0 for no fallback or a number from %v to 1.", inc, temperatureIncMin)
	}
	return nil
}

func (o *options) setDecoders(p transcript.Params, l limits) *transcript.Error {
	choose := func(asked, byDefault int) int {
		if asked == 0 {
			asked = byDefault
		}
		return max(asked, 1)
	}
	for _, field := range []struct {
		name  string
		value int
	}{{"beam_size", p.BeamSize}, {"best_of", p.BestOf}} {
		if field.value < 0 || field.value > l.maxDecoders {
			return transcript.Invalid(field.name, codeInvalid, "%s is %d; send a number from 1 to %d.", field.name, field.value, l.maxDecoders)
		}
	}
	o.beamSize, o.bestOf = choose(p.BeamSize, l.beamSize), choose(p.BestOf, l.bestOf)
	return nil
}

func (o *options) setThresholds(p transcript.Params, _ limits) *transcript.Error {
	for _, field := range []struct {
		name      string
		into      *float64
		given     *float64
		byDefault float64 // whisper.cpp's
	}{
		{"entropy_thold", &o.entropyThold, p.EntropyThold, 2.4},
		{"logprob_thold", &o.logprobThold, p.LogprobThold, -1},
		{"no_speech_thold", &o.noSpeechThold, p.NoSpeechThold, 0.6},
		{"word_thold", &o.wordThold, p.WordThold, 0.01},
	} {
		*field.into = field.byDefault
		if field.given == nil {
			continue
		}
		if math.IsNaN(*field.given) || math.Abs(*field.given) > math.MaxFloat32 {
			return transcript.Invalid(field.name, codeInvalid, "%s is %v; send a finite number.", field.name, *field.given)
		}
		*field.into = *field.given
	}
	return nil
}

func (o *options) setRanges(p transcript.Params, l limits) *transcript.Error {
	for _, field := range []struct {
		name       string
		value, max int
	}{
		{"offset_t", p.OffsetMS, math.MaxInt32}, {"duration", p.DurationMS, math.MaxInt32},
		{"max_len", p.MaxLen, math.MaxInt32}, {"audio_ctx", p.AudioCtx, l.model.AudioCtx},
	} {
		if field.value < 0 || field.value > field.max {
			return transcript.Invalid(field.name, codeInvalid, "%s is %d; send a number from 0 to %d.", field.name, field.value, field.max)
		}
	}
	if o.audioCtx == l.model.AudioCtx {
		o.audioCtx = 0 // the same, but needs no state of its own
	}
	if p.MaxContext != nil && *p.MaxContext >= 0 {
		o.maxContext = min(*p.MaxContext, l.model.TextCtx)
	}
	if o.maxContext == 1 {
		o.carryPrompt = false // whisper.cpp would take -1 tokens of what was said before
	}
	return nil
}

// checkTinyDiarize refuses what whisper.cpp would do without a word and without effect: the marker of
// a speaker's turn was taught to English models only. Which of them cannot be told from the file.
func (o *options) checkTinyDiarize(p transcript.Params, l limits) *transcript.Error {
	if o.tinyDiarize && l.model.Multilingual() {
		return transcript.Invalid("tinydiarize", codeUnsupported, "The model %s was not trained to mark where the speaker changes; load one that was (small.en-tdrz) or leave tinydiarize out.", l.id)
	}
	return nil
}

// setWindow keeps the part to work on within the audio: whisper.cpp would go on through as many
// windows of nothing as the duration asks for.
func (o *options) setWindow(p transcript.Params, samples int) {
	length := samples / (SampleRate / 1000)
	o.offsetMS = min(p.OffsetMS, length)
	left := length - o.offsetMS
	if p.DurationMS > 0 && p.DurationMS < left {
		o.durationMS = p.DurationMS
		left = p.DurationMS
	}
	o.reach = float64(length-o.offsetMS) / 1000
	o.nothingToDo = samples < samplesMin || left < 1000*samplesMin/SampleRate
}

// knownAnswer is the answer where whisper.cpp need not be asked.
func (o *options) knownAnswer() (transcript.Transcript, bool) {
	t := transcript.Transcript{Task: o.task, Language: o.language, Duration: o.duration}
	if o.language == "en" && o.detectOnly { // an English-only model
		t.LanguageProbs = map[string]float64{"en": 1}
		return t, true
	}
	return t, o.nothingToDo
}

// cleanPrompt keeps the end of a prompt, since whisper.cpp's tokenizer recurses for every character
// and overflows the stack on long ones; and takes out what a C string cannot hold.
func cleanPrompt(prompt string) string {
	prompt = strings.ToValidUTF8(strings.ReplaceAll(prompt, "\x00", ""), "")
	if over := len(prompt) - transcript.PromptBytesMax; over > 0 {
		prompt = prompt[over:]
		for len(prompt) > 0 && !utf8.RuneStart(prompt[0]) {
			prompt = prompt[1:]
		}
	}
	return prompt
}

// checkSamples refuses samples that are no sound: one NaN makes all of whisper's numbers NaN.
func checkSamples(samples []float32) *transcript.Error {
	for i, s := range samples {
		if !(s >= -sampleMax && s <= sampleMax) {
			return transcript.Invalid("file", "invalid_audio", "The audio is damaged: at %.3f s it has the value %v.", float64(i)/SampleRate, s)
		}
	}
	return nil
}
