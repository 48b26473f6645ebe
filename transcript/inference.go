package transcript

import "math"

const (
	audioContextMax = 1500 // encoder positions of a 30 s window
	thresholdMax    = 1e6  // keeps thresholds well inside float32
	// segmentCharactersDefault is what whisper.cpp's server (server.cpp, max_len) takes for 0.
	segmentCharactersDefault = 60
)

// parseInference reads the fields of whisper.cpp's server. Like that server it ignores the model.
func (f *fields) parseInference(p *Params, limits Limits) {
	if limits.BeamSizeMax <= 0 {
		limits.BeamSizeMax = decodersMax
	}
	if limits.BestOfMax <= 0 {
		limits.BestOfMax = decodersMax
	}
	f.refuseMissingFeatures()
	p.Format = f.format()
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
	if p.MaxLen == 0 && p.TokenTimestamps { // whisper.cpp cuts segments only with token times
		p.MaxLen = segmentCharactersDefault
	}
	p.SplitOnWord = f.flag("split_on_word", false)
	p.SuppressNonSpeech = f.flag("suppress_nst", f.flag("suppress_non_speech", false))
	p.NoLanguageProbs = f.flag("no_language_probabilities", false)
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

// refuseMissingFeatures says so where a switch is turned on that does nothing here: a client that
// asks for speakers must not take their absence for the answer.
func (f *fields) refuseMissingFeatures() {
	for _, feature := range [...]struct{ name, why string }{
		{"vad", "this server doesn't cut silence out of the audio"},
		{"diarize", "this server doesn't tell speakers apart"},
		{"tinydiarize", "this server doesn't tell speakers apart"},
		{"carry_initial_prompt", "the prompt goes before the first window only"},
		{"debug_mode", "this server has no debug output for clients"},
		{"detect_language", "this server doesn't stop after detecting the language; send language=auto for a transcript with its language"},
	} {
		if f.flag(feature.name, false) {
			f.refuse(feature.name, codeUnsupported, "%s is not supported: %s. Leave the field out or send false.", feature.name, feature.why)
		}
	}
}
