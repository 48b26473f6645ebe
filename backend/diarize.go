package backend

import (
	"math"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/transcript"
)

// sides is how loud the two channels of a recording are over time, see [audio.Loudness]. Both are empty
// where there is one channel.
type sides struct{ first, second []float32 }

// louder is how many times as loud as the other a side has to be to be the one who speaks
// (whisper.cpp's server.cpp).
const louder = 1.1

// label says of each segment who speaks. A nil receiver says nothing.
func (s *sides) label(segments []transcript.Segment) {
	if s == nil {
		return
	}
	for i := range segments {
		segments[i].Speaker = s.speaker(segments[i].Start, segments[i].End)
	}
}

// speaker is "0", "1", or "?" where neither side is the louder one, between two times in seconds.
func (s *sides) speaker(start, end float64) string {
	at := func(seconds float64) int {
		return max(0, min(int(math.Round(seconds*audio.LoudnessRate)), len(s.first), len(s.second)))
	}
	var first, second float64
	for i := at(start); i < at(end); i++ {
		first += float64(s.first[i])
		second += float64(s.second[i])
	}
	switch {
	case first > louder*second:
		return "0"
	case second > louder*first:
		return "1"
	}
	return "?"
}
