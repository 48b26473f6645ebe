package backend

import (
	"math"
	"slices"
	"sort"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/transcript"
)

// between is the silence that is put between two stretches of speech, so that the words on both
// sides do not run into each other.
const between = audio.SampleRate / 10

// timeline finds, for a time in what is left of an upload, the time in the upload itself. All methods
// take a nil timeline, on which nothing was cut out.
type timeline struct {
	points  []moment
	seconds float64 // of the upload
}

// moment is a time in both, in hundredths of a second, as whisper.cpp counts.
type moment struct{ left, upload int64 }

func hundredths(samples int) int64 {
	return int64(math.Round(float64(samples) / audio.SampleRate * 100))
}

// join puts the stretches of speech one after the other, as whisper.cpp's own VAD does, so that the
// engine hears the same: each but the last goes on for overlap samples, then comes a moment of
// silence. Without any stretch nothing is left.
func join(samples []float32, spans []Span, overlap int) ([]float32, *timeline) {
	t := &timeline{seconds: float64(len(samples)) / audio.SampleRate}
	end := len(samples) - 1 // whisper.cpp's joined audio never has the very last sample
	size := 0
	for _, s := range spans {
		size += max(0, s.To-s.From) + overlap + between
	}
	left := make([]float32, 0, size)
	for i, s := range spans {
		from, to := min(s.From, end), min(s.To, end)
		last := i == len(spans)-1
		reach := to
		if !last {
			reach = min(to+overlap, end)
		}
		if from >= reach {
			continue
		}
		t.add(len(left), s.From)
		t.add(len(left)+to-from, s.To)
		left = append(left, samples[from:reach]...)
		if !last {
			t.add(len(left), s.To)
			left = append(left, make([]float32, between)...)
			t.add(len(left), spans[i+1].From)
		}
	}
	return left, t
}

// add remembers that so many samples of what is left end where so many samples of the upload do. Of
// several for one moment of what is left the first counts.
func (t *timeline) add(left, upload int) {
	m := moment{hundredths(left), hundredths(upload)}
	if n := len(t.points); n > 0 && t.points[n-1].left >= m.left {
		return
	}
	t.points = append(t.points, m)
}

// silent tells whether nobody speaks in the upload.
func (t *timeline) silent() bool { return t != nil && len(t.points) == 0 }

// nothing is the transcript of silence.
func (t *timeline) nothing(p transcript.Params) transcript.Transcript {
	return transcript.Transcript{Task: p.Task, Language: p.Language, Duration: t.seconds}
}

// upload is the time in the upload of a time in what is left, both in seconds.
func (t *timeline) upload(seconds float64) float64 {
	at := int64(math.Round(seconds * 100))
	next := sort.Search(len(t.points), func(i int) bool { return t.points[i].left >= at })
	switch {
	case next == len(t.points):
		return float64(t.points[next-1].upload) / 100
	case next == 0 || t.points[next].left == at:
		return float64(t.points[next].upload) / 100
	}
	a, b := t.points[next-1], t.points[next]
	return float64(a.upload+(at-a.left)*(b.upload-a.upload)/(b.left-a.left)) / 100
}

// segment puts a segment at its place in the upload. It leaves the words of s itself as they are,
// since whoever was given s before may still read them.
func (t *timeline) segment(s transcript.Segment) transcript.Segment {
	s.Start, s.End = t.upload(s.Start), t.upload(s.End)
	s.Seek = int(math.Round(t.upload(float64(s.Seek)/100) * 100))
	s.Words = t.words(s.Words)
	return s
}

func (t *timeline) words(words []transcript.Word) []transcript.Word {
	words = slices.Clone(words)
	for i := range words {
		words[i].Start, words[i].End = t.upload(words[i].Start), t.upload(words[i].End)
	}
	return words
}

// stream makes of a function that wants segments of the upload one that takes them from the engine.
func (t *timeline) stream(to func(transcript.Segment)) func(transcript.Segment) {
	if t == nil || to == nil {
		return to
	}
	return func(s transcript.Segment) { to(t.segment(s)) }
}

// restore makes of the engine's answer that for the upload.
func (t *timeline) restore(answer *transcript.Transcript) {
	if t == nil {
		return
	}
	segments := make([]transcript.Segment, len(answer.Segments))
	for i, s := range answer.Segments {
		segments[i] = t.segment(s)
	}
	answer.Segments, answer.Words, answer.Duration = segments, t.words(answer.Words), t.seconds
}
