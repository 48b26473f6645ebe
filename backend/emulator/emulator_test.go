package emulator

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/transcript"
)

func emulator(t *testing.T, cfg Config) *Emulator {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func sound(seconds float64) []float32 { return make([]float32, int(seconds*audio.SampleRate)) }

var english = transcript.Params{Task: transcript.Transcribe, Language: "en"}

func TestNewSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Class: "L4", Model: "base", Slots: 1}, "T4, A10G, H100"},
		{Config{Class: "T4", Model: "parakeet", Slots: 1}, "tiny, base"},
		{Config{Class: "T4", Model: "base"}, "slot"},
		{Config{Class: "T4", Model: "base", Slots: 1, SpeedUp: -1}, "speed-up"},
		{Config{Class: "T4", Model: "base", Slots: 1, SpeedUp: math.NaN()}, "speed-up"},
		{Config{Class: "T4", Model: "base", Slots: 1, SpeedUp: math.Inf(1)}, "speed-up"},
	} {
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%+v): %v, want something about %q", c.cfg, err, c.want)
		}
	}
}

func TestInfoIsHonest(t *testing.T) {
	info := emulator(t, Config{Class: "a10g", Model: "base.en", Slots: 3}).Info()
	if info.Engine != "emulator" || info.Device != "emulated A10G" || info.Model != "base.en" || info.Slots != 3 || info.Multilingual {
		t.Errorf("%+v", info)
	}
	if !emulator(t, Config{Class: "T4", Model: "large-v3", Slots: 1}).Info().Multilingual {
		t.Error("large-v3 knows other languages")
	}
}

func TestTextSaysThatItIsEmulated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := emulator(t, Config{Class: "t4", Model: "base", Slots: 1})
		p := english
		p.Words = true
		got, err := e.Transcribe(t.Context(), backend.Job{Samples: sound(42.5), Params: p})
		if err != nil {
			t.Fatal(err)
		}
		if want := "[emulated T4] 30 seconds of audio. [emulated T4] 12.5 seconds of audio."; got.Text() != want {
			t.Errorf("text %q, want %q", got.Text(), want)
		}
		if got.Duration != 42.5 || len(got.Segments) != 2 || got.Segments[1].End != 42.5 || got.Language != "en" || !got.HasWords() {
			t.Errorf("%+v", got)
		}
		if len(got.Words) != 12 || got.Words[0].Word != "[emulated" || math.Abs(got.Words[11].End-42.5) > 1e-9 {
			t.Errorf("words %+v", got.Words)
		}
		p.OffsetMS, p.DurationMS = 10000, 5000
		part, err := e.Transcribe(t.Context(), backend.Job{Samples: sound(42.5), Params: p})
		if err != nil || part.Text() != "[emulated T4] 5 seconds of audio." || part.Segments[0].Start != 10 {
			t.Errorf("a part: %+v, %v", part, err)
		}
		none, err := e.Transcribe(t.Context(), backend.Job{Samples: sound(0.05), Params: p})
		if err != nil || len(none.Segments) != 0 {
			t.Errorf("50 ms: %+v, %v", none, err)
		}
	})
}

// times runs jobs one after the other, in virtual time.
func times(t *testing.T, cfg Config, lengths []float64) (took []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		e := emulator(t, cfg)
		for _, seconds := range lengths {
			started := time.Now()
			if _, err := e.Transcribe(t.Context(), backend.Job{Samples: sound(seconds), Params: english}); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(started))
		}
	})
	return took
}

func TestTimesAreTheLawsAndRepeatWithTheSeed(t *testing.T) {
	lengths := make([]float64, 400)
	for i := range lengths {
		lengths[i] = 5
	}
	cfg := Config{Class: "T4", Model: "base", Slots: 1, Seed: 7}
	first, second := times(t, cfg, lengths), times(t, cfg, lengths)
	var sum time.Duration
	for i := range first {
		if first[i] != second[i] {
			t.Fatalf("job %d took %v, then %v, with one seed", i, first[i], second[i])
		}
		sum += first[i]
	}
	law, _ := gpu.LawOf("T4", "base")
	mean, typical := sum/time.Duration(len(first)), law.Typical(gpu.Job{Seconds: 5, Speech: 1})
	if ratio := float64(mean) / float64(typical); ratio < 0.95 || ratio > 1.15 { // fallbacks add a few per cent
		t.Errorf("jobs took %v on average, typical are %v", mean, typical)
	}
	cfg.Seed = 8
	if other := times(t, cfg, lengths); other[0] == first[0] && other[1] == first[1] {
		t.Error("another seed gave the same times")
	}
	cfg.Seed, cfg.SpeedUp = 7, 10
	fast := times(t, cfg, lengths)
	for i := range fast {
		if d := first[i] - 10*fast[i]; d.Abs() > 10*time.Nanosecond*2 {
			t.Fatalf("job %d took %v at ten times the speed of %v", i, fast[i], first[i])
		}
	}
}

// Two jobs of equal work on a card that two share without gain take twice as long as one; a third
// that comes halfway slows them from there on.
func TestJobsShareTheCard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCard(0, func(jobs int) float64 { return 1 / float64(jobs) })
		start := time.Now()
		ends := make([]time.Duration, 3)
		var wg sync.WaitGroup
		job := func(i int, after, work time.Duration) {
			wg.Go(func() {
				<-time.After(after) // virtual time
				if err := c.run(t.Context(), work); err != nil {
					t.Error(err)
				}
				ends[i] = time.Since(start)
			})
		}
		job(0, 0, 10*time.Second)
		job(1, 0, 10*time.Second)
		job(2, 10*time.Second, 5*time.Second) // when the others have 5 s of work left each
		wg.Wait()
		for i, end := range ends {
			if (end - 25*time.Second).Abs() > time.Microsecond {
				t.Errorf("job %d ended after %v, want 25 s", i, end)
			}
		}
	})
}

func TestGainComesFromTheLaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := emulator(t, Config{Class: "H100", Model: "base", Slots: 4})
		start := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { _ = e.card.run(t.Context(), time.Second) })
		}
		wg.Wait()
		want := time.Duration(float64(time.Second) * 4 / math.Pow(4, 0.7))
		if got := time.Since(start); (got - want).Abs() > time.Microsecond {
			t.Errorf("4 jobs of 1 s took %v side by side, want %v", got, want)
		}
	})
}

func TestCancelEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := emulator(t, Config{Class: "T4", Model: "large", Slots: 2})
		ctx, cancel := context.WithCancel(t.Context())
		started := time.Now()
		done := make(chan error, 1)
		go func() {
			_, err := e.Transcribe(ctx, backend.Job{Samples: sound(3600), Params: english})
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("err %v", err)
		}
		if took := time.Since(started); took != 0 {
			t.Errorf("took %v of virtual time", took)
		}
		if jobs, _ := e.card.now(); jobs != 0 {
			t.Errorf("%d jobs left on the card", jobs)
		}
		if _, err := e.Transcribe(ctx, backend.Job{Samples: sound(1), Params: english}); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that ended before: %v", err)
		}
	})
}

// Two models on one card slow each other, on two cards they do not.
func TestModelsBesideEachOtherShareTheCard(t *testing.T) {
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			first := emulator(t, Config{Class: "T4", Model: "large-v3", Slots: 1, Seed: 1})
			cfg := Config{Class: "T4", Model: "large-v3", Slots: 1, Seed: 1}
			alone := emulator(t, cfg)
			if shared {
				cfg.Beside = first
			}
			second := emulator(t, cfg)
			took := func(engines ...*Emulator) time.Duration {
				start := time.Now()
				var wg sync.WaitGroup
				for _, e := range engines {
					wg.Go(func() {
						job := backend.Job{Samples: make([]float32, 16000), Params: transcript.Params{Language: "en"}}
						if _, err := e.Transcribe(t.Context(), job); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				return time.Since(start)
			}
			one, both := took(alone), took(first, second)
			if slower := both > one*11/10; slower != shared {
				t.Errorf("one job takes %v, two beside each other %v (one card: %v)", one, both, shared)
			}
		})
	}
}

func TestSlotsComeAndGo(t *testing.T) {
	e := emulator(t, Config{Class: "T4", Model: "base", Slots: 2})
	for _, n := range []int{5, 1, 64} {
		if err := e.Resize(n); err != nil || e.Info().Slots != n || e.Info().SlotsMax < n {
			t.Errorf("%d: %v, %+v", n, err, e.Info())
		}
	}
	for _, n := range []int{0, -1, 65} {
		if err := e.Resize(n); err == nil || e.Info().Slots != 64 {
			t.Errorf("%d slots: %v, %+v", n, err, e.Info())
		}
	}
}

// A card holds as many slots as fit its memory, and what is closed makes room.
func TestMemoryRunsOut(t *testing.T) {
	e := emulator(t, Config{Class: "T4", Model: "large-v3", Slots: 4})
	large, _ := gpu.MemoryOfModel("large-v3")
	if info := e.Info(); info.Bytes != uint64(large.Weights+4*large.Slot) || info.DeviceTotal != 16e9 || info.DeviceFree != 16e9-info.Bytes {
		t.Errorf("%+v", info)
	}
	if err := e.Resize(64); err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("64 slots: %v", err)
	}
	n := e.Info().Slots // those that there are stay
	if want := int((16e9 - large.Weights) / large.Slot); n != want {
		t.Errorf("%d slots fit, want %d", n, want)
	}
	second := Config{Class: "T4", Model: "medium", Slots: 1, Beside: e}
	if _, err := New(second); err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("a second model on a full card: %v", err)
	}
	if err := e.Resize(2); err != nil {
		t.Fatal(err)
	}
	second.Slots = 64
	both := emulator(t, second)
	medium, _ := gpu.MemoryOfModel("medium")
	if n, free := both.Info().Slots, e.card.free(); n < 1 || free < 0 || free >= medium.Slot {
		t.Errorf("a second model starts with %d of 64 slots, which leaves %d bytes", n, free)
	}
	if err := errors.Join(e.Close(), both.Close()); err != nil {
		t.Fatal(err)
	}
	if free := e.card.free(); free != 16e9 {
		t.Errorf("%d bytes are free of a card with nothing on it", free)
	}
	emulator(t, Config{Class: "T4", Model: "large-v3", Slots: 64, Memory: 80e9})
}

// A law that is given counts, not that of class and model, and so does how much of the audio is speech.
func TestAMeasuredLawIsObeyed(t *testing.T) {
	took := func(law gpu.Law, speech float64) time.Duration {
		cfg := Config{Class: "desk", Model: "of our own", Slots: 1, Seed: 3, Law: &law, Speech: speech}
		return times(t, cfg, []float64{30})[0]
	}
	one := took(gpu.Law{Token: time.Millisecond, GainMax: 1}, 0)
	for _, c := range []struct {
		law    gpu.Law
		speech float64
		want   float64 // times as long
	}{
		{gpu.Law{Token: 3 * time.Millisecond, GainMax: 1}, 1, 3},
		{gpu.Law{Token: time.Millisecond, GainMax: 1}, 0.5, 0.5},
		{gpu.Law{Encode: 110 * time.Millisecond, GainMax: 1}, 0.5, 1},
	} {
		if got := float64(took(c.law, c.speech)) / float64(one); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%+v with %v of speech: %v times as long, want %v", c.law, c.speech, got, c.want)
		}
	}
}
