package whispercpp

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/transcript"
)

// speech builds segments of whisper's from token texts, each 100 ms long.
func speech(segments ...[]string) ([]rawSegment, vocabulary) {
	v := vocabulary{}
	var raw []rawSegment
	at := int64(0)
	for _, texts := range segments {
		s := rawSegment{t0: at, text: strings.Join(texts, "")}
		for _, text := range texts {
			s.tokens = append(s.tokens, token{id: len(v.texts), p: 0.5, plog: math.Log(0.5), t0: at, t1: at + 10})
			v.texts = append(v.texts, text)
			at += 10
		}
		s.t1 = at
		raw = append(raw, s)
	}
	v.eot, v.begin = len(v.texts), len(v.texts)+1
	v.texts = append(v.texts, "[_EOT_]", "[_BEG_]")
	return raw, v
}

// assemble gives an assembler all segments at once, and checks what it tells of them on the way.
func assemble(t *testing.T, o *options, language string, raw []rawSegment, v vocabulary) transcript.Transcript {
	t.Helper()
	var told []transcript.Segment
	a := newAssembler(o, language, v, func(s transcript.Segment) { told = append(told, s) })
	for _, s := range raw {
		a.add(s)
	}
	got := a.finish()
	if !reflect.DeepEqual(told, got.Segments) {
		t.Errorf("told %+v, the answer has %+v", told, got.Segments)
	}
	return got
}

func spoken(words []transcript.Word) []string {
	var texts []string
	for _, w := range words {
		texts = append(texts, w.Word)
	}
	return texts
}

func TestWordsAreJoinedFromTokens(t *testing.T) {
	for name, c := range map[string]struct {
		language string
		segments [][]string
		want     []string
	}{
		"parts and marks":     {"en", [][]string{{" And", " so", ",", " my", " fell", "ow", "."}}, []string{"And", "so,", "my", "fellow."}},
		"no leading space":    {"en", [][]string{{"And", " so"}}, []string{"And", "so"}},
		"part of a character": {"de", [][]string{{" sch", "\xc3", "\xb6", "n", " da"}}, []string{"schön", "da"}},
		"across segments":     {"de", [][]string{{" K\xc3"}, {"\xb6ln", " ist"}}, []string{"Köln", "ist"}},
		"broken for good":     {"en", [][]string{{" a\xe8"}}, []string{"a\uFFFD"}},
		"spaces alone":        {"en", [][]string{{" a", " ", " b"}}, []string{"a", "b"}},
		"without spaces":      {"ja", [][]string{{"日本", "語", "。", "\xe3\x81", "\xae"}}, []string{"日本", "語。", "の"}},
		"marks at the start":  {"ja", [][]string{{"「", "本"}}, []string{"「", "本"}},
		"nothing":             {"en", nil, nil},
		"hyphen of its own":   {"en", [][]string{{" a", " -", " b", "-", "c"}}, []string{"a", "-", "b-c"}},
	} {
		raw, v := speech(c.segments...)
		got := assemble(t, &options{words: true, duration: 60}, c.language, raw, v)
		if texts := spoken(got.Words); !slices.Equal(texts, c.want) {
			t.Errorf("%s: %q, want %q", name, texts, c.want)
		}
	}
}

func TestWordTimesStayInOrderAndInTheSegment(t *testing.T) {
	raw, v := speech([]string{" a", " b", " c"}, []string{" d", " e"})
	raw[0].tokens[0].t1 = 25     // reaches into the next word
	raw[0].tokens[1].t0 = -1     // unknown
	raw[0].tokens[2].t1 = 100000 // far behind the end
	raw[1].tokens[0].t0 = 0      // before its segment
	raw[1].tokens[1].t1 = 5      // ends before it begins
	got := assemble(t, &options{words: true, duration: 60}, "en", raw, v)
	last := 0.0
	for _, w := range got.Words {
		if w.Start < last || w.End < w.Start {
			t.Errorf("%+v comes after %v", w, last)
		}
		last = w.End
	}
	if last > got.Segments[1].End || got.Words[3].Start < got.Segments[1].Start {
		t.Errorf("words %+v leave their segments", got.Words)
	}
	if p := got.Words[0].Probability; p != 0.5 {
		t.Errorf("probability %v", p)
	}
}

func TestSegmentsAreFilled(t *testing.T) {
	raw, v := speech([]string{" Hello", " there"}, []string{" you \xe8\xaa"}, []string{"\x9e."})
	raw[0].noSpeechProb = 0.25
	raw[0].tokens = append(raw[0].tokens, token{id: v.eot, plog: math.Log(0.125)})
	raw[0].temperature = 0.4
	raw[2].t1 = 3000 // the end of whisper's window
	got := assemble(t, &options{task: transcript.Translate, duration: 11}, "de", raw, v)
	if got.Task != transcript.Translate || got.Language != "de" || got.Duration != 11 || got.Words != nil || len(got.Segments) != 3 {
		t.Fatalf("%+v", got)
	}
	s := got.Segments[0]
	if s.ID != 0 || s.Start != 0 || s.End != 0.2 || s.Text != " Hello there" || !slices.Equal(s.Tokens, []int{0, 1, v.eot}) ||
		s.Temperature != 0.4 || s.NoSpeechProb != 0.25 || math.Abs(s.AvgLogprob-math.Log(0.5)*5/3) > 1e-9 {
		t.Errorf("%+v", s)
	}
	if got.Segments[1].Text != " you " || got.Segments[2].Text != "語." || got.Segments[2].ID != 2 || got.Segments[2].End != 11 ||
		got.Segments[1].NoSpeechProb != 0.25 {
		t.Errorf("%+v", got.Segments[1:])
	}
}

// The figures are Python's, len(t.encode()) / len(zlib.compress(t.encode())); Go's zlib packs a
// byte or two differently.
func TestCompressionRatio(t *testing.T) {
	jfk := " And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."
	for text, want := range map[string]float64{
		"": 0, "Hello": 5.0 / 13, strings.Repeat("again and ", 50): 500.0 / 23, jfk: 109.0 / 80,
	} {
		if got := compressionRatio(text); math.Abs(got-want) > want/20 {
			t.Errorf("%.20q: %v, want about %v", text, got, want)
		}
	}
}

// whisper.cpp's server gives the tokens of each segment for its words, and leaves the markers out.
func TestSegmentsAsTheServerHasThem(t *testing.T) {
	raw, v := speech([]string{" Gr", "\xc3", "\xbc", "ezi"}, []string{" mit\xe8", "\xaa", "\x9e"})
	raw[0].tokens = append(raw[0].tokens, token{id: v.begin + 20, tid: v.begin + 20, plog: math.Log(0.25)})
	raw[0].tokens[1].t1 = -1
	got := assemble(t, &options{asServer: true, words: true, tokenWords: true, duration: 60}, "de", raw, v)
	s := got.Segments[0]
	if want := []string{" Gr", "ü", "ezi"}; !slices.Equal(spoken(s.Words), want) || !slices.Equal(s.Tokens, []int{0, 1, 2, 3}) || got.Words != nil {
		t.Errorf("%+v, want the words %q", got, want)
	}
	if want := math.Log(0.5) * 4 / 5; math.Abs(s.AvgLogprob-want) > 1e-9 {
		t.Errorf("%v, want %v", s.AvgLogprob, want)
	}
	if w := s.Words[1]; w.Start != 0.1 || w.End != 0.3 || w.Probability != 0.5 {
		t.Errorf("%+v", w)
	}
	if want := []string{" mit語"}; !slices.Equal(spoken(got.Segments[1].Words), want) {
		t.Errorf("%q, want %q", spoken(got.Segments[1].Words), want)
	}
}

func TestSpeakersTurnIsMarked(t *testing.T) {
	raw, v := speech([]string{" Yes?"}, []string{" No."})
	raw[0].speakerTurn = true
	for on, want := range map[bool]string{true: " Yes? [SPEAKER_TURN]", false: " Yes?"} {
		if got := assemble(t, &options{tinyDiarize: on, duration: 60}, "en", raw, v); got.Segments[0].Text != want || got.Segments[1].Text != " No." {
			t.Errorf("%+v, want %q", got.Segments, want)
		}
	}
}

// Timestamps are counted from the beginning of their window, so that it can be told from them.
func TestSeekIsWhereTheWindowBegan(t *testing.T) {
	raw, v := speech([]string{" a"}, []string{" b"}, []string{" c"})
	stamp := func(units int) token { return token{id: v.begin + units, tid: v.begin + units} }
	raw[0].window, raw[0].t1, raw[0].tokens = 1, 480, append(raw[0].tokens, stamp(240))
	raw[1].window, raw[1].t1 = 1, 3000 // without a timestamp of its own, in the same window
	raw[2].window, raw[2].t0, raw[2].t1, raw[2].tokens = 2, 2960, 3100, append(raw[2].tokens, stamp(120))
	got := assemble(t, &options{duration: 60}, "en", raw, v)
	for i, want := range []int{0, 0, 2860} {
		if got.Segments[i].Seek != want {
			t.Errorf("segment %d: %d, want %d", i, got.Segments[i].Seek, want)
		}
	}
}
