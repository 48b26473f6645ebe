//go:build whispercpp

package whispercpp

import (
	"slices"
	"testing"

	"github.com/whisperpool/whisperpool/transcript"
)

// Short clips are done on a small context, and once more on the full one where that went wrong.
func TestShortClips(t *testing.T) {
	path := writeSynthetic(t, syntheticModel(51865))
	short := open(t, Config{ModelPath: path, Slots: 1, Threads: 1, ShortClips: ShortClipsOn})
	full := open(t, Config{ModelPath: path, Slots: 1, Threads: 1, ShortClips: ShortClipsOff})
	if !short.Info().ShortClips || full.Info().ShortClips || short.Info().Bytes <= full.Info().Bytes {
		t.Errorf("%+v, %+v", short.Info(), full.Info())
	}
	segments, got := told(t, short, tone(2), greedy()) // random weights are never sure of anything
	if !got.Work.Short || !got.Work.Again || got.Work.Windows < 2 || got.Work.Windows > 1+shortWindowsMax {
		t.Errorf("%+v", got.Work)
	}
	if want := mustTranscribe(t, full, tone(2), greedy()); textOf(got.Transcript) != textOf(want) {
		t.Errorf("%q, on the full context alone %q", textOf(got.Transcript), textOf(want))
	}
	if len(segments) != len(got.Segments) {
		t.Errorf("%d segments are told of %d: the first try is nobody's business", len(segments), len(got.Segments))
	}
	for name, c := range map[string]struct {
		seconds float64
		p       transcript.Params
	}{"a long clip": {12, greedy()}, "a context of its own": {2, transcript.Params{Language: "en", AudioCtx: 256, TemperatureInc: ptr(0.0)}}} {
		if _, got := told(t, short, tone(c.seconds), c.p); got.Work.Short || got.Work.Again {
			t.Errorf("%s: %+v", name, got.Work)
		}
	}
}

func TestRealShortClips(t *testing.T) {
	model := realModel(t, "tiny.en")
	short := open(t, Config{ModelPath: model, Slots: 1, Threads: 1, ShortClips: ShortClipsOn, Cold: true})
	full := openReal(t, "tiny.en", 1)
	for _, seconds := range []int{3, 11} {
		p := transcript.Params{Words: true}
		segments, got := told(t, short, speechSamples(t, 0, seconds), p)
		want := mustTranscribe(t, full, speechSamples(t, 0, seconds), p)
		if !got.Work.Short || got.Work.Again || got.Work.Windows != 1 || len(segments) != len(got.Segments) {
			t.Errorf("%d s: %+v, %d segments told of %d", seconds, got.Work, len(segments), len(got.Segments))
		}
		if !slices.Equal(spoken(got.Words), spoken(want.Words)) {
			t.Errorf("%d s: heard %q, on the full context %q", seconds, spoken(got.Words), spoken(want.Words))
		}
	}
}
