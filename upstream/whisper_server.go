package upstream

import (
	"bytes"
	"context"
	"net/http"
	"net/url"

	"github.com/whisperpool/whisperpool/transcript"
)

// whisperServer is whisper.cpp's own server, of any age. It works on one request at a time and
// serves one model without a name; what its answers are worth is in transcription.md, section 1.
type whisperServer struct{}

func (whisperServer) Name() string { return "whisper_server" }

// FreesOnCancel: it polls the connection between graph runs.
func (whisperServer) FreesOnCancel() bool { return true }

func (whisperServer) DefaultSlots() int { return 1 }

// DecodesAll: with --convert it has ffmpeg and does, but it does not tell.
func (whisperServer) DecodesAll() bool { return false }

func (whisperServer) TellsSpeakers() bool { return true }

// asks for the client's own format where it is a whisper.cpp client; else for JSON, in which an
// error cannot pass for a transcript, with times where they are needed.
func (whisperServer) asks(p transcript.Params) asked {
	a := asked{api: transcript.WhisperServer, format: p.Format}
	if p.API == transcript.WhisperServer {
		return a
	}
	if p.API == transcript.OpenAI && (p.Format == transcript.JSON || p.Format == transcript.Text) {
		a.format = transcript.JSON
	} else {
		a.format = transcript.VerboseJSON
	}
	return a
}

// unwrapped is a segment length in characters that no segment reaches. With token times the server
// breaks segments after 60 characters unless told otherwise, and in the middle of words.
const unwrapped = 1_000_000

func (k whisperServer) Render(ctx context.Context, base *url.URL, r Request) (*http.Request, error) {
	p := r.Params
	if p.API != transcript.WhisperServer {
		p.TokenTimestamps, p.MaxLen = p.Words, unwrapped
		// They cost a run of the encoder and are a part of no other answer.
		p.NoLanguageProbs = !p.DetectOnly
		p.VAD = transcript.VAD{} // a hint there, which fails every request where the server has no model for it
	}
	var f form
	inferenceFields(&f, p, k.asks(p))
	return f.post(ctx, endpoint(base, "inference"), r.File)
}

// inferenceFields are the fields of whisper-server's API. What decides which text comes back is
// always sent, also when it is the default: servers from before May 2026 answer a request that
// leaves a field out with the value of an earlier one that was aborted (transcription.md, 1.5),
// and those of a pool may have been started with different defaults. What only tunes the decoding
// is sent when the client gave it, so that the flags of who runs the server hold.
func inferenceFields(f *form, p transcript.Params, a asked) {
	language := p.Language
	if language == "" {
		language = "auto" // left out, it would be English
	}
	f.set("response_format", string(a.format))
	f.set("language", language)
	f.setBool("translate", p.Task == transcript.Translate)
	f.set("prompt", p.Prompt)
	f.setFloat("temperature", p.Temperature)
	f.setInt("offset_t", p.OffsetMS)
	f.setInt("offset_n", p.OffsetN)
	f.setInt("duration", p.DurationMS)
	f.setInt("audio_ctx", p.AudioCtx)
	f.setInt("max_len", p.MaxLen)
	f.setBool("split_on_word", p.SplitOnWord)
	f.setBool("no_timestamps", p.NoTimestamps)
	f.setBool("token_timestamps", p.TokenTimestamps)
	f.setBool("no_language_probabilities", p.NoLanguageProbs)
	f.setBool("detect_language", p.DetectOnly)
	f.setBool("diarize", p.Diarize)
	f.setBool("tinydiarize", p.TinyDiarize)
	f.setBool("carry_initial_prompt", p.CarryPrompt)
	vadFields(f, p.VAD)

	f.setOptional("temperature_inc", p.TemperatureInc)
	f.setOptional("entropy_thold", p.EntropyThold)
	f.setOptional("logprob_thold", p.LogprobThold)
	f.setOptional("no_speech_thold", p.NoSpeechThold)
	f.setOptional("word_thold", p.WordThold)
	if p.BestOf > 0 {
		f.setInt("best_of", p.BestOf)
	}
	if p.BeamSize > 0 {
		f.setInt("beam_size", p.BeamSize)
	}
	if p.MaxContext != nil {
		f.setInt("max_context", *p.MaxContext)
	}
	if p.SuppressNonSpeech {
		f.setBool("suppress_nst", true)
	}
}

// vadFields are sent when the client gave them: whether speech is detected may be a flag of the server's.
func vadFields(f *form, v transcript.VAD) {
	if v.On != nil {
		f.setBool("vad", *v.On)
	}
	milliseconds := func(name string, value *int) {
		if value != nil {
			f.setInt(name, *value)
		}
	}
	f.setOptional("vad_threshold", v.Threshold)
	milliseconds("vad_min_speech_duration_ms", v.MinSpeechMS)
	milliseconds("vad_min_silence_duration_ms", v.MinSilenceMS)
	f.setOptional("vad_max_speech_duration_s", v.MaxSpeechS)
	milliseconds("vad_speech_pad_ms", v.SpeechPadMS)
	f.setOptional("vad_samples_overlap", v.Overlap)
}

var (
	// notFound is how the server answers every status over 400 but 500, and invalid any 400.
	notFound = []byte("File Not Found")
	invalid  = []byte("Invalid request")
	// unread is what lies behind the latter, where a version lets it through.
	unread = []byte("failed to read")
)

// Read knows the statuses that do not mean what they say: a 404 of the server's own on the path of
// inference is any status but 400 and 500, so most likely that it is not ready (Probe finds out
// whether the path is wrong), and a 400 is a file that it could not decode.
func (k whisperServer) Read(resp *http.Response, r Request) (Verdict, error) {
	v, body, err := read(resp, r, k.asks(r.Params))
	if err != nil {
		return v, err
	}
	switch {
	case resp.StatusCode == http.StatusNotFound && bytes.HasPrefix(body, notFound):
		v.Class = Loading
		v.Detail = "404 File Not Found: not ready, or started with another --inference-path"
	case resp.StatusCode == http.StatusBadRequest && (bytes.HasPrefix(body, invalid) || bytes.Contains(body, unread)):
		v.Problem = transcript.Invalid("file", "invalid_audio",
			"The backend could not read the audio file; whisper.cpp's server takes WAV, FLAC, MP3 and Ogg Vorbis.")
	}
	return v, nil
}

// Probe asks for the health and whether there is a path of inference. Versions from before
// March 2025 have no /health, and one bad request to /load leaves it at 404 for good, both while
// inference works; so a 404 there counts only when the path of inference is missing, too. (During
// a /load that goes well it is 404 as well, and jobs wait for it.)
func (whisperServer) Probe(ctx context.Context, base *url.URL, p Prober) (Report, error) {
	u, err := healthURL(base, p, "health")
	if err != nil {
		return Report{}, err
	}
	got, err := get(ctx, p, u)
	if err != nil {
		return Report{}, err
	}
	report := got.report()
	if p.HealthURI() != "" || !report.Ready && got.status != http.StatusNotFound {
		return report, nil
	}
	inference, err := ask(ctx, p, http.MethodOptions, endpoint(base, "inference"))
	if err != nil {
		return Report{}, err
	}
	missing := inference.status == http.StatusNotFound && bytes.HasPrefix(inference.body, notFound)
	switch {
	case report.Ready && missing:
		return Report{Detail: inference.String() + ": was it started with another --inference-path?"}, nil
	case report.Ready, inference.ok():
		return Report{Ready: true, Slots: 1}, nil
	}
	report.Loading = true
	return report, nil
}
