package transcript

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

type form = map[string][]string

func ptr[T any](v T) *T { return &v }

func TestParseFormOpenAI(t *testing.T) {
	for name, c := range map[string]struct {
		form form
		want Params
	}{
		"only the model": {form{"model": {"whisper-1"}}, Params{Model: "whisper-1", Format: JSON}},
		"everything": {
			form{
				"model": {"base"}, "language": {"de"}, "prompt": {"Guten Tag"}, "response_format": {"verbose_json"},
				"temperature": {"0.4"}, "timestamp_granularities[]": {"segment", "word"}, "stream": {"false"},
				"chunking_strategy": {"auto"}, "chunking_strategy[type]": {"server_vad"}, "keywords[]": {"a", "b"}, "max_speech_duration_s": {"10"},
			},
			Params{Model: "base", Language: "de", Prompt: "Guten Tag", Format: VerboseJSON, Temperature: 0.4, Words: true},
		},
		"granularities without brackets": {
			form{"model": {"m"}, "response_format": {"verbose_json"}, "timestamp_granularities": {"word"}},
			Params{Model: "m", Format: VerboseJSON, Words: true},
		},
		"empty means not given": {
			form{"model": {"m"}, "language": {""}, "prompt": {""}, "response_format": {""}, "temperature": {""}, "stream": {""}, "timestamp_granularities[]": {""}, "include[]": {""}},
			Params{Model: "m", Format: JSON},
		},
		"streamed":                {form{"model": {"m"}, "stream": {"True"}}, Params{Model: "m", Format: JSON, Stream: true}},
		"null stream":             {form{"model": {"m"}, "stream": {"null"}}, Params{Model: "m", Format: JSON}},
		"auto":                    {form{"model": {"m"}, "language": {"auto"}}, Params{Model: "m", Format: JSON}},
		"a language by name":      {form{"model": {"m"}, "language": {"English"}}, Params{Model: "m", Format: JSON, Language: "en"}},
		"one of languages":        {form{"model": {"m"}, "languages[]": {"fr"}}, Params{Model: "m", Format: JSON, Language: "fr"}},
		"several languages":       {form{"model": {"m"}, "languages[]": {"fr", "en"}}, Params{Model: "m", Format: JSON}},
		"whisper.cpp's own field": {form{"model": {"m"}, "beam_size": {"9999"}}, Params{Model: "m", Format: JSON}},
		"minus zero":              {form{"model": {"m"}, "temperature": {"-0"}}, Params{Model: "m", Format: JSON}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.API, c.want.Task = OpenAI, Transcribe
			got, err := ParseForm(OpenAI, Transcribe, c.form, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestParseFormInference(t *testing.T) {
	defaults := Params{API: WhisperServer, Task: Transcribe, Format: JSON, Language: "en", TokenTimestamps: true, MaxLen: 60}
	with := func(change func(*Params)) Params {
		p := defaults
		change(&p)
		return p
	}
	for name, c := range map[string]struct {
		form form
		want Params
	}{
		"nothing": {nil, defaults},
		"OpenAI's fields are ignored": {
			form{"stream": {"true"}, "timestamp_granularities[]": {"nonsense"}, "include[]": {"logprobs"}}, defaults,
		},
		"the model is a wish":       {form{"model": {" x "}}, with(func(p *Params) { p.Model = "x" })},
		"an unknown format is json": {form{"response_format": {"lrc"}}, defaults},
		"features off": {
			form{"diarize": {"0"}, "tinydiarize": {"no"}, "detect_language": {"n"}, "carry_initial_prompt": {"false"}, "debug_mode": {"true"}}, defaults,
		},
		"features on": {
			form{"diarize": {"1"}, "tinydiarize": {"yes"}, "carry_initial_prompt": {"y"}, "vad": {"true"}},
			with(func(p *Params) { p.Diarize, p.TinyDiarize, p.CarryPrompt, p.VAD.On = true, true, true, ptr(true) }),
		},
		"detect_language detects whatever language is given": {
			form{"detect_language": {"true"}, "language": {"de"}}, with(func(p *Params) { p.Language, p.DetectOnly = "", true }),
		},
		"speech detection": {
			form{
				"vad": {"false"}, "vad_threshold": {"0.5"}, "vad_min_speech_duration_ms": {"250.7"}, "vad_min_silence_duration_ms": {"100"},
				"vad_max_speech_duration_s": {"3.4028235e38"}, "vad_speech_pad_ms": {"30"}, "vad_samples_overlap": {"0.1"},
			},
			with(func(p *Params) {
				p.VAD = VAD{
					On: ptr(false), Threshold: ptr(0.5), MinSpeechMS: ptr(250), MinSilenceMS: ptr(100), MaxSpeechS: ptr(1e9),
					SpeechPadMS: ptr(30), Overlap: ptr(0.1),
				}
			}),
		},
		"empty language detects": {form{"language": {""}}, with(func(p *Params) { p.Language = "" })},
		"auto detects":           {form{"language": {"auto"}}, with(func(p *Params) { p.Language = "" })},
		"translate":              {form{"translate": {"yes"}}, with(func(p *Params) { p.Task = Translate })},
		"verbose_json has words": {form{"response_format": {"verbose_json"}}, with(func(p *Params) { p.Format, p.Words = VerboseJSON, true })},
		"no timestamps": {
			form{"response_format": {"verbose_json"}, "no_timestamps": {"1"}},
			with(func(p *Params) { p.Format, p.NoTimestamps, p.TokenTimestamps, p.MaxLen = VerboseJSON, true, false, 0 }),
		},
		"the older name of suppress_nst": {form{"suppress_non_speech": {"true"}}, with(func(p *Params) { p.SuppressNonSpeech = true })},
		"the newer one wins":             {form{"suppress_non_speech": {"true"}, "suppress_nst": {"false"}}, defaults},
		"-1 is that server's default":    {form{"max_context": {"-1"}, "beam_size": {"-1"}}, defaults},
		"everything": {
			form{
				"offset_t": {"1000"}, "offset_n": {"3"}, "duration": {"5000.0"}, "max_context": {"0"}, "max_len": {"40"}, "best_of": {"5"}, "beam_size": {"8"},
				"audio_ctx": {"768"}, "word_thold": {"0.01"}, "entropy_thold": {"2.4"}, "logprob_thold": {"-1"}, "no_speech_thold": {"0"},
				"temperature": {"1"}, "temperature_inc": {"0"}, "language": {"DE"}, "prompt": {"p"}, "split_on_word": {"y"}, "token_timestamps": {"true"}, "no_language_probabilities": {"true"},
			},
			with(func(p *Params) {
				p.OffsetMS, p.OffsetN, p.DurationMS, p.MaxContext, p.MaxLen, p.BestOf, p.BeamSize = 1000, 3, 5000, ptr(0), 40, 5, 8
				p.AudioCtx, p.WordThold, p.EntropyThold, p.LogprobThold, p.NoSpeechThold = 768, ptr(0.01), ptr(2.4), ptr(-1.0), ptr(0.0)
				p.Temperature, p.TemperatureInc, p.Language, p.Prompt, p.SplitOnWord, p.NoLanguageProbs = 1, ptr(0.0), "de", "p", true, true
			}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseForm(WhisperServer, Transcribe, c.form, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestParseFormASR(t *testing.T) {
	for name, c := range map[string]struct {
		query form
		want  Params
	}{
		"nothing": {nil, Params{API: ASR, Task: Transcribe, Format: Text}},
		"as Bazarr asks": {
			form{"task": {"translate"}, "language": {"de"}, "output": {"srt"}, "encode": {"false"}},
			Params{API: ASR, Task: Translate, Format: SRT, Language: "de", PCM: true},
		},
		"everything": {
			form{
				"output": {"json"}, "word_timestamps": {"True"}, "vad_filter": {"t"}, "initial_prompt": {"names: Ann"}, "encode": {"1"},
				"language": {""}, "unknown": {"x"}, "model": {"base"},
			},
			Params{API: ASR, Task: Transcribe, Format: JSON, Words: true, VAD: VAD{On: ptr(true)}, Prompt: "names: Ann", Model: "base"},
		},
		"words are for json alone": {form{"output": {"tsv"}, "word_timestamps": {"true"}}, Params{API: ASR, Task: Transcribe, Format: TSV}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseForm(ASR, Transcribe, c.query, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// Each row is refused by name, with the value and what is allowed in the message.
func TestParseFormRefuses(t *testing.T) {
	long := strings.Repeat("x", valueBytesMax+1)
	for _, c := range []struct {
		api     API
		field   string // one field beside the model
		value   string
		param   string // of the error; "" where it is the field
		mention string // part of the message
	}{
		{OpenAI, "model", "", "", "is missing"},
		{OpenAI, "response_format", "diarized_json", "", "speakers"},
		{OpenAI, "response_format", "xml", "", `"xml"; allowed are json, text, srt, verbose_json and vtt`},
		{OpenAI, "response_format", "JSON\x1b[31m", "", `\x1b`},
		{OpenAI, "temperature", "1.01", "", `"1.01"; send a number from 0 to 1`},
		{OpenAI, "temperature", "-0.1", "", "from 0 to 1"},
		{OpenAI, "temperature", "NaN", "", "from 0 to 1"},
		{OpenAI, "temperature", "inf", "", "from 0 to 1"},
		{OpenAI, "temperature", "0x1p-2", "", "from 0 to 1"},
		{OpenAI, "temperature", "0,5", "", "from 0 to 1"},
		{OpenAI, "temperature", "1e999", "", "from 0 to 1"},
		{OpenAI, "temperature", strings.Repeat("9", 100), "", "9…\""},
		{OpenAI, "language", "klingon", "", `"klingon"`},
		{OpenAI, "language", "xx", "", "such as en"},
		{OpenAI, "language", "english-ish", "", "such as en"},
		{OpenAI, "languages[]", "xx", "language", `"xx"`},
		{OpenAI, "timestamp_granularities[]", "sentence", "timestamp_granularities", "segment and word"},
		{OpenAI, "timestamp_granularities", "word", "", "verbose_json"},
		{OpenAI, "stream", "maybe", "", "true or false"},
		{OpenAI, "include[]", "logprobs", "include", "log probabilities"},
		{OpenAI, "known_speaker_names[]", "agent", "known_speaker_names", "speakers"},
		{OpenAI, "known_speaker_references[]", "data:", "known_speaker_references", "speakers"},
		{OpenAI, "prompt", "\xff\xfe", "", "UTF-8"},
		{OpenAI, "prompt", "a\x00b", "", "NUL"},
		{OpenAI, "prompt", long, "", "65536"},
		{OpenAI, "unknown", long, "", "65536"},
		{WhisperServer, "temperature", "abc", "", "from 0 to 1"},
		{WhisperServer, "temperature", "1.5", "", "from 0 to 1"},
		{WhisperServer, "temperature_inc", "1e-9", "", "from 0.1 to 1"},
		{WhisperServer, "temperature_inc", "0.0999", "", "from 0.1 to 1"},
		{WhisperServer, "temperature_inc", "-0.2", "", "from 0 to 1"},
		{WhisperServer, "temperature_inc", "2", "", "from 0 to 1"},
		{WhisperServer, "offset_t", "-1", "", "from 0 to"},
		{WhisperServer, "offset_t", "99999999999", "", "from 0 to"},
		{WhisperServer, "offset_n", "-1", "", "from 0 to"},
		{WhisperServer, "duration", "-5", "", "from 0 to"},
		{WhisperServer, "duration", "1.5", "", "whole number"},
		{WhisperServer, "beam_size", "9", "", "from -1 to 8"},
		{WhisperServer, "beam_size", "-2", "", "from -1 to 8"},
		{WhisperServer, "best_of", "100", "", "from 0 to 8"},
		{WhisperServer, "best_of", "-2", "", "from 0 to 8"},
		{WhisperServer, "audio_ctx", "1501", "", "from 0 to 1500"},
		{WhisperServer, "audio_ctx", "-1", "", "from 0 to 1500"},
		{WhisperServer, "max_context", "-2", "", "from -1 to"},
		{WhisperServer, "max_len", "-1", "", "from 0 to"},
		{WhisperServer, "entropy_thold", "nan", "", "send a number"},
		{WhisperServer, "logprob_thold", "-inf", "", "send a number"},
		{WhisperServer, "language", "zz", "", `"zz"`},
		{WhisperServer, "translate", "perhaps", "", "true or false"},
		{WhisperServer, "vad_threshold", "1.5", "", "from 0 to 1"},
		{WhisperServer, "vad_speech_pad_ms", "-1", "", "from 0 to 60000"},
		{WhisperServer, "vad_max_speech_duration_s", "inf", "", "send a number"},
		{ASR, "task", "summarize", "", "transcribe and translate"},
		{ASR, "output", "verbose_json", "", "txt, vtt, srt, tsv and json"},
		{ASR, "language", "klingon", "", `"klingon"`},
		{ASR, "encode", "perhaps", "", "true or false"},
		{ASR, "word_timestamps", "2", "", "true or false"},
		{ASR, "vad_filter", "maybe", "", "true or false"},
		{ASR, "initial_prompt", "\xff", "", "UTF-8"},
	} {
		f := form{"model": {"m"}}
		f[c.field] = []string{c.value}
		_, err := ParseForm(c.api, Transcribe, f, Limits{})
		if err == nil {
			t.Errorf("%s %s=%q is accepted", c.api, c.field, firstRunes(c.value, 20))
			continue
		}
		if c.param == "" {
			c.param = c.field
		}
		if err.Status != 400 || err.Type != "invalid_request_error" || !err.Final || err.Code == "" || err.Param != c.param {
			t.Errorf("%s=%q: %+v", c.field, firstRunes(c.value, 20), err)
		}
		if !strings.Contains(err.Message, c.mention) || !strings.Contains(err.Message, strings.TrimSuffix(c.field, "[]")) && c.param == c.field {
			t.Errorf("%s=%q: message %q doesn't say %q", c.field, firstRunes(c.value, 20), err.Message, c.mention)
		}
		if len(err.Message) > 400 || !utf8.ValidString(err.Message) || strings.ContainsAny(err.Message, "\x00\x1b\n") {
			t.Errorf("%s=%q: message %q", c.field, firstRunes(c.value, 20), err.Message)
		}
	}
}

func TestParseFormTooMany(t *testing.T) {
	for name, f := range map[string]form{
		"a field given twice": {"model": {"a", "b"}},
		"too many values":     {"model": {"a"}, "x": make([]string, valuesMax)},
	} {
		if _, err := ParseForm(OpenAI, Transcribe, f, Limits{}); err == nil || err.Code != codeTooMany || err.Status != 400 {
			t.Errorf("%s: %+v", name, err)
		}
	}
}

func TestParseFormLimits(t *testing.T) {
	limits := Limits{BeamSizeMax: 2, BestOfMax: 3}
	if _, err := ParseForm(WhisperServer, Transcribe, form{"beam_size": {"2"}, "best_of": {"3"}}, limits); err != nil {
		t.Error(err)
	}
	for _, f := range []form{{"beam_size": {"3"}}, {"best_of": {"4"}}} {
		if _, err := ParseForm(WhisperServer, Transcribe, f, limits); err == nil {
			t.Errorf("%v is accepted", f)
		}
	}
}

func TestParseFormRefusesStreamedSubtitles(t *testing.T) {
	for _, format := range []Format{SRT, VTT, VerboseJSON} {
		_, err := ParseForm(OpenAI, Transcribe, form{"model": {"m"}, "stream": {"true"}, "response_format": {string(format)}}, Limits{})
		if err == nil || err.Param != "stream" {
			t.Errorf("%s: %+v", format, err)
		}
	}
}

func TestPromptIsCutAtItsStart(t *testing.T) {
	prompt := strings.Repeat("€", 1000) // three bytes each
	p, err := ParseForm(OpenAI, Transcribe, form{"model": {"m"}, "prompt": {prompt}}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("€", PromptBytesMax/3); p.Prompt != want {
		t.Errorf("kept %d bytes, want %d", len(p.Prompt), len(want))
	}
}

func TestMeansDefault(t *testing.T) {
	for _, model := range []string{"", "whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe-2025-12-15", "gpt-transcribe"} {
		if !MeansDefault(model) {
			t.Errorf("%q does not mean the default", model)
		}
	}
	for _, model := range []string{"base", "whisper", "gpt-4o-transcribe-diarize", "WHISPER-1"} {
		if MeansDefault(model) {
			t.Errorf("%q means the default", model)
		}
	}
}

func TestLanguages(t *testing.T) {
	if len(languages) != 100 || len(languageNames) != 100 {
		t.Fatalf("%d languages, %d codes", len(languages), len(languageNames))
	}
	for _, l := range languages {
		for _, s := range []string{l.code, l.name, strings.ToUpper(l.code), strings.ToUpper(l.name), " " + l.code + "-XX"} {
			if code, ok := LanguageCode(s); !ok || code != l.code {
				t.Errorf("LanguageCode(%q) = %q, %v", s, code, ok)
			}
		}
		if LanguageName(l.code) != l.name {
			t.Errorf("LanguageName(%q) = %q", l.code, LanguageName(l.code))
		}
	}
	for s, want := range map[string]string{
		"": "", "auto": "", "AUTO": "", "en-US": "en", "pt_BR": "pt", "zh-Hans-CN": "zh", "English": "en", "Haitian Creole": "ht",
		"castilian": "es", "nb-NO": "no", "jv": "jw", "fil": "tl", "yue-HK": "yue",
	} {
		if code, ok := LanguageCode(s); !ok || code != want {
			t.Errorf("LanguageCode(%q) = %q, %v; want %q", s, code, ok, want)
		}
	}
	for _, s := range []string{"zz", "-", "_en", "en us", "engl", "english-ish", "e", "\xff", "en\x00"} {
		if code, ok := LanguageCode(s); ok && s != "_en" {
			t.Errorf("LanguageCode(%q) = %q", s, code)
		}
	}
	for alias, code := range languageAliases {
		if LanguageName(code) == "" || LanguageName(alias) != "" {
			t.Errorf("alias %s of %s", alias, code)
		}
	}
}

func TestQuote(t *testing.T) {
	for value, want := range map[string]string{
		"plain": `"plain"`, "a\"b\n\x1b\x00": `"a\"b\n\x1b\x00"`, "\xff": `"\xff"`,
		strings.Repeat("ü", 64): `"` + strings.Repeat("ü", 64) + `"`,
		strings.Repeat("ü", 65): `"` + strings.Repeat("ü", 64) + `…"`,
	} {
		if got := Quote(value); got != want {
			t.Errorf("Quote(%q) = %s, want %s", value, got, want)
		}
	}
}
