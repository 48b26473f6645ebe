package transcript

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// StreamReader reads the events of OpenAI's streamed answer.
type StreamReader struct {
	lines *bufio.Reader
	left  int64 // bytes that may come
	text  strings.Builder
}

// StreamEvent is one of them: a delta, or the last one, after which nothing comes.
type StreamEvent struct {
	Delta string
	Done  bool
}

// ErrStreamTooLong is what a reader says of more bytes than the reader was made for.
var ErrStreamTooLong = errors.New("the stream is too long")

const streamLineMax = 1 << 20

// NewStreamReader reads from r, most bytes at the most.
func NewStreamReader(r io.Reader, most int64) *StreamReader {
	return &StreamReader{lines: bufio.NewReader(r), left: most}
}

// Next waits for an event; comments, and events that are neither deltas nor the last, are skipped. An
// error is an *[Error] that the server sent as an event, an *[AnswerError] where what comes is no such
// stream, [ErrStreamTooLong], or r's: io.ErrUnexpectedEOF where it ends before its last event.
func (s *StreamReader) Next() (StreamEvent, error) {
	var data []byte
	for {
		line, err := s.line()
		if err != nil {
			return StreamEvent{}, err
		}
		if field, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = append(data, bytes.TrimPrefix(field, []byte(" "))...)
			data = append(data, '\n')
			continue
		}
		if len(line) > 0 || len(data) == 0 { // a comment, another field, or nothing to tell of
			continue
		}
		event, known, err := s.read(data)
		if err != nil || known {
			return event, err
		}
		data = nil
	}
}

// Text is that of all deltas so far.
func (s *StreamReader) Text() string { return s.text.String() }

func (s *StreamReader) line() ([]byte, error) {
	var line []byte
	for {
		part, err := s.lines.ReadSlice('\n')
		if s.left -= int64(len(part)); s.left < 0 || len(line)+len(part) > streamLineMax {
			return nil, ErrStreamTooLong
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
}

func (s *StreamReader) read(data []byte) (event StreamEvent, known bool, err error) {
	var v struct {
		Type  string          `json:"type"`
		Delta string          `json:"delta"`
		Text  string          `json:"text"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return event, false, answerError(AnswerNotJSON, "an event of a stream")
	}
	if found := errorMember(v.Error); found.message != "" {
		return event, false, &Error{
			Message: clean(withoutTags(found.message), messageMax), Type: clean(withoutTags(found.kind), quotedMax),
			Param: clean(withoutTags(found.param), quotedMax), Code: clean(withoutTags(found.code), quotedMax),
		}
	}
	switch v.Type {
	case deltaType:
		s.text.WriteString(v.Delta)
		return StreamEvent{Delta: v.Delta}, true, nil
	case doneType:
		rest, ok := strings.CutPrefix(v.Text, s.text.String())
		if !ok {
			return event, false, answerError(AnswerNoText, fmt.Sprintf("its last event is not what was streamed, %d bytes", s.text.Len()))
		}
		s.text.WriteString(rest)
		return StreamEvent{Delta: rest, Done: true}, true, nil
	}
	return event, false, nil
}
