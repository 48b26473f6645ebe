package transcript

import "strings"

// Limits bounds what a form may ask for.
type Limits struct {
	BeamSizeMax int // largest beam_size; 0: 8
	BestOfMax   int // largest best_of; 0: 8
}

// decodersMax is the default of both limits and whisper.cpp's own bound (WHISPER_MAX_DECODERS).
const decodersMax = 8

// PromptBytesMax is how much of a prompt is kept: its end, cut at a rune boundary. Whisper reads
// 223 tokens of it, and whisper.cpp's recursive tokenizer overflows its stack on very long ones.
const PromptBytesMax = 2 << 10

// Codes of the refusals, in OpenAI's words where it has one.
const (
	codeMissing          = "missing_required_parameter"
	codeInvalid          = "invalid_value"
	codeUnsupportedValue = "unsupported_value"
	codeUnsupported      = "unsupported_parameter"
	codeTooMany          = "too_many_values"
	codeTooLong          = "string_above_max_length"
	codeEncoding         = "invalid_utf8"
)

// MeansDefault tells whether a model name stands for the server's default model: the names of
// OpenAI's hosted models, which clients hard-code, and the empty one.
func MeansDefault(model string) bool {
	switch model {
	case "", "whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe",
		"gpt-4o-mini-transcribe-2025-12-15":
		return true
	}
	return false
}

// ParseForm reads and validates the fields of a request, all but the audio. The error names the
// field, what was sent and what is allowed. Fields that the dialect does not know are ignored, as
// the servers that define it do; fields it knows and this server can't honour are refused.
func ParseForm(api API, task Task, form map[string][]string, limits Limits) (Params, *Error) {
	f := &fields{form: form}
	f.checkSizes()
	p := Params{API: api, Task: task}
	switch api {
	case WhisperServer:
		f.parseInference(&p, limits)
	case ASR:
		f.parseASR(&p)
	default:
		f.parseOpenAI(&p)
	}
	if f.err != nil {
		return Params{}, f.err
	}
	return p, nil
}

func (f *fields) parseOpenAI(p *Params) {
	p.Model = strings.TrimSpace(f.text("model"))
	if p.Model == "" {
		f.refuse("model", codeMissing, "The field model is missing; name the model to use, such as model=whisper-1 for the default one.")
	}
	for _, name := range []string{"known_speaker_names", "known_speaker_references"} {
		if len(f.list(name)) > 0 {
			f.refuse(name, codeUnsupported, "%s is not supported: this server doesn't tell speakers apart; leave the field out.", name)
		}
	}
	for _, value := range f.list("include") {
		f.refuse("include", codeUnsupportedValue, "include is %s; this server has nothing more to include (log probabilities are not supported), leave the field out.", Quote(value))
	}
	p.Format = f.format("diarized_json")
	p.Language = f.openAILanguage()
	p.Prompt = lastBytes(f.text("prompt"), PromptBytesMax)
	p.Temperature, _ = f.number("temperature", 0, 1)
	p.Stream = f.flag("stream", false)
	if len(f.form["vad_filter"]) > 0 { // not OpenAI's own: the faster-whisper servers have it
		p.VAD.On = f.vadFilter()
	}
	for _, value := range f.list("timestamp_granularities") {
		switch strings.TrimSpace(value) {
		case "segment": // always part of verbose_json
		case "word":
			p.Words = true
		default:
			f.refuse("timestamp_granularities", codeInvalid, "timestamp_granularities is %s; allowed are segment and word.", Quote(value))
		}
	}
	if p.Words && p.Format != VerboseJSON {
		f.refuse("timestamp_granularities", codeInvalid, "timestamp_granularities is \"word\", which needs response_format=verbose_json; response_format is %s.", Quote(string(p.Format)))
	}
	if p.Stream && p.Format != JSON && p.Format != Text {
		f.refuse("stream", codeInvalid, "stream is \"true\", which goes with response_format json or text; response_format is %s.", Quote(string(p.Format)))
	}
}

// openAILanguage reads language and, where it is missing, languages[]: several are no use to
// whisper, which takes one or detects.
func (f *fields) openAILanguage() string {
	if given := f.text("language"); strings.TrimSpace(given) != "" {
		return f.language(given)
	}
	if several := f.list("languages"); len(several) == 1 {
		return f.language(several[0])
	}
	return ""
}
