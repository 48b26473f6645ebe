package backend

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/transcript"
)

// The answers are those of whisper.cpp 1.9.1's own whisper_vad_segments_from_probs, in hundredths of a second, for
// the same probabilities ("0.1x5": 5 windows of 0.1).
func TestStretchesAreWhispers(t *testing.T) {
	for _, c := range []struct {
		name                       string
		threshold                  float64
		minSpeech, minSilence, pad int     // ms
		maxSpeech                  float64 // s; 0: no limit
		windows, want              string
	}{
		{"nothing said", 0.5, 250, 100, 30, 0, "0.02x40", ""},
		{"a word in the middle", 0.5, 250, 100, 30, 0, "0.1x30 0.9x20 0.05x30", "93-163"},
		{"noise shorter than a word", 0.5, 250, 100, 30, 0, "0.1x30 0.9x7 0.05x30", ""},
		{"doubt does not end it", 0.5, 250, 100, 30, 0, "0.1x10 0.9x10 0.4x20 0.9x10 0.05x30", "29-163"},
		{"a short pause", 0.5, 250, 100, 30, 0, "0.9x20 0.1x3 0.9x20 0.1x10", "0-141"},
		{"two that almost touch", 0.5, 250, 100, 30, 0, "0.9x20 0.1x6 0.9x20 0.1x10", "0-150"},
		{"two apart", 0.5, 250, 100, 30, 0, "0.1x5 0.9x20 0.1x8 0.9x20 0.1x10", "13-83 103-173"},
		{"more pad than there is between", 0.5, 250, 100, 400, 0, "0.1x5 0.9x20 0.1x11 0.9x20", "0-98 98-179"},
		{"until the end", 0.5, 250, 100, 30, 0, "0.1x9 0.9x30", "26-125"},
		{"pauses of any length", 0.5, 250, 2000, 30, 0, "0.9x20 0.1x40 0.9x20 0.1x70 0.9x10", "0-259 477-512"},
		{"too long, no pause", 0.5, 250, 100, 30, 2, "0.9x100", "0-320"},
		{"too long, with a pause", 0.5, 250, 1000, 30, 3, "0.9x40 0.1x20 0.9x60 0.1x40", "0-131 189-387"},
		{"too long, in a pause", 0.5, 250, 3000, 30, 2, "0.9x40 0.1x50 0.9x20", "0-131 285-352"},
		{"hard to please", 0.9, 0, 0, 0, 0, "0.8x10 0.95x10 0.8x5 0.7x5 0.95x1 0.7x9", "32-99"},
		{"easy to please", 0.05, 0, 0, 0, 0, "0.04x10 0.06x10 0.02x5 0.005x5", "32-80"},
		{"a click that is heard", 0.5, 0, 100, 30, 0, "0.1x10 0.9x1 0.1x10", "29-38"},
	} {
		var likely []float32
		for run := range strings.FieldsSeq(c.windows) {
			var p float32
			var n int
			if _, err := fmt.Sscanf(run, "%gx%d", &p, &n); err != nil {
				t.Fatal(err)
			}
			likely = append(likely, slices.Repeat([]float32{p}, n)...)
		}
		v := transcript.VAD{Threshold: &c.threshold, MinSpeechMS: &c.minSpeech, MinSilenceMS: &c.minSilence, SpeechPadMS: &c.pad}
		if c.maxSpeech > 0 {
			v.MaxSpeechS = &c.maxSpeech
		}
		var got []string
		for _, s := range stretches(likely, rulesOf(transcript.WhisperServer, v)) {
			got = append(got, fmt.Sprintf("%d-%d", s.kept.from*100/audio.SampleRate, s.kept.to*100/audio.SampleRate))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRulesWithoutAWord(t *testing.T) {
	for api, want := range map[transcript.API]vadRules{
		transcript.WhisperServer: {0.5, 4000, 1600, 0, 480},
		transcript.OpenAI:        {0.5, 1600, 1600, 0, 1600},
		transcript.ASR:           {0.5, 1600, 1600, 0, 1600},
	} {
		if got := rulesOf(api, transcript.VAD{}); got != want {
			t.Errorf("%s: %+v, want %+v", api, got, want)
		}
	}
	if n := overlapOf(transcript.VAD{}); n != 1600 {
		t.Errorf("overlap %d", n)
	}
}

// unpadded are stretches that are all speech.
func unpadded(speech ...span) []stretch {
	all := make([]stretch, len(speech))
	for i, s := range speech {
		all[i] = stretch{s, s}
	}
	return all
}

// numbered are samples that each say where they were.
func numbered(n int) []float32 {
	samples := make([]float32, n)
	for i := range samples {
		samples[i] = float32(i + 1)
	}
	return samples
}

func TestJoin(t *testing.T) {
	const s = audio.SampleRate
	for _, c := range []struct {
		name    string
		speech  []span
		overlap int
		want    []span // of the recording, with a moment of silence between
	}{
		{"nothing", nil, s / 10, nil},
		{"all", []span{{0, 10 * s}}, s / 10, []span{{0, 10 * s}}},
		{"silence around", []span{{2 * s, 3 * s}}, s / 10, []span{{2 * s, 3 * s}}},
		{"silence between", []span{{s, 2 * s}, {5 * s, 6 * s}}, s / 10, []span{{s, 2*s + s/10}, {5 * s, 6 * s}}},
		{"no overlap", []span{{s, 2 * s}, {5 * s, 6 * s}}, 0, []span{{s, 2 * s}, {5 * s, 6 * s}}},
		{"overlap longer than the silence", []span{{s, 2 * s}, {5 * s, 6 * s}}, 60 * s, []span{{s, 6 * s}}},
		{"a cut that gains nothing", []span{{s, 2 * s}, {2*s + s/5, 6 * s}, {8 * s, 9 * s}}, s / 10, []span{{s, 6*s + s/10}, {8 * s, 9 * s}}},
		{"a cut that gains a little", []span{{s, 2 * s}, {2*s + s/5 + 160, 6 * s}}, s / 10, []span{{s, 2*s + s/10}, {2*s + s/5 + 160, 6 * s}}},
		{"touching", []span{{s, 2 * s}, {2 * s, 3 * s}}, 0, []span{{s, 3 * s}}},
		{"beyond the end", []span{{s, 2 * s}, {9 * s, 10*s + 160}}, 0, []span{{s, 2 * s}, {9 * s, 10 * s}}},
		{"behind the end", []span{{s, 2 * s}, {10 * s, 11 * s}}, 0, []span{{s, 2 * s}}},
	} {
		samples := numbered(10 * s)
		var want []float32
		for i, part := range c.want {
			if i > 0 {
				want = append(want, make([]float32, s/10)...)
			}
			want = append(want, samples[part.from:part.to]...)
		}
		line := join(samples, unpadded(c.speech...), c.overlap)
		if got := samples[:line.length()]; !slices.Equal(got, want) {
			t.Errorf("%s: %d samples are left, want %d, or others", c.name, len(got), len(want))
		}
		if line.silent() != (len(c.want) == 0) {
			t.Errorf("%s: silent is %v", c.name, line.silent())
		}
	}
}

// Whatever is cut, each sample that is left knows where it was, and later ones were later.
func TestJoinKnowsWhereSamplesWere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		samples := numbered(1 + random.IntN(20*audio.SampleRate))
		var speech []span
		for at := random.IntN(20000); at < len(samples)+500; at += random.IntN(20000) {
			from := at
			at += 1 + random.IntN(30000)
			speech = append(speech, span{from, at})
		}
		line := join(samples, unpadded(speech...), random.IntN(3)*random.IntN(5000))
		line.begin = random.IntN(2) * 16000
		for range 200 {
			if line.length() == 0 {
				break
			}
			at := random.IntN(line.length())
			i := line.index(at)
			if was := int(samples[at]) - 1; was >= 0 {
				p := line.parts[i]
				if got := p.from + at - p.at; got != was {
					t.Fatalf("sample %d was %d, not %d", at, was, got)
				}
				got, want := line.inRecording(i, at), float64(hundredths(line.begin+was))/audio.SampleRate
				if got != want {
					t.Fatalf("sample %d was at %v s, not %v", at, want, got)
				}
			}
		}
		for _, reach := range []int{cutByWord, cutBySegment} {
			last := 0.0
			for at := 0; at < line.length(); {
				from := at
				at += random.IntN(40000)
				start, end := line.place(float64(from)/audio.SampleRate, float64(at)/audio.SampleRate, reach)
				if start < last || end < start {
					t.Fatalf("%v to %v s comes after %v s", start, end, last)
				}
				last = end
			}
		}
	}
}

func TestPlace(t *testing.T) {
	// Speech from 10 to 12 s, and from 52 to 55 s: left are 0 to 2 s, 0.1 s of what followed, 0.1 s of nothing, 2.2 to 5.2 s.
	const s = audio.SampleRate
	line := join(make([]float32, 60*s), unpadded(span{10 * s, 12 * s}, span{52 * s, 55 * s}), s/10)
	for _, c := range []struct {
		name               string
		start, end         float64
		word, wordEnd      float64
		segment, segmentTo float64
	}{
		{"before the cut", 0.5, 1.5, 10.5, 11.5, 10.5, 11.5},
		{"behind it", 2.4, 3.2, 52.2, 53, 52.2, 53},
		{"the last", 4.2, 5.2, 54, 55, 54, 55},
		{"longer than there is", 4.2, 7, 54, 55, 54, 55},
		{"ends in what followed", 1.5, 2.06, 11.5, 12.06, 11.5, 12.06},
		{"ends in nothing", 1.5, 2.18, 11.5, 12.1, 11.5, 12.1},
		{"ends where the next begins", 1.5, 2.2, 11.5, 12.1, 11.5, 12.1},
		{"ends just behind where the next begins", 1.5, 2.3, 11.5, 12, 11.5, 12},
		{"begins where the last ended", 2, 3, 52, 52.8, 52, 52.8},
		{"begins in what followed", 2.05, 3, 52, 52.8, 52, 52.8},
		{"begins in nothing", 2.15, 3, 52, 52.8, 52, 52.8},
		{"begins just before the last ended", 1.9, 3, 52, 52.8, 52, 52.8},
		{"mostly before", 1, 2.5, 10 + 1, 12, 11, 52.3},
		{"mostly behind", 1.5, 3.5, 52, 53.3, 11.5, 53.3},
		{"as long on both sides", 1.5, 2.7, 11.5, 12, 11.5, 52.5},
		{"a moment in nothing", 2.12, 2.15, 12.1, 12.1, 12.1, 12.1},
		{"no time at all", 2, 2, 12, 12, 12, 12},
	} {
		if start, end := line.place(c.start, c.end, cutByWord); start != c.word || end != c.wordEnd {
			t.Errorf("a word %s is at %v to %v, want %v to %v", c.name, start, end, c.word, c.wordEnd)
		}
		if start, end := line.place(c.start, c.end, cutBySegment); start != c.segment || end != c.segmentTo {
			t.Errorf("a segment %s is at %v to %v, want %v to %v", c.name, start, end, c.segment, c.segmentTo)
		}
	}
}

// Silence that is kept before and behind speech is not speech: what begins in it is of the next.
func TestPlaceKnowsPadding(t *testing.T) {
	const s = audio.SampleRate
	line := join(make([]float32, 60*s), []stretch{
		{span{9 * s, 13 * s}, span{10 * s, 12 * s}}, {span{51 * s, 56 * s}, span{52 * s, 55 * s}},
	}, 0)
	// Left are 1 to 3 s of speech, 1 s of silence, 0.1 s of nothing, 1 s of silence, 5.1 to 8.1 s of speech, 1 s of silence.
	for _, c := range []struct{ start, end, wantStart, wantEnd float64 }{
		{0, 3, 9, 12}, {1, 3.5, 10, 12.5}, {3, 6, 52, 52.9}, {3.8, 8.1, 52, 55}, {2.9, 6, 52, 52.9}, {2.5, 8, 11.5, 54.9},
		{2, 5.1, 11, 12}, {2, 4.5, 11, 12}, {4.5, 6, 51.4, 52.9}, {8, 9.5, 54.9, 56}, {3.2, 3.7, 12.2, 12.7},
	} {
		if start, end := line.place(c.start, c.end, cutBySegment); start != c.wantStart || end != c.wantEnd {
			t.Errorf("%v to %v is at %v to %v, want %v to %v", c.start, c.end, start, end, c.wantStart, c.wantEnd)
		}
	}
}

// Whisper guesses the times of words, and may have one behind a cut whose segment ends before.
func TestWordsStayWithinTheirSegments(t *testing.T) {
	const s = audio.SampleRate
	line := join(make([]float32, 60*s), unpadded(span{10 * s, 12 * s}, span{52 * s, 55 * s}), s/10)
	words := []transcript.Word{
		{Word: "for", Start: 0.5, End: 1}, {Word: "you.", Start: 2.5, End: 2.6}, {Word: "Ask", Start: 1.2, End: 2.3}, {Word: "what", Start: 3, End: 9},
	}
	answer := transcript.Transcript{
		Segments: []transcript.Segment{{Start: 0.5, End: 2, Text: " for you."}, {Start: 2.2, End: 4, Text: " Ask what"}},
		Words:    slices.Clone(words),
	}
	line.restore(&answer)
	want := []transcript.Word{
		{Word: "for", Start: 10.5, End: 11}, {Word: "you.", Start: 12, End: 12}, {Word: "Ask", Start: 52, End: 52}, {Word: "what", Start: 52.8, End: 53.8},
	}
	if !slices.Equal(answer.Words, want) {
		t.Errorf("%+v, want %+v", answer.Words, want)
	}
	answer = transcript.Transcript{Segments: []transcript.Segment{{Start: 0.5, End: 1, Text: "four others"}, {Start: 1, End: 1.1, Text: "more"}}, Words: slices.Clone(words[3:])}
	line.restore(&answer) // not made of these words
	if len(answer.Words) != 1 || answer.Words[0].Start != 52.8 || answer.Words[0].End != 55 {
		t.Errorf("%+v", answer.Words)
	}
}

func TestRestoreLeavesWhatWasTold(t *testing.T) {
	const s = audio.SampleRate
	line := join(make([]float32, 60*s), unpadded(span{10 * s, 12 * s}, span{52 * s, 55 * s}), s/10)
	line.seconds = 60
	told := transcript.Segment{Start: 2.2, End: 3.2, Seek: 230, Text: " one", Words: []transcript.Word{{Word: "one", Start: 2.2, End: 3.2}}}
	answer := transcript.Transcript{Duration: 5, Segments: []transcript.Segment{told}, Words: told.Words}
	line.restore(&answer)
	got := answer.Segments[0]
	if got.Start != 52 || got.End != 53 || got.Seek != 5210 || got.Words[0].Start != 52 || answer.Words[0].End != 53 || answer.Duration != 60 {
		t.Errorf("%+v", answer)
	}
	if told.Words[0].Start != 2.2 {
		t.Error("the words that were told have changed")
	}
	var none *timeline
	none.restore(&answer)
	if answer.Segments[0].Start != 52 || none.silent() || none.stream(nil) != nil {
		t.Error("no timeline changes something")
	}
}
