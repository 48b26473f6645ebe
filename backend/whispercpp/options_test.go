package whispercpp

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/transcript"
)

func testLimits(vocab int) limits {
	return limits{
		id: "base", model: syntheticModel(vocab), languages: map[string]bool{"en": true, "de": true},
		beamSize: 1, bestOf: 2, maxDecoders: 5,
	}
}

func ptr[T any](v T) *T { return &v }

func TestOptionsRefuseWhatHurtsWhisper(t *testing.T) {
	for name, c := range map[string]struct {
		p     transcript.Params
		vocab int
		param string
	}{
		"temperature above 1":      {transcript.Params{Temperature: 1.01}, 51865, "temperature"},
		"temperature below 0":      {transcript.Params{Temperature: -0.1}, 51865, "temperature"},
		"temperature NaN":          {transcript.Params{Temperature: math.NaN()}, 51865, "temperature"},
		"endless steps":            {transcript.Params{TemperatureInc: ptr(1e-9)}, 51865, "temperature_inc"},
		"steps backwards":          {transcript.Params{TemperatureInc: ptr(-0.2)}, 51865, "temperature_inc"},
		"steps NaN":                {transcript.Params{TemperatureInc: ptr(math.NaN())}, 51865, "temperature_inc"},
		"offset before the audio":  {transcript.Params{OffsetMS: -1}, 51865, "offset_t"},
		"negative duration":        {transcript.Params{DurationMS: -10}, 51865, "duration"},
		"offset beyond 32 bits":    {transcript.Params{OffsetMS: math.MaxInt32 + 1}, 51865, "offset_t"},
		"too many beams":           {transcript.Params{BeamSize: 6}, 51865, "beam_size"},
		"negative beams":           {transcript.Params{BeamSize: -1}, 51865, "beam_size"},
		"too many candidates":      {transcript.Params{BestOf: 9}, 51865, "best_of"},
		"context above the model":  {transcript.Params{AudioCtx: 1501}, 51865, "audio_ctx"},
		"negative context":         {transcript.Params{AudioCtx: -1}, 51865, "audio_ctx"},
		"negative segment length":  {transcript.Params{MaxLen: -1}, 51865, "max_len"},
		"threshold NaN":            {transcript.Params{EntropyThold: ptr(math.NaN())}, 51865, "entropy_thold"},
		"threshold infinite":       {transcript.Params{LogprobThold: ptr(math.Inf(1))}, 51865, "logprob_thold"},
		"unknown language":         {transcript.Params{Language: "zz"}, 51865, "language"},
		"language name":            {transcript.Params{Language: "German"}, 51865, "language"},
		"another than English":     {transcript.Params{Language: "de"}, 51864, "language"},
		"turns of many languages":  {transcript.Params{TinyDiarize: true}, 51865, "tinydiarize"},
		"translation with English": {transcript.Params{Task: transcript.Translate}, 51864, "model"},
	} {
		_, refusal := newOptions(c.p, 3*SampleRate, testLimits(c.vocab))
		if refusal == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if refusal.Param != c.param || refusal.Status != 400 || !refusal.Final || refusal.Message == "" {
			t.Errorf("%s: refused with %+v, want 400 about %s", name, refusal, c.param)
		}
	}
	if _, refusal := newOptions(transcript.Params{}, samplesMax+1, testLimits(51865)); refusal == nil {
		t.Error("more than 24 hours: accepted")
	}
}

func TestOptionsDefaults(t *testing.T) {
	o, refusal := newOptions(transcript.Params{}, 3*SampleRate, testLimits(51865))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if o.language != "" || o.task != transcript.Transcribe || o.beamSize != 1 || o.bestOf != 2 || o.maxContext != -1 ||
		o.temperatureInc != 0.2 || o.entropyThold != 2.4 || o.logprobThold != -1 || o.noSpeechThold != 0.6 ||
		o.duration != 3 || o.nothingToDo || o.tokenTimes() {
		t.Errorf("defaults are %+v", o)
	}
	o, _ = newOptions(transcript.Params{AudioCtx: 1500, TemperatureInc: ptr(0.0)}, 3*SampleRate, testLimits(51864))
	if o.language != "en" || o.audioCtx != 0 || o.temperatureInc != 0 {
		t.Errorf("an English model with the full context and no fallback: %+v", o)
	}
}

func TestOptionsKeepTheWindowWithinTheAudio(t *testing.T) {
	for _, c := range []struct {
		samples, offset, duration int
		wantOffset, wantDuration  int
		nothingToDo               bool
	}{
		{3 * SampleRate, 0, 0, 0, 0, false},
		{3 * SampleRate, 1000, 500, 1000, 500, false},
		{3 * SampleRate, 1000, math.MaxInt32, 1000, 0, false}, // or whisper.cpp works through 24 days of nothing
		{3 * SampleRate, math.MaxInt32, math.MaxInt32, 3000, 0, true},
		{3 * SampleRate, 2950, 0, 2950, 0, true},
		{3 * SampleRate, 0, 99, 0, 99, true},
		{samplesMin - 1, 0, 0, 0, 0, true},
		{samplesMin, 0, 0, 0, 0, false},
		{0, 0, 0, 0, 0, true},
	} {
		o, refusal := newOptions(transcript.Params{OffsetMS: c.offset, DurationMS: c.duration}, c.samples, testLimits(51865))
		if refusal != nil {
			t.Fatal(refusal)
		}
		if o.offsetMS != c.wantOffset || o.durationMS != c.wantDuration || o.nothingToDo != c.nothingToDo {
			t.Errorf("%+v: offset %d, duration %d, nothing to do %v", c, o.offsetMS, o.durationMS, o.nothingToDo)
		}
	}
}

func TestPromptKeepsItsEnd(t *testing.T) {
	prompt := cleanPrompt(strings.Repeat("語", 1000) + "the end\x00\xff")
	if len(prompt) > transcript.PromptBytesMax || len(prompt) < transcript.PromptBytesMax-3 ||
		!utf8.ValidString(prompt) || !strings.HasSuffix(prompt, "語the end") {
		t.Errorf("prompt of %d bytes: %q", len(prompt), prompt)
	}
}

func TestSamplesMustBeNumbers(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e30} {
		samples := make([]float32, 2*SampleRate)
		samples[SampleRate] = float32(bad)
		if refusal := checkSamples(samples); refusal == nil || !strings.Contains(refusal.Message, "1.000 s") {
			t.Errorf("%v: %v", bad, refusal)
		}
	}
	if refusal := checkSamples([]float32{-1, 0, 1, 32768}); refusal != nil {
		t.Error(refusal)
	}
}
