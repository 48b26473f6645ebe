//go:build whispercpp

package whispercpp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// open starts an engine on the CPU and closes it with the test.
func open(t testing.TB, cfg Config) *engine {
	t.Helper()
	cfg.GPU, cfg.FlashAttention = GPUOff, true
	opened, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened.(*engine)
}

func openSynthetic(t testing.TB, vocab, slots int) *engine {
	t.Helper()
	return open(t, Config{ModelPath: writeSynthetic(t, syntheticModel(vocab)), ModelID: "synthetic", Slots: slots, Threads: 1})
}

// tone is a sound with something to hear all along.
func tone(seconds float64) []float32 {
	samples := make([]float32, int(seconds*SampleRate))
	for i := range samples {
		at := float64(i) / SampleRate
		samples[i] = float32(0.3 * math.Sin(2*math.Pi*(200+100*math.Sin(3*at))*at))
	}
	return samples
}

// greedy is the least work that gives an answer.
func greedy() transcript.Params {
	return transcript.Params{Task: transcript.Transcribe, Language: "en", TemperatureInc: ptr(0.0)}
}

func textOf(t transcript.Transcript) string {
	var b strings.Builder
	for _, s := range t.Segments {
		b.WriteString(s.Text)
	}
	return b.String()
}

func TestEngineSaysWhatItIs(t *testing.T) {
	info := openSynthetic(t, 51865, 2).Info()
	if info.Engine != "whispercpp" || info.Model != "synthetic" || !info.Multilingual || info.Slots != 2 ||
		info.Threads != 1 || info.Device != "CPU" || !strings.Contains(info.SystemInfo, "CPU") {
		t.Errorf("%+v", info)
	}
	if info := openSynthetic(t, 51864, 1).Info(); info.Multilingual {
		t.Errorf("%+v", info)
	}
}

func TestRequiredGPUThatIsNotThere(t *testing.T) {
	for _, d := range devices() {
		if d.gpu {
			t.Skipf("this machine has one: %s", d.label())
		}
	}
	_, err := New(Config{ModelPath: writeSynthetic(t, syntheticModel(51865)), GPU: GPURequired})
	if err == nil || !strings.Contains(err.Error(), "a GPU is required") {
		t.Errorf("started with %v", err)
	}
}

func TestNewRefusesFilesThatAreNoModel(t *testing.T) {
	_, err := New(Config{ModelPath: "nowhere/ggml-base.bin"})
	if err == nil || !strings.Contains(err.Error(), "nowhere/ggml-base.bin") {
		t.Errorf("%v", err)
	}
	// A file that passes our own check and fails the library's: right sizes, wrong kind of number.
	m := syntheticModel(51865)
	m.Ftype = 0 // says f32, but the weights are f16
	path := writeSynthetic(t, m)
	_, err = New(Config{ModelPath: path, GPU: GPUOff})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "wrong size") {
		t.Errorf("%v", err)
	}
}

func TestNoSoundIsAnEmptyTranscript(t *testing.T) {
	e := openSynthetic(t, 51864, 1)
	for name, samples := range map[string][]float32{"nil": nil, "none": {}, "one": {0.5}, "99 ms": tone(0.099)} {
		got, err := e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: transcript.Params{}})
		if err != nil || len(got.Segments) != 0 || got.Language != "en" || got.Duration != float64(len(samples))/SampleRate {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Every parameter at its ends and a few together: whatever whisper makes of random weights, it must
// come back.
func TestParametersAtTheirEnds(t *testing.T) {
	e := openSynthetic(t, 51865, 1)
	everything := transcript.Params{
		Task: transcript.Translate, Language: "de", Prompt: strings.Repeat("a", 30000), Words: true, Temperature: 1, BestOf: 8,
		BeamSize: 8, MaxContext: ptr(0), MaxLen: 1, SplitOnWord: true, EntropyThold: ptr(1e6), LogprobThold: ptr(1e6),
		NoSpeechThold: ptr(-1e6), WordThold: ptr(0.0), SuppressNonSpeech: true,
	}
	for name, p := range map[string]transcript.Params{
		"detect":             {},
		"long prompt":        {Language: "en", Prompt: strings.Repeat("a", 30000)},
		"prompt of oddities": {Language: "en", Prompt: "\x00\xff語\u202e\n\t'''''", MaxContext: ptr(1 << 30)},
		"hot":                {Language: "en", Temperature: 1, BestOf: 8},
		"steps":              {Language: "en", Temperature: 0.95, TemperatureInc: ptr(0.1)},
		"beams":              {Language: "en", BeamSize: 8, TemperatureInc: ptr(0.0)},
		"characters":         {Language: "en", MaxLen: 1, Words: true, TemperatureInc: ptr(0.0)},
		"no timestamps":      {Language: "en", NoTimestamps: true, Words: true, TemperatureInc: ptr(0.0)},
		"far offset":         {Language: "en", OffsetMS: math.MaxInt32, DurationMS: math.MaxInt32},
		"last moment":        {Language: "en", OffsetMS: 1890, TemperatureInc: ptr(0.0)},
		"tiny context":       {Language: "en", AudioCtx: 1, TemperatureInc: ptr(0.0)},
		"odd context":        {Language: "en", AudioCtx: 77, TemperatureInc: ptr(0.0)},
		"almost all context": {Language: "en", AudioCtx: 1499, TemperatureInc: ptr(0.0)},
		"carried":            {Language: "en", Prompt: "one two three", CarryPrompt: true, TemperatureInc: ptr(0.0)},
		"carried in no room": {Language: "en", Prompt: "one two three", CarryPrompt: true, MaxContext: ptr(1), TemperatureInc: ptr(0.0)},
		"carried in little":  {Language: "en", Prompt: "one two three", CarryPrompt: true, MaxContext: ptr(2), TemperatureInc: ptr(0.0)},
		"everything":         everything,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := e.Transcribe(t.Context(), backend.Job{Samples: tone(2), Params: p})
			if err != nil {
				t.Fatal(err)
			}
			checkShape(t, got.Transcript, 2)
		})
	}
	for name, samples := range map[string][]float32{
		"silence": make([]float32, 2*SampleRate), "100 ms": tone(0.1), "loud": loud(2), "31 s": tone(31),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: greedy()})
			if err != nil {
				t.Fatal(err)
			}
			checkShape(t, got.Transcript, float64(len(samples))/SampleRate)
		})
	}
}

func loud(seconds float64) []float32 {
	samples := tone(seconds)
	for i := range samples {
		samples[i] *= sampleMax
	}
	return samples
}

// checkShape checks what holds of every transcript.
func checkShape(t *testing.T, got transcript.Transcript, duration float64) {
	t.Helper()
	if math.Abs(got.Duration-duration) > 1e-9 || got.Language == "" {
		t.Errorf("duration %v, language %q", got.Duration, got.Language)
	}
	for i, s := range got.Segments {
		if s.ID != i || s.Start < 0 || s.End < s.Start || s.End > duration || len(s.Tokens) == 0 ||
			math.IsNaN(s.AvgLogprob) || s.AvgLogprob > 0 || s.NoSpeechProb < 0 || s.NoSpeechProb > 1 || s.CompressionRatio < 0 {
			t.Errorf("segment %d: %+v", i, s)
		}
	}
	last := 0.0
	for _, w := range got.Words {
		if w.Start < last || w.End < w.Start || w.End > duration || w.Word != strings.TrimSpace(w.Word) || w.Probability < 0 || w.Probability > 1 {
			t.Errorf("word %+v after %v", w, last)
		}
		last = w.End
	}
}

func TestRefusalsReachTheCaller(t *testing.T) {
	e := openSynthetic(t, 51865, 1)
	for name, c := range map[string]struct {
		samples []float32
		p       transcript.Params
	}{
		"parameter": {tone(1), transcript.Params{Temperature: 2}},
		"language":  {tone(1), transcript.Params{Language: "yue"}}, // which only large-v3's vocabulary has
		"samples":   {[]float32{float32(math.NaN()), 0, 0}, transcript.Params{}},
	} {
		var refusal *transcript.Error
		if _, err := e.Transcribe(t.Context(), backend.Job{Samples: c.samples, Params: c.p}); !errors.As(err, &refusal) || refusal.Status != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Runs with aborts in the middle on 1, 2 and 4 states at once: nothing may crash, every call ends
// with its own context's error or a whole answer, and afterwards each slot answers as at first.
func TestSlotsUnderLoadWithAborts(t *testing.T) {
	for _, slots := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			e := openSynthetic(t, 51865, slots)
			samples := tone(5)
			want, err := e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: greedy()})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for caller := range 2 * slots {
				wg.Go(func() { hammer(t, e, samples, textOf(want.Transcript), caller) })
			}
			wg.Wait()
			for range slots { // the free slots are taken in turn
				got, err := e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: greedy()})
				if err != nil || textOf(got.Transcript) != textOf(want.Transcript) {
					t.Errorf("afterwards: %q, %v; at first %q", textOf(got.Transcript), err, textOf(want.Transcript))
				}
			}
		})
	}
}

func hammer(t *testing.T, e *engine, samples []float32, want string, caller int) {
	for i := range 6 {
		ctx, cancel := context.WithCancel(t.Context())
		p := greedy()
		switch (caller + i) % 3 {
		case 0: // let it finish
		case 1: // while it encodes or decodes, at another point each time
			time.AfterFunc(time.Duration(3+7*i+caller)*time.Millisecond, cancel)
		case 2: // a state of its own, sometimes aborted too
			p.AudioCtx = 256
			if i%2 == 0 {
				time.AfterFunc(time.Duration(5*i)*time.Millisecond, cancel)
			}
		}
		got, err := e.Transcribe(ctx, backend.Job{Samples: samples, Params: p})
		switch {
		case err != nil && !(errors.Is(err, context.Canceled) && ctx.Err() != nil):
			t.Errorf("caller %d, run %d: %v", caller, i, err)
		case err == nil && p.AudioCtx == 0 && textOf(got.Transcript) != want:
			t.Errorf("caller %d, run %d: %q, alone %q", caller, i, textOf(got.Transcript), want)
		}
		cancel()
	}
}

// After a failure of the library's the slot makes a new state and goes on.
func TestSlotOutlivesFailures(t *testing.T) {
	e := openSynthetic(t, 51865, 1)
	samples := tone(2)
	want, err := e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: greedy()})
	if err != nil {
		t.Fatal(err)
	}
	s := <-e.slots.free
	o, refusal := newOptions(greedy(), len(samples), e.limits)
	if refusal != nil {
		t.Fatal(refusal)
	}
	o.bestOf = 9 // which newOptions refuses: whisper.cpp answers -4
	if _, err := s.transcribe(t.Context(), backend.Job{Samples: samples}, o); err == nil || !strings.Contains(err.Error(), "too many decoders") {
		t.Errorf("9 decoders: %v", err)
	}
	if s.full != nil {
		t.Error("the state of a failed run is kept")
	}
	e.slots.release(s)
	got, err := e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: greedy()})
	if err != nil || textOf(got.Transcript) != textOf(want.Transcript) {
		t.Errorf("afterwards %q, %v; before %q", textOf(got.Transcript), err, textOf(want.Transcript))
	}
}

func TestEndedContextRunsNothing(t *testing.T) {
	e := openSynthetic(t, 51865, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	if _, err := e.Transcribe(ctx, backend.Job{Samples: tone(1), Params: greedy()}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	taken := <-e.slots.free // all slots busy
	ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if _, err := e.Transcribe(ctx, backend.Job{Samples: tone(1), Params: greedy()}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	e.slots.release(taken)
}
