//go:build whispercpp

package whispercpp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// The tests here hear real speech with a real model, from the folder WHISPERPOOL_TEST_MODEL_DIR.

func openReal(t testing.TB, name string, slots int) *engine {
	t.Helper()
	return open(t, Config{ModelPath: realModel(t, name), Slots: slots, Threads: 1, Cold: true})
}

func realModel(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("WHISPERPOOL_TEST_MODEL_DIR")
	if dir == "" {
		t.Skip("WHISPERPOOL_TEST_MODEL_DIR is not set; `make test` sets it")
	}
	return filepath.Join(dir, "ggml-"+name+".bin")
}

// jfk is the recording that comes with the bindings: 11 s of 16 kHz mono.
var jfk = sync.OnceValues(func() ([]float32, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ggerganov/whisper.cpp/bindings/go").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "samples", "jfk.wav"))
	if err != nil {
		return nil, err
	}
	at := bytes.Index(raw, []byte("data"))
	if at < 0 {
		return nil, errors.New("jfk.wav has no data chunk")
	}
	raw = raw[at+8:]
	samples := make([]float32, len(raw)/2)
	for i := range samples {
		samples[i] = float32(int16(binary.LittleEndian.Uint16(raw[2*i:]))) / (1 << 15)
	}
	return samples, nil
})

func speechSamples(t testing.TB, fromSecond, toSecond int) []float32 {
	t.Helper()
	samples, err := jfk()
	if err != nil {
		t.Fatal(err)
	}
	return samples[fromSecond*SampleRate : toSecond*SampleRate]
}

func mustTranscribe(t testing.TB, e *engine, samples []float32, p transcript.Params) transcript.Transcript {
	t.Helper()
	got, err := e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: p})
	if err != nil {
		t.Fatal(err)
	}
	return got.Transcript
}

func TestRealSpeech(t *testing.T) {
	for _, name := range []string{"base", "tiny.en"} {
		t.Run(name, func(t *testing.T) {
			e := openReal(t, name, 1)
			got := mustTranscribe(t, e, speechSamples(t, 0, 11), transcript.Params{Words: true}) // language: detected
			checkShape(t, got, 11)
			text := strings.TrimSpace(textOf(got))
			heard := strings.NewReplacer(",", "", ".", "").Replace(strings.ToLower(text))
			want := "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
			if heard != want || got.Language != "en" {
				t.Errorf("heard %q in %q", text, got.Language)
			}
			if words := strings.Join(spoken(got.Words), " "); words != text {
				t.Errorf("words %q, text %q", words, text)
			}
			first, last := got.Words[0], got.Words[len(got.Words)-1]
			if first.Start > 1.5 || last.End < 9 || last.End-last.Start > 2 {
				t.Errorf("the first word is %+v, the last %+v", first, last)
			}
			if s := got.Segments[0]; s.AvgLogprob < -0.7 || s.NoSpeechProb > 0.5 || s.CompressionRatio < 1 || s.CompressionRatio > 2 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Words are timed by tokens and sound, not by attention: how that is computed changes neither them nor
// their times.
func TestFlashAttentionMovesNoWord(t *testing.T) {
	var answers []transcript.Transcript
	for _, flash := range []bool{true, false} {
		e, err := New(Config{ModelPath: realModel(t, "tiny.en"), GPU: GPUOff, Threads: 1, Cold: true, FlashAttention: flash})
		if err != nil {
			t.Fatal(err)
		}
		p := greedy()
		p.Words = true
		answers = append(answers, mustTranscribe(t, e.(*engine), speechSamples(t, 0, 11), p))
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	with, without := answers[0].Words, answers[1].Words
	if len(with) < 20 || len(with) != len(without) {
		t.Fatalf("%d words with flash attention, %d without", len(with), len(without))
	}
	for i, word := range with {
		if other := without[i]; word.Word != other.Word || math.Abs(word.Start-other.Start) > 0.1 || math.Abs(word.End-other.End) > 0.1 {
			t.Errorf("%+v with flash attention, %+v without", word, other)
		}
	}
}

// Nothing of one request may be in the answer to the next: not after another clip, not after a
// shrunk context, not after a run that was aborted.
func TestStateKeepsNothing(t *testing.T) {
	e := openReal(t, "tiny.en", 1)
	clip, other := speechSamples(t, 0, 5), speechSamples(t, 5, 11)
	fresh := mustTranscribe(t, e, clip, greedy())
	if textOf(fresh) == "" {
		t.Fatal("heard nothing")
	}
	for name, between := range map[string]func(){
		"another clip": func() { mustTranscribe(t, e, other, greedy()) },
		"a shrunk context": func() {
			p := greedy()
			p.AudioCtx = 768
			if got := mustTranscribe(t, e, other, p); textOf(got) == "" {
				t.Error("heard nothing with the shrunk context")
			}
		},
		"beams and a prompt": func() {
			p := greedy()
			p.BeamSize, p.Prompt = 5, "A speech by the president."
			mustTranscribe(t, e, other, p)
		},
		"an abort": func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := e.Transcribe(ctx, backend.Job{Samples: other, Params: greedy()}); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		},
	} {
		between()
		if got := mustTranscribe(t, e, clip, greedy()); !reflect.DeepEqual(got, fresh) {
			t.Errorf("after %s: %+v\nfresh: %+v", name, got, fresh)
		}
	}
}

// Two runs at the same shrunk context are equal whatever ran between, since neither sees it.
func TestShrunkContextKeepsNothing(t *testing.T) {
	e := openReal(t, "tiny.en", 1)
	clip, other := speechSamples(t, 0, 5), speechSamples(t, 5, 11)
	p := greedy()
	p.AudioCtx = 600 // no multiple of 256, so that rows beyond it are read
	first := mustTranscribe(t, e, clip, p)
	mustTranscribe(t, e, other, greedy())
	if again := mustTranscribe(t, e, clip, p); !reflect.DeepEqual(again, first) {
		t.Errorf("%+v\nat first: %+v", again, first)
	}
}

func TestSlotsTogetherHearWhatEachHearsAlone(t *testing.T) {
	e := openReal(t, "tiny.en", 4)
	clips := [][]float32{speechSamples(t, 0, 11), speechSamples(t, 0, 5), speechSamples(t, 3, 9), speechSamples(t, 5, 11)}
	alone := make([]transcript.Transcript, len(clips))
	for i, clip := range clips {
		alone[i] = mustTranscribe(t, e, clip, greedy())
	}
	var wg sync.WaitGroup
	for i, clip := range clips {
		wg.Go(func() {
			got, err := e.Transcribe(t.Context(), backend.Job{Samples: clip, Params: greedy()})
			if err != nil || !reflect.DeepEqual(got.Transcript, alone[i]) {
				t.Errorf("clip %d together: %+v, %v\nalone: %+v", i, got, err, alone[i])
			}
		})
	}
	wg.Wait()
}

// Long audio stops within one graph run of the client's leaving, the longest of which encodes a
// window; whether it was detecting the language, encoding or decoding then.
func TestAbortIsPrompt(t *testing.T) {
	e := openReal(t, "base", 1)
	long := make([]float32, 0, 110*SampleRate)
	for range 10 {
		long = append(long, speechSamples(t, 0, 11)...)
	}
	begin := time.Now()
	mustTranscribe(t, e, speechSamples(t, 0, 1), greedy())
	window := time.Since(begin) // encodes one and decodes little, on this machine as busy as it is
	for _, part := range []float64{0.02, 0.7, 2} {
		after := time.Duration(part * float64(window))
		ctx, cancel := context.WithTimeout(t.Context(), after)
		begin := time.Now()
		p := greedy()
		p.Language = ""
		_, err := e.Transcribe(ctx, backend.Job{Samples: long, Params: p})
		late := time.Since(begin) - after
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", after, err)
		}
		t.Logf("one window takes %v; aborted after %v: back %v later", window, after, late)
		if late > 3*window+time.Second {
			t.Errorf("one window takes %v; aborted after %v: back only %v later", window, after, late)
		}
	}
}

func BenchmarkSpeech(b *testing.B) {
	for _, name := range []string{"base", "tiny.en"} {
		b.Run(name, func(b *testing.B) {
			e := openReal(b, name, 1)
			clip := speechSamples(b, 0, 11)
			for b.Loop() {
				mustTranscribe(b, e, clip, greedy())
			}
		})
	}
}
