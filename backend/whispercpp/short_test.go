package whispercpp

import (
	"slices"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/transcript"
)

func TestShortStatesTakeWhatFitsWithAMargin(t *testing.T) {
	for name, c := range map[string]struct {
		seconds float64
		p       transcript.Params
		short   bool
	}{
		"a command":            {2, transcript.Params{}, true},
		"eleven seconds":       {11, transcript.Params{}, true},
		"as long as fits":      {11.36, transcript.Params{}, true},
		"a little longer":      {11.37, transcript.Params{}, false},
		"a window":             {30, transcript.Params{}, false},
		"the end of something": {60, transcript.Params{OffsetMS: 51000}, true},
		// The encoder hears what is behind the part that was asked for, as far as it reaches.
		"the middle of something": {60, transcript.Params{OffsetMS: 20000, DurationMS: 5000}, false},
		"a context of its own":    {5, transcript.Params{AudioCtx: 512}, false},
		"the language":            {5, transcript.Params{DetectOnly: true}, false},
	} {
		o, refusal := newOptions(c.p, int(c.seconds*SampleRate), testLimits(51865))
		if refusal != nil {
			t.Fatal(name, refusal)
		}
		if got := o.goesShort(); got != c.short {
			t.Errorf("%s: goes short: %v", name, got)
		}
	}
}

func TestFirstPassChangesNothingElse(t *testing.T) {
	o, _ := newOptions(transcript.Params{Temperature: 0.2, BeamSize: 3}, SampleRate, testLimits(51865))
	before := *o
	first := o.firstPass()
	if first.temperatureInc != 0 || !first.shortPass || first.beamSize != 3 || *o != before {
		t.Errorf("%+v from %+v", first, o)
	}
}

func TestShortPassIsDistrusted(t *testing.T) {
	fine := func() (transcript.Transcript, evidence) {
		return transcript.Transcript{Language: "en", Segments: []transcript.Segment{{Text: " She sells sea shells by the shore."}}},
			evidence{speech: []int{5, 9, 2, 5, 7, 1, 3}, last: 4.2, logprob: -0.3}
	}
	for name, c := range map[string]struct {
		spoil func(*transcript.Transcript, *evidence)
		want  string
	}{
		"fine":                      {func(*transcript.Transcript, *evidence) {}, ""},
		"a moment late":             {func(_ *transcript.Transcript, e *evidence) { e.last = 4.9 }, ""},
		"sure of the language":      {func(t *transcript.Transcript, _ *evidence) { t.LanguageProbs = map[string]float64{"en": 0.9} }, ""},
		"nothing":                   {func(t *transcript.Transcript, _ *evidence) { t.Segments = nil }, "nothing was heard"},
		"language":                  {func(t *transcript.Transcript, _ *evidence) { t.LanguageProbs = map[string]float64{"en": 0.4} }, "language"},
		"as many tokens as may be":  {func(_ *transcript.Transcript, e *evidence) { e.capped = true }, "did not end"},
		"behind the end":            {func(_ *transcript.Transcript, e *evidence) { e.last = 8.4 }, "behind the end"},
		"improbable":                {func(_ *transcript.Transcript, e *evidence) { e.logprob = -1.2 }, "improbable"},
		"the same text many times":  {func(t *transcript.Transcript, _ *evidence) { t.Segments[0].Text = strings.Repeat(" Thank you.", 20) }, "repeats"},
		"the same words four times": {func(_ *transcript.Transcript, e *evidence) { e.speech = slices.Repeat([]int{4, 8, 6}, 4) }, "repeats"},
	} {
		answer, e := fine()
		c.spoil(&answer, &e)
		o := &options{duration: 4, logprobThold: -1}
		if got := distrust(o, answer, e); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestRepeats(t *testing.T) {
	counted := make([]int, 200)
	for i := range counted {
		counted[i] = i * i % 211 // 0, 1, 4, 9: no stretch comes twice in a row
	}
	for name, c := range map[string]struct {
		tokens []int
		want   bool
	}{
		"none":               {nil, false},
		"speech":             {counted, false},
		"no, no, no":         {slices.Repeat([]int{7, 8}, 5), false},
		"one token":          {slices.Repeat([]int{7}, 12), true},
		"one token, shorter": {slices.Repeat([]int{7}, 11), false},
		"twice a sentence":   {slices.Repeat(counted[:20], 2), false},
		"thrice a sentence":  {slices.Repeat(counted[:20], 3), true},
		"in the middle":      {slices.Concat(counted[:30], slices.Repeat([]int{1, 2, 3, 5}, 4), counted[30:60]), true},
		"too long a unit":    {slices.Repeat(counted[:41], 3), false},
	} {
		if got := repeats(c.tokens); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestShortClipsAutoGoesByWhatWasMeasured(t *testing.T) {
	base := Model{Vocab: 51865, AudioState: 512, AudioLayers: 6, TextLayers: 6}
	for mode, want := range map[string]bool{ShortClipsOn: true, ShortClipsOff: false, ShortClipsAuto: shortMeasured["base"][false]} {
		if got := shortClips(mode, base, false); got != want {
			t.Errorf("%s: %v", mode, got)
		}
	}
	if shortClips(ShortClipsAuto, Model{AudioState: 7}, true) {
		t.Error("an unknown model was never measured")
	}
}

func TestFamily(t *testing.T) {
	for want, m := range map[string]Model{
		"tiny.en":       {Vocab: 51864, AudioState: 384, AudioLayers: 4, TextLayers: 4},
		"base":          {Vocab: 51865, AudioState: 512, AudioLayers: 6, TextLayers: 6},
		"large":         {Vocab: 51866, AudioState: 1280, AudioLayers: 32, TextLayers: 32},
		"turbo":         {Vocab: 51866, AudioState: 1280, AudioLayers: 32, TextLayers: 4},
		"distil-large":  {Vocab: 51865, AudioState: 1280, AudioLayers: 32, TextLayers: 2},
		"distil-medium": {Vocab: 51865, AudioState: 1024, AudioLayers: 24, TextLayers: 2},
		"unknown":       syntheticModel(51865),
	} {
		if got := m.family(); got != want {
			t.Errorf("%+v: %s, want %s", m, got, want)
		}
	}
}
