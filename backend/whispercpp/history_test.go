//go:build whispercpp

package whispercpp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// request is one of the requests that these tests mix.
type request struct {
	name    string
	samples []float32
	p       transcript.Params
}

// mixture are requests of all kinds for a multilingual model: what one leaves in a state must not
// be in the answer to the next. clips are a few of different lengths.
func mixture(clips ...[]float32) []request {
	var all []request
	for i, clip := range clips {
		for name, p := range map[string]transcript.Params{
			"greedy":      {Language: "en", TemperatureInc: ptr(0.0)},
			"detected":    {TemperatureInc: ptr(0.0)},
			"fallbacks":   {Language: "en", TemperatureInc: ptr(0.5)},
			"hot":         {Language: "en", Temperature: 0.8, BestOf: 3, TemperatureInc: ptr(0.0)},
			"beams":       {Language: "en", BeamSize: 3, TemperatureInc: ptr(0.0)},
			"prompt":      {Language: "de", Prompt: "Ein Satz, der vorausgeht, und noch einer.", TemperatureInc: ptr(0.0)},
			"carried":     {Language: "en", Prompt: "one two three", CarryPrompt: true, TemperatureInc: ptr(0.0)},
			"words":       {Language: "fr", Words: true, TemperatureInc: ptr(0.0)},
			"pieces":      {API: transcript.WhisperServer, Format: transcript.VerboseJSON, Language: "en", Words: true, MaxLen: 7, TemperatureInc: ptr(0.0)},
			"translated":  {Task: transcript.Translate, Language: "de", NoTimestamps: true, TemperatureInc: ptr(0.0)},
			"part":        {Language: "en", OffsetMS: 500, DurationMS: 1000, TemperatureInc: ptr(0.0)},
			"odd context": {Language: "en", AudioCtx: 300, TemperatureInc: ptr(0.0)},
			"language":    {DetectOnly: true},
			"no context":  {Language: "en", MaxContext: ptr(0), SuppressNonSpeech: true, TemperatureInc: ptr(0.0)},
		} {
			all = append(all, request{fmt.Sprintf("%s of clip %d", name, i), clip, p})
		}
	}
	return all
}

// expected are the answers that each request gets on a slot that has done nothing before.
func expected(t *testing.T, e *engine, requests []request) []backend.Result {
	t.Helper()
	answers := make([]backend.Result, len(requests))
	for i, r := range requests {
		if err := e.Resize(0); err != nil {
			t.Fatal(err)
		}
		if err := e.Resize(1); err != nil {
			t.Fatal(err)
		}
		var err error
		if answers[i], err = e.Transcribe(t.Context(), backend.Job{Samples: r.samples, Params: r.p}); err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
	}
	return answers
}

// Requests of all kinds, from several clients at once, some of whom leave in the middle: each gets
// what it would get as the first one of a process.
func testMixture(t *testing.T, e *engine, requests []request, total int) {
	t.Helper()
	e.warm = false
	want := expected(t, e, requests)
	e.warm = true
	const clients = 4
	if err := e.Resize(clients - 1); err != nil { // so that they wait, too
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			chance := rand.New(rand.NewPCG(7, uint64(client)))
			for range total / clients {
				i := chance.IntN(len(requests))
				r := requests[i]
				ctx, cancel := context.WithCancel(t.Context())
				if chance.IntN(8) == 0 {
					time.AfterFunc(time.Duration(chance.IntN(40))*time.Millisecond, cancel)
				}
				got, err := e.Transcribe(ctx, backend.Job{Samples: r.samples, Params: r.p})
				switch {
				case errors.Is(err, context.Canceled) && ctx.Err() != nil:
				case err != nil:
					t.Errorf("%s: %v", r.name, err)
				case !reflect.DeepEqual(got, want[i]):
					t.Errorf("%s: %+v\nalone: %+v", r.name, got, want[i])
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

func TestMixedRequestsGetWhatEachGetsAlone(t *testing.T) {
	e := open(t, Config{
		ModelPath: writeSynthetic(t, syntheticModel(51865)), ModelID: "synthetic", Slots: 1, Threads: 1, ShortClips: ShortClipsOn, Cold: true,
	})
	testMixture(t, e, mixture(tone(2), tone(13)), 40)
}

func TestRealMixedRequestsGetWhatEachGetsAlone(t *testing.T) {
	e := open(t, Config{ModelPath: realModel(t, "tiny.en"), Slots: 1, Threads: 1, ShortClips: ShortClipsOn, Cold: true})
	clip, other := speechSamples(t, 0, 5), speechSamples(t, 3, 11)
	testMixture(t, e, []request{
		{"short", clip, transcript.Params{TemperatureInc: ptr(0.0)}},
		{"another short one", other, transcript.Params{Words: true}},
		{"full", clip, transcript.Params{AudioCtx: 1500, MaxContext: ptr(0), OffsetMS: 100}},
		{"beams", clip, transcript.Params{BeamSize: 3}},
	}, 4)
}
