package e2e

import (
	"net/http"
	"slices"
	"strings"
)

// verbose is the format with the most in it, without the languages, which cost another run of the encoder.
var verbose = []string{"response_format=verbose_json", "no_language_probabilities=true"}

// conformanceCases are the requests that are compared with a model: for tiny.en all of them, or those of the short
// form; for others one or two of each kind, and what an English-only model does not do.
func conformanceCases(model string, all bool) []conformanceCase {
	cases := quickCases
	if model == "tiny.en" {
		cases = slices.Concat(quickCases, refusedCases)
	}
	for _, c := range slowCases {
		if all && (c.model == model || c.model == "" && model == "tiny.en") {
			cases = append(slices.Clip(cases), c)
		}
	}
	return cases
}

func with(fields ...string) []string { return slices.Concat(verbose, fields) }

// quickCases are one or two of each kind.
var quickCases = []conformanceCase{
	{name: "json", clip: "short"},
	{name: "text", clip: "short", fields: []string{"response_format=text"}},
	{name: "srt", clip: "jfk", fields: []string{"response_format=srt", "max_len=20", "offset_n=5"}},
	{name: "vtt", clip: "short", fields: []string{"response_format=vtt", "max_len=12", "split_on_word=true"}},
	{name: "verbose_json", clip: "short", fields: []string{"response_format=verbose_json"}},
	{name: "max_len", clip: "short", fields: with("max_len=12")},
	{name: "no_timestamps", clip: "short", fields: with("no_timestamps=true"), fresh: true},
	{name: "no token_timestamps", clip: "short", fields: with("token_timestamps=false")},
	{name: "a part of it", clip: "short", fields: with("offset_t=500", "duration=1500")},
	{name: "prompt", clip: "short", fields: with("prompt=An ill-disposed young man."), fresh: true},
	{name: "beams", clip: "short", fields: with("beam_size=2"), fresh: true},
	{name: "temperature", clip: "short", fields: with("temperature=0.4", "best_of=3"), fresh: true},
	{name: "diarize", clip: "two speakers", fields: with("diarize=true")},
	{name: "8 kHz", clip: "8 kHz", fields: with()},
	{name: "half a file", clip: "cut", fields: with()},
	{name: "50 ms", clip: "50 ms", fields: with()},
}

// refusedCases are requests of which at least one of the two makes no transcript.
var refusedCases = []conformanceCase{
	{name: "empty file", clip: "empty", fields: with()},
	{name: "garbage", clip: "garbage", fields: with()},
	{name: "header alone", clip: "header", fields: with()},
	{name: "no data", clip: "no data", fields: with()},
	{name: "samples without a header", clip: "samples", fields: with()},
	{name: "no file", fields: with()},
	{name: "no form", method: http.MethodPost},
	{name: "temperature that is no number", clip: "short", fields: with("temperature=warm")},
	{name: "beam_size that is no number", clip: "short", fields: with("beam_size=many")},
	{name: "best_of too large", clip: "short", fields: with("best_of=1000")},
	{name: "beam_size too large", clip: "short", fields: with("beam_size=9")},
	{name: "audio_ctx too large", clip: "short", fields: with("audio_ctx=3000")},
	{name: "OPTIONS", method: http.MethodOptions},
	{name: "GET", method: http.MethodGet},
	{name: "health", method: http.MethodGet, path: "/health"},
	{name: "the page", method: http.MethodGet, path: "/"},
	{name: "unknown path", method: http.MethodGet, path: "/nothing/here"},
	{name: "unknown path to post to", method: http.MethodPost, path: "/inferences"},
}

// slowCases are the rest.
var slowCases = []conformanceCase{
	{name: "nothing but the file", clip: "jfk", plain: true, fresh: true},
	{name: "a whole context", clip: "two windows", fields: with("audio_ctx=0"), fresh: true},
	{name: "json of more", clip: "two windows"},
	{name: "verbose_json of more", clip: "two windows", fields: with(), fresh: true},
	{name: "srt of more", clip: "two windows", fields: []string{"response_format=srt"}},
	{name: "vtt of more", clip: "two windows", fields: []string{"response_format=vtt"}},
	{name: "unknown format", clip: "short", fields: []string{"response_format=docx"}},
	{name: "unknown fields", clip: "short", fields: []string{"model=whisper-1", "stream=true", "colour=red", "timestamp_granularities[]=word"}},
	{name: "fields in the address", clip: "short", path: "/inference?response_format=srt&max_len=10"},
	{name: "flags in words", clip: "short", fields: with("split_on_word=yes", "max_len=12", "no_timestamps=n")},
	{name: "debug_mode", clip: "short", fields: with("debug_mode=false")},
	{name: "split_on_word", clip: "jfk", fields: with("max_len=12", "split_on_word=true")},
	{name: "a long max_len", clip: "jfk", fields: with("max_len=500")},
	{name: "max_len without token_timestamps", clip: "jfk", fields: with("max_len=12", "token_timestamps=false")},
	{name: "no_timestamps as srt", clip: "jfk", fields: []string{"response_format=srt", "no_timestamps=true"}},
	{name: "no_timestamps with token_timestamps", clip: "jfk", fields: with("no_timestamps=true", "token_timestamps=true"), fresh: true},
	{name: "word_thold", clip: "jfk", fields: with("word_thold=0.5")},
	{name: "five beams", clip: "jfk", fields: with("beam_size=5"), fresh: true},
	{name: "one beam", clip: "jfk", fields: with("beam_size=1")},
	{name: "no beam", clip: "jfk", fields: with("beam_size=-1")},
	{name: "beams of more", clip: "two windows", fields: with("beam_size=3"), fresh: true},
	{name: "best_of", clip: "jfk", fields: with("best_of=5")},
	{name: "the highest temperature", clip: "jfk", fields: with("temperature=1"), fresh: true},
	{name: "a second try", clip: "short", fields: with("logprob_thold=-0.01", "temperature_inc=0.4"), fresh: true},
	{name: "entropy_thold", clip: "jfk", fields: with("entropy_thold=4", "temperature_inc=0.5"), fresh: true},
	{name: "no_speech_thold", clip: "silence", fields: with("no_speech_thold=0.1")},
	{name: "silence", clip: "silence", fields: with()},
	{name: "prompt of more", clip: "two windows", fields: with("prompt=Dashwood, Middleton."), fresh: true},
	{name: "carry_initial_prompt", clip: "two windows", fields: with("prompt=Dashwood, Middleton.", "carry_initial_prompt=true"), fresh: true},
	{name: "carry_initial_prompt without a prompt", clip: "two windows", fields: with("carry_initial_prompt=true"), fresh: true},
	{name: "no max_context", clip: "two windows", fields: with("max_context=0"), fresh: true},
	{name: "a little max_context", clip: "two windows", fields: with("max_context=16"), fresh: true},
	{name: "suppress_nst", clip: "jfk", fields: with("suppress_nst=true")},
	{name: "suppress_non_speech", clip: "jfk", fields: with("suppress_non_speech=true")},
	{name: "from the middle", clip: "jfk", fields: with("offset_t=5000")},
	{name: "past the end", clip: "short", fields: with("offset_t=20000")},
	{name: "for longer than there is", clip: "short", fields: with("duration=60000")},
	{name: "a shrunk context", clip: "short", fields: with("audio_ctx=768"), fresh: true},
	{name: "diarize as text", clip: "two speakers", fields: []string{"diarize=true", "response_format=text"}},
	{name: "diarize as srt", clip: "two speakers", fields: []string{"diarize=true", "response_format=srt"}},
	{name: "diarize as vtt", clip: "two speakers", fields: []string{"diarize=true", "response_format=vtt"}},
	{name: "diarize as json", clip: "two speakers", fields: []string{"diarize=true"}},
	{name: "diarize of one channel", clip: "short", fields: with("diarize=true")},
	{name: "two channels", clip: "both channels", fields: with()},
	{name: "two speakers as one", clip: "two speakers", fields: with()},
	{name: "44.1 kHz", clip: "44.1", fields: with()},
	{name: "floats", clip: "floats", fields: with()},
	{name: "English", clip: "short", fields: with("language=en")},
	{name: "detect_language", clip: "jfk", fields: with("detect_language=true")},
	{name: "detect_language as json", clip: "jfk", fields: []string{"detect_language=true"}},
	{name: "languages of an English model", model: "tiny.en", clip: "short", fields: with("language=auto")},
	{name: "German of an English model", model: "tiny.en", clip: "short", fields: with("language=de")},
	{name: "translation by an English model", model: "tiny.en", clip: "short", fields: with("translate=true")},
	{name: "unknown language", model: "base", clip: "short", fields: with("language=zz")},
	{name: "language by name", model: "base", clip: "short", fields: with("language=english")},
	{name: "language=auto", model: "base", clip: "jfk", fields: with("language=auto", "audio_ctx=0"), fresh: true}, // that server detects with the context of the request before
	{name: "no language", model: "base", clip: "jfk", fields: with("language=", "audio_ctx=0"), fresh: true},
	{name: "German", model: "base", clip: "jfk", fields: with("language=de"), fresh: true},
	{name: "translate", model: "base", clip: "jfk", fields: with("translate=true"), fresh: true},
	{name: "languages", model: "base", clip: "jfk", fields: []string{"response_format=verbose_json"}, fresh: true},
	{name: "tinydiarize", model: "tiny.en", clip: "two windows", fields: with("tinydiarize=true"), fresh: true},
	{name: "a prompt of 30,000 letters", clip: "short", fields: with("prompt=" + strings.Repeat("ill-disposed ", 2308)), fresh: true},
	{name: "vad", clip: "spaced", fields: with("vad=true"), fresh: true},
	{name: "vad with other settings", clip: "spaced", fields: with("vad=true", "vad_threshold=0.7", "vad_min_silence_duration_ms=500", "vad_speech_pad_ms=200"), fresh: true},
	{name: "vad as srt", clip: "spaced", fields: []string{"vad=true", "response_format=srt"}, fresh: true},
	{name: "vad of silence", clip: "silence", fields: with("vad=true"), fresh: true},
	{name: "load", path: "/load", plain: true, fields: []string{"model=MODELS/ggml-tiny.en.bin"}, fresh: true},
	{name: "load what is not there", path: "/load", plain: true, fields: []string{"model=MODELS/ggml-none.bin"}, fresh: true},
	{name: "load nothing", path: "/load", plain: true, fields: []string{"mode=tiny.en"}, fresh: true},
	{name: "temperature above 1", clip: "short", fields: with("temperature=2")},
}
