//go:build whispercpp

package whispercpp

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// told runs a job and returns what it told on the way, too.
func told(t *testing.T, e *engine, samples []float32, p transcript.Params) ([]transcript.Segment, backend.Result) {
	t.Helper()
	var segments []transcript.Segment
	result, err := e.Transcribe(t.Context(), backend.Job{
		Samples: samples, Params: p, Segment: func(s transcript.Segment) { segments = append(segments, s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return segments, result
}

// What is told is what the answer has: same segments, same order, nothing more and nothing less. And
// telling changes nothing.
func TestSegmentsToldAreThoseOfTheAnswer(t *testing.T) {
	e := openSynthetic(t, 51865, 1)
	samples := tone(32)
	for name, p := range map[string]transcript.Params{
		"plain":            {Language: "en", TemperatureInc: ptr(0.0)},
		"language unknown": {TemperatureInc: ptr(0.0)},
		"words":            {Language: "en", Words: true, TemperatureInc: ptr(0.0)},
		"short pieces":     {Language: "en", Words: true, MaxLen: 5, TemperatureInc: ptr(0.0)},
		"as the server":    {API: transcript.WhisperServer, Format: transcript.VerboseJSON, Language: "en", Words: true, MaxLen: 60, TemperatureInc: ptr(0.0)},
		"fallbacks":        {Language: "en", TemperatureInc: ptr(0.5)},
	} {
		segments, result := told(t, e, samples, p)
		if len(segments) < 2 || !reflect.DeepEqual(segments, result.Segments) {
			t.Errorf("%s: told %+v\nthe answer has %+v", name, segments, result.Segments)
		}
		for i, s := range segments {
			if s.ID != i || !utf8.ValidString(s.Text) {
				t.Errorf("%s: segment %d: %+v", name, i, s)
			}
		}
		if quiet := mustTranscribe(t, e, samples, p); !reflect.DeepEqual(quiet, result.Transcript) {
			t.Errorf("%s: without telling: %+v\nwith: %+v", name, quiet, result.Transcript)
		}
		checkShape(t, result.Transcript, 32)
	}
}

// A segment is told while the rest is still to be done: a client that leaves then gets no more.
func TestSegmentsComeOnTheWay(t *testing.T) {
	e := openSynthetic(t, 51865, 1)
	ctx, cancel := context.WithCancel(t.Context())
	count := 0
	_, err := e.Transcribe(ctx, backend.Job{Samples: tone(100), Params: greedy(), Segment: func(transcript.Segment) {
		count++
		cancel()
	}})
	if !errors.Is(err, context.Canceled) || count == 0 {
		t.Errorf("%v after %d segments", err, count)
	}
	_, whole := told(t, e, tone(100), greedy())
	if count >= len(whole.Segments) {
		t.Errorf("%d segments were told to who had left at the first; there are %d in all", count, len(whole.Segments))
	}
}

func TestRealSpeechIsTold(t *testing.T) {
	e := openReal(t, "tiny.en", 1)
	samples := slices.Concat(speechSamples(t, 0, 11), make([]float32, 22*SampleRate), speechSamples(t, 0, 4))
	segments, result := told(t, e, samples, transcript.Params{Words: true, TemperatureInc: ptr(0.0)})
	if !reflect.DeepEqual(segments, result.Segments) || len(segments) < 2 {
		t.Errorf("told %+v\nthe answer has %+v", segments, result.Segments)
	}
	if text := textOf(result.Transcript); !strings.Contains(text, "ask what you can do for your country") {
		t.Errorf("heard %q", text)
	}
	first, last := segments[0], segments[len(segments)-1]
	if first.Seek != 0 || last.Seek < 1000 || last.Seek > int(100*last.Start)+1 || last.Start < 30 {
		t.Errorf("the first segment is %+v, the last %+v", first, last)
	}
	if result.Work.Windows < 2 || result.Work.Fallbacks != 0 || result.Work.Tokens < 30 {
		t.Errorf("%+v", result.Work)
	}
}
