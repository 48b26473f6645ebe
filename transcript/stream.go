package transcript

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

type (
	deltaEvent struct {
		Type  string `json:"type"`
		Delta string `json:"delta"`
	}
	// doneEvent carries no usage: OpenAI's types allow only a count of tokens there, and ours is a
	// duration, which strict clients refuse.
	doneEvent struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
)

// The types of the events of OpenAI's streamed answer.
const (
	deltaType = "transcript.text.delta"
	doneType  = "transcript.text.done"
)

// StreamType is the content type of a streamed answer.
const StreamType = "text/event-stream"

// Stream makes the server-sent events of OpenAI's streamed answer out of segments as they come. The
// deltas make up the text of the last event, and that is what [Transcript.Text] is of all segments. The
// zero value is a stream that has not begun.
type Stream struct {
	text  strings.Builder // of all deltas
	space string          // at the end of what has come: it is none of the text unless more comes
	begun string          // the first bytes of a rune that the next segment completes
}

// Segment is the event for the next segment, nil where it adds nothing yet.
func (s *Stream) Segment(text string) []byte {
	text, s.begun = splitBegunRune(s.begun + text)
	return s.delta(text)
}

func (s *Stream) delta(text string) []byte {
	text = s.space + strings.ToValidUTF8(text, string(utf8.RuneError))
	if s.text.Len() == 0 {
		text = strings.TrimLeftFunc(text, unicode.IsSpace)
	}
	said := strings.TrimRightFunc(text, unicode.IsSpace)
	s.space = text[len(said):]
	if said == "" {
		return nil
	}
	s.text.WriteString(said)
	return event(deltaEvent{Type: deltaType, Delta: said})
}

// Done is the last event, with what was held back before it.
func (s *Stream) Done() []byte {
	rest := s.begun
	s.begun = ""
	events := s.delta(rest)
	return append(events, event(doneEvent{Type: doneType, Text: s.text.String()})...)
}

// Text is that of all deltas so far.
func (s *Stream) Text() string { return s.text.String() }

// RenderStream writes the whole transcript as a stream: a delta for each segment and done. Silence
// has no delta.
func (t Transcript) RenderStream() []byte {
	var stream Stream
	var body bytes.Buffer
	for _, segment := range t.Segments {
		body.Write(stream.Segment(segment.Text))
	}
	body.Write(stream.Done())
	return body.Bytes()
}

// event is one server-sent event.
func event(v any) []byte {
	body := append([]byte("data: "), encodeJSON(v)...) // one line, with its end
	return append(body, '\n')
}

// Event is the error as the event in which a stream that has begun ends.
func (e *Error) Event() []byte {
	body := append([]byte("data: "), e.Body()...)
	return append(body, '\n')
}
