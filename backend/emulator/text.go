package emulator

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/transcript"
)

// text is the made-up answer for a part of the audio, in seconds: a segment for each window, each
// saying what it is, with the space in front that whisper's segments have.
func (e *Emulator) text(from, to float64, p transcript.Params) transcript.Transcript {
	t := transcript.Transcript{Task: p.Task, Language: p.Language}
	if t.Language == "" || p.Task == transcript.Translate {
		t.Language = "en" // the language of the made-up text
	}
	if to-from < 0.1 { // whisper.cpp finds no words in less, either
		return t
	}
	for start := from; start < to; start += gpu.WindowSeconds {
		s := transcript.Segment{
			ID: len(t.Segments), Start: start, End: min(start+gpu.WindowSeconds, to),
			Temperature: p.Temperature,
		}
		s.Text = fmt.Sprintf(" [emulated %s] %s seconds of audio.", e.cfg.Class, seconds(s.End-s.Start))
		t.Segments = append(t.Segments, s)
		if p.Words {
			t.Words = append(t.Words, words(s)...)
		}
	}
	return t
}

// seconds writes a length with at most one digit after the point.
func seconds(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// words spreads a segment's words evenly over its time.
func words(s transcript.Segment) []transcript.Word {
	texts := strings.Fields(s.Text)
	step := (s.End - s.Start) / float64(len(texts))
	out := make([]transcript.Word, len(texts))
	for i, text := range texts {
		start := s.Start + float64(i)*step
		out[i] = transcript.Word{Word: text, Start: start, End: start + step, Probability: 1}
	}
	return out
}
