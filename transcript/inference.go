package transcript

import (
	"math"
	"strings"
)

const (
	audioContextMax = 1500 // encoder positions of a 30 s window
	thresholdMax    = 1e6  // keeps thresholds well inside float32
	// segmentCharactersDefault is what whisper.cpp's server (server.cpp, max_len) takes for 0.
	segmentCharactersDefault = 60
)

// parseInference reads the fields of whisper.cpp's server. That server knows no model; who serves several
// may take it for a wish. debug_mode is ignored: it is for that server's own log.
func (f *fields) parseInference(p *Params, limits Limits) {
	if limits.BeamSizeMax <= 0 {
		limits.BeamSizeMax = decodersMax
	}
	if limits.BestOfMax <= 0 {
		limits.BestOfMax = decodersMax
	}
	p.Model = strings.TrimSpace(f.text("model"))
	p.Format = f.inferenceFormat()
	p.Language = f.inferenceLanguage()
	if f.flag("translate", false) {
		p.Task = Translate
	}
	p.Prompt = lastBytes(f.text("prompt"), PromptBytesMax)

	p.Temperature, _ = f.number("temperature", 0, 1)
	p.TemperatureInc = f.temperatureInc()
	p.BestOf, _ = f.integer("best_of", 0, limits.BestOfMax)
	if beams, given := f.integer("beam_size", -1, limits.BeamSizeMax); given { // -1 is that server's own default
		p.BeamSize = max(beams, 0)
	}
	p.EntropyThold = f.optional("entropy_thold", -thresholdMax, thresholdMax)
	p.LogprobThold = f.optional("logprob_thold", -thresholdMax, thresholdMax)
	p.NoSpeechThold = f.optional("no_speech_thold", -thresholdMax, thresholdMax)
	p.WordThold = f.optional("word_thold", -thresholdMax, thresholdMax)

	p.OffsetMS, _ = f.integer("offset_t", 0, math.MaxInt32)
	p.OffsetN, _ = f.integer("offset_n", 0, math.MaxInt32)
	p.DurationMS, _ = f.integer("duration", 0, math.MaxInt32)
	if tokens, given := f.integer("max_context", -1, math.MaxInt32); given && tokens >= 0 {
		p.MaxContext = &tokens
	}
	p.AudioCtx, _ = f.integer("audio_ctx", 0, audioContextMax)

	p.NoTimestamps = f.flag("no_timestamps", false)
	p.TokenTimestamps = f.flag("token_timestamps", !p.NoTimestamps)
	p.Words = p.Format == VerboseJSON && p.TokenTimestamps && !p.NoTimestamps
	p.MaxLen, _ = f.integer("max_len", 0, math.MaxInt32)
	switch {
	case !p.TokenTimestamps:
		p.MaxLen = 0 // whisper.cpp cuts segments only with token times
	case p.MaxLen == 0:
		p.MaxLen = segmentCharactersDefault
	}
	p.SplitOnWord = f.flag("split_on_word", false)
	p.SuppressNonSpeech = f.flag("suppress_nst", f.flag("suppress_non_speech", false))
	p.NoLanguageProbs = f.flag("no_language_probabilities", false)
	p.CarryPrompt = f.flag("carry_initial_prompt", false)
	p.Diarize = f.flag("diarize", false)
	p.TinyDiarize = f.flag("tinydiarize", false)
	if p.DetectOnly = f.flag("detect_language", false); p.DetectOnly {
		p.Language = ""
	}
	f.inferenceVAD(&p.VAD)
}

// inferenceFormat is JSON also for what that server does not know.
func (f *fields) inferenceFormat() Format {
	switch format := Format(strings.TrimSpace(f.text("response_format"))); format {
	case Text, SRT, VTT, VerboseJSON:
		return format
	}
	return JSON
}

// What a stretch of speech or a pause may be told to last at the least.
const (
	vadMSMax      = 60_000
	vadOverlapMax = 60   // seconds
	vadSpeechMax  = 1e9  // seconds, 30 years
	noLimit       = 1e39 // that server's default for it is the largest float of 32 bits
)

func (f *fields) inferenceVAD(v *VAD) {
	if len(f.form["vad"]) > 0 {
		on := f.flag("vad", false)
		v.On = &on
	}
	v.Threshold = f.optional("vad_threshold", 0, 1)
	v.MinSpeechMS = f.milliseconds("vad_min_speech_duration_ms")
	v.MinSilenceMS = f.milliseconds("vad_min_silence_duration_ms")
	if v.MaxSpeechS = f.optional("vad_max_speech_duration_s", 0, noLimit); v.MaxSpeechS != nil {
		*v.MaxSpeechS = min(*v.MaxSpeechS, vadSpeechMax)
	}
	v.SpeechPadMS = f.milliseconds("vad_speech_pad_ms")
	v.Overlap = f.optional("vad_samples_overlap", 0, vadOverlapMax)
}

// milliseconds may be written with a fraction, which is dropped.
func (f *fields) milliseconds(name string) *int {
	value, given := f.number(name, 0, vadMSMax)
	if !given {
		return nil
	}
	ms := int(value)
	return &ms
}

// inferenceLanguage is English unless the client says otherwise, as in whisper.cpp's server, for
// which an empty language means detect.
func (f *fields) inferenceLanguage() string {
	if len(f.form["language"]) == 0 {
		return "en"
	}
	return f.language(f.text("language"))
}

// temperatureInc refuses steps so small that the fallback would never end.
func (f *fields) temperatureInc() *float64 {
	step := f.optional("temperature_inc", 0, 1)
	if step != nil && *step > 0 && *step < 0.1 {
		f.refuse("temperature_inc", codeInvalid, "temperature_inc is %v; send 0 for no fallback or a number from 0.1 to 1.", *step)
	}
	return step
}
