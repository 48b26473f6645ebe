package backend

import (
	"math"
	"slices"
	"sort"
	"unicode"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/transcript"
)

// between is the silence that is put between two stretches of speech, so that the words on both sides do not run
// into each other (whisper.cpp's).
const between = audio.SampleRate / 10

// timeline finds, for a time in what is left of a recording, the time in the recording itself. All methods but
// length take a nil timeline, on which nothing was cut out.
type timeline struct {
	parts   []part
	begin   int     // of the part of the recording that was looked at, in samples
	seconds float64 // of the whole recording
}

// part is a stretch of sound that was kept whole; numbers of samples.
type part struct {
	at     int // where it begins in what is left
	from   int // and where in what was looked at
	length int
	lead   int // of it before somebody speaks
	trail  int // of it when nobody speaks any more
}

func (p part) speechBegin() int { return p.at + p.lead }
func (p part) speechEnd() int   { return p.at + p.length - p.trail }
func (p part) end() int         { return p.at + p.length }

// join moves stretches of a recording to the front of samples, one after the other, as whisper.cpp's own VAD does:
// each but the last goes on for overlap samples, then comes a moment of silence. Where that would be no shorter
// than what was between them that is kept instead, so that it all fits where it was.
func join(samples []float32, all []stretch, overlap int) *timeline {
	t := &timeline{}
	for i, s := range all {
		from, to := min(s.kept.from, len(samples)), min(s.kept.to, len(samples))
		if from >= to {
			continue
		}
		next := to // behind the last nothing is kept
		if i+1 < len(all) {
			next = min(all[i+1].kept.from, len(samples))
		}
		to = max(to, min(to+overlap, next))
		t.add(part{from: from, length: to - from, lead: max(0, s.speech.from-from), trail: max(0, to-s.speech.to)})
	}
	for i, p := range t.parts {
		copy(samples[p.at:p.end()], samples[p.from:])
		if i+1 < len(t.parts) {
			clear(samples[p.end():t.parts[i+1].at])
		}
	}
	return t
}

// add puts a part behind the others.
func (t *timeline) add(p part) {
	n := len(t.parts)
	if n == 0 {
		t.parts = append(t.parts, p)
		return
	}
	last := &t.parts[n-1]
	if p.from-(last.from+last.length) <= between {
		last.length, last.trail = p.from-last.from+p.length, p.trail
		return
	}
	p.at = last.end() + between
	t.parts = append(t.parts, p)
}

// length is how many samples are left.
func (t *timeline) length() int {
	if len(t.parts) == 0 {
		return 0
	}
	return t.parts[len(t.parts)-1].end()
}

// silent tells whether nobody speaks.
func (t *timeline) silent() bool { return t != nil && len(t.parts) == 0 }

// nothing is the transcript of silence.
func (t *timeline) nothing(p transcript.Params) transcript.Transcript {
	return transcript.Transcript{Task: p.Task, Language: p.Language, Duration: t.seconds}
}

// index is the part that a place in what is left is in, or behind.
func (t *timeline) index(at int) int {
	return max(0, sort.Search(len(t.parts), func(i int) bool { return t.parts[i].at > at })-1)
}

// inRecording is where in the recording something at a place in what is left is, in seconds; what is behind part i
// is at its end.
func (t *timeline) inRecording(i, at int) float64 {
	p := t.parts[i]
	sample := t.begin + p.from + min(max(at-p.at, 0), p.length)
	return float64(hundredths(sample)) / audio.SampleRate
}

// Where something reaches over a cut by less than the greater part of it, whisper was not exact: it takes the end
// of what was said before for the beginning of what is said next. A word is on one side of a cut, as a whole; of a
// segment only what is shorter than any word moves.
const (
	cutBySegment = audio.SampleRate / 5
	cutByWord    = math.MaxInt
)

// place puts what is said between two times of what is left at its times in the recording; all in seconds. No more
// than reach samples move from one side of a cut to the other.
func (t *timeline) place(start, end float64, reach int) (float64, float64) {
	from, to := samplesOf(start), samplesOf(end)
	first := t.index(from)
	last := max(first, t.index(max(from, to-1)))
	for first < last {
		before, behind := t.parts[first].speechEnd()-from, to-t.parts[first+1].speechBegin()
		if before >= behind || before >= reach {
			break
		}
		first++
		from = t.parts[first].speechBegin()
	}
	for first < last {
		before := t.parts[last-1].speechEnd() - max(from, t.parts[last-1].speechBegin())
		behind := to - t.parts[last].speechBegin()
		if behind > before || behind >= reach {
			break
		}
		last--
		to = t.parts[last].speechEnd()
	}
	return t.inRecording(first, from), t.inRecording(last, max(from, to))
}

func samplesOf(seconds float64) int { return int(math.Round(seconds * audio.SampleRate)) }

// segment puts a segment at its place in the recording. It leaves the words of s itself as they are, since whoever
// was given s before may still read them.
func (t *timeline) segment(s transcript.Segment) transcript.Segment {
	s.Start, s.End = t.place(s.Start, s.End, cutBySegment)
	seek := samplesOf(float64(s.Seek) / 100)
	s.Seek = int(math.Round(t.inRecording(t.index(seek), seek) * 100))
	s.Words = t.words(s.Words, []transcript.Segment{s})
	return s
}

// words puts words at their places in the recording, and within the segments, which are there already, that they
// make up: what whisper has a moment too late before a cut would be minutes too late behind it. It knows where
// segments end, and guesses where words do.
func (t *timeline) words(words []transcript.Word, segments []transcript.Segment) []transcript.Word {
	words = slices.Clone(words)
	for i := range words {
		words[i].Start, words[i].End = t.place(words[i].Start, words[i].End, cutByWord)
	}
	put := slices.Clone(words)
	at := 0
	for _, s := range segments {
		letters := lettersIn(s.Text)
		for ; letters > 0 && at < len(put); at++ {
			w := &put[at]
			letters -= lettersIn(w.Word)
			w.Start, w.End = within(w.Start, s), within(w.End, s)
		}
		if letters != 0 { // it is not made of these words
			return words
		}
	}
	return put
}

// stream makes of a function that wants segments of the recording one that takes them from the engine.
func (t *timeline) stream(to func(transcript.Segment)) func(transcript.Segment) {
	if t == nil || to == nil {
		return to
	}
	return func(s transcript.Segment) { to(t.segment(s)) }
}

// restore makes of the engine's answer that for the recording.
func (t *timeline) restore(answer *transcript.Transcript) {
	if t == nil {
		return
	}
	segments := make([]transcript.Segment, len(answer.Segments))
	for i, s := range answer.Segments {
		segments[i] = t.segment(s)
	}
	answer.Segments, answer.Words, answer.Duration = segments, t.words(answer.Words, segments), t.seconds
}

func within(seconds float64, s transcript.Segment) float64 { return max(s.Start, min(seconds, s.End)) }

func lettersIn(text string) (n int) {
	for _, letter := range text {
		if !unicode.IsSpace(letter) {
			n++
		}
	}
	return n
}
