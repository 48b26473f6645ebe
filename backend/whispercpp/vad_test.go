//go:build whispercpp

package whispercpp

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
)

// openDetector starts Silero's network and closes it with the test.
func openDetector(t testing.TB) *detector {
	t.Helper()
	opened, err := NewDetector(realModel(t, "silero-v6.2.0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened.(*detector)
}

func mustHear(t testing.TB, d *detector, samples []float32) []float32 {
	t.Helper()
	likely, err := d.Speech(t.Context(), samples)
	if err != nil {
		t.Fatal(err)
	}
	if want := (len(samples) + backend.SpeechWindow - 1) / backend.SpeechWindow; len(likely) != want {
		t.Fatalf("%d probabilities of %d samples, want %d", len(likely), len(samples), want)
	}
	return likely
}

// noise is that of a radio between stations.
func noise(seconds float64, loud float32) []float32 {
	random := rand.New(rand.NewPCG(1, 2))
	samples := make([]float32, int(seconds*SampleRate))
	for i := range samples {
		samples[i] = loud * float32(random.NormFloat64())
	}
	return samples
}

func TestDetectorTellsSpeechFromSilence(t *testing.T) {
	d := openDetector(t)
	speech := speechSamples(t, 0, 11)
	likely := mustHear(t, d, slices.Concat(speech, make([]float32, 8*SampleRate), speech))
	share := func(fromSecond, toSecond float64) float64 {
		part := likely[int(fromSecond*SampleRate)/backend.SpeechWindow : int(toSecond*SampleRate)/backend.SpeechWindow]
		n := 0
		for _, p := range part {
			if p >= 0.5 {
				n++
			}
		}
		return float64(n) / float64(len(part))
	}
	for _, c := range []struct {
		from, to, least, most float64
	}{{0, 11, 0.6, 0.9}, {11.5, 18.9, 0, 0}, {19, 30, 0.6, 0.9}} {
		if got := share(c.from, c.to); got < c.least || got > c.most {
			t.Errorf("%v of %v to %v s is speech", got, c.from, c.to)
		}
	}
	for name, samples := range map[string][]float32{
		"silence": make([]float32, 5*SampleRate), "noise": noise(5, 0.05), "loud noise": noise(5, 0.5), "tone": tone(5), "a moment": noise(0.01, 0.1), "nothing": nil,
	} {
		for i, p := range mustHear(t, d, samples) {
			if p >= 0.5 {
				t.Errorf("%s: window %d is speech, %v", name, i, p)
				break
			}
		}
	}
}

// What the network remembers goes from chunk to chunk, and not from one recording to the next.
func TestDetectorHearsChunksAsTheWhole(t *testing.T) {
	samples := slices.Concat(speechSamples(t, 0, 11), noise(3, 0.01), speechSamples(t, 2, 8), make([]float32, 123))
	whole := openDetector(t)
	whole.chunk = len(samples)
	want := mustHear(t, whole, samples)
	for _, chunk := range []int{1, 100, hearingWindows} {
		d := openDetector(t)
		d.chunk = chunk
		for range 2 {
			if got := mustHear(t, d, samples); !slices.Equal(got, want) {
				t.Errorf("in chunks of %d windows it hears something else", chunk)
			}
		}
	}
}

func TestDetectorsTogetherHearWhatEachHearsAlone(t *testing.T) {
	clips := [][]float32{speechSamples(t, 0, 11), speechSamples(t, 3, 9), noise(7, 0.1), speechSamples(t, 5, 11)}
	first := openDetector(t)
	alone := make([][]float32, len(clips))
	for i, clip := range clips {
		alone[i] = mustHear(t, first, clip)
	}
	var wg sync.WaitGroup
	for i := range clips {
		d := openDetector(t)
		wg.Go(func() {
			for round := range 3 * len(clips) {
				clip := (i + round) % len(clips)
				got, err := d.Speech(t.Context(), clips[clip])
				if err != nil || !slices.Equal(got, alone[clip]) {
					t.Errorf("detector %d hears something else in clip %d than alone: %v", i, clip, err)
				}
			}
		})
	}
	wg.Wait()
}

// leaving is a context that ends once it was looked at so many times.
type leaving struct {
	context.Context
	looks int
}

func (l *leaving) Err() error {
	if l.looks--; l.looks < 0 {
		return context.Canceled
	}
	return nil
}

func TestDetectorStopsBetweenChunks(t *testing.T) {
	d := openDetector(t)
	clip := speechSamples(t, 0, 11)
	want := mustHear(t, d, clip)
	d.chunk = 100
	if _, err := d.Speech(&leaving{t.Context(), 2}, clip); !errors.Is(err, context.Canceled) {
		t.Errorf("it went on: %v", err)
	}
	d.chunk = hearingWindows
	if seconds := float64(hearingWindows*backend.SpeechWindow) / SampleRate; seconds > 60 {
		t.Errorf("it looks at the context only after %v s of audio", seconds)
	}
	if got := mustHear(t, d, clip); !slices.Equal(got, want) {
		t.Error("it remembers the recording that it was stopped at")
	}
}

func TestDetectorIsNoOtherModel(t *testing.T) {
	for _, path := range []string{realModel(t, "tiny.en"), "nowhere/ggml-silero.bin"} {
		if _, err := NewDetector(path, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func BenchmarkDetector(b *testing.B) {
	d := openDetector(b)
	samples := slices.Concat(speechSamples(b, 0, 11), make([]float32, 19*SampleRate), speechSamples(b, 0, 11), noise(19, 0.01))
	for b.Loop() {
		mustHear(b, d, samples)
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/(float64(len(samples))/SampleRate/60), "ms/audio-minute")
}

// resident is the memory that this process takes, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(raw))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// Detectors live as long as the server; what they hear must not add up.
func TestHearingTakesNoMemory(t *testing.T) {
	d := openDetector(t)
	clip := speechSamples(t, 0, 11)[:SampleRate/2]
	hear := func(count int) {
		for range count {
			mustHear(t, d, clip)
		}
	}
	hear(100)
	before := resident(t)
	const count = 500
	hear(count)
	if grown := resident(t) - before; grown > 4<<20 { // 8 kB for each
		t.Errorf("%d kB more after %d recordings", grown>>10, count)
	}
	several := make([]*detector, 10)
	before = resident(t)
	for i := range several {
		several[i] = openDetector(t)
		mustHear(t, several[i], clip)
	}
	t.Logf("a detector takes %d kB", (resident(t)-before)/len(several)>>10)
}
