package transcript

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The reasons of an [AnswerError].
const (
	AnswerEmpty     = "empty"      // no body where JSON is due
	AnswerTruncated = "truncated"  // JSON that ends in the middle
	AnswerNotJSON   = "not_json"   // something else where JSON is due
	AnswerNotObject = "not_object" // JSON, but no object
	AnswerNoText    = "no_text"    // an object without a transcript
	AnswerNoCues    = "no_cues"    // no subtitles where subtitles are due
	AnswerBinary    = "binary"     // bytes that are no text
	AnswerHTML      = "html"       // a web page
	AnswerFailure   = "error"      // an error under status 200
)

const (
	detailBytesMax = 200
	excerptMax     = 4 * detailBytesMax // of a body, before it is cleaned
)

// AnswerError says why the answer of an upstream is no transcript although its status says 200.
type AnswerError struct {
	Reason string // one of the Answer constants
	Detail string // what the upstream wrote, one clean line of at most 200 bytes; may be empty
}

func (e *AnswerError) Error() string {
	what := map[string]string{
		AnswerEmpty: "is empty", AnswerTruncated: "ends in the middle", AnswerNotJSON: "is not JSON",
		AnswerNotObject: "is not a JSON object", AnswerNoText: "holds no transcript",
		AnswerNoCues: "holds no subtitles", AnswerBinary: "is no text", AnswerHTML: "is a web page", AnswerFailure: "is an error",
	}[e.Reason]
	if e.Detail == "" {
		return "the answer " + what
	}
	return fmt.Sprintf("the answer %s: %s", what, e.Detail)
}

func answerError(reason, detail string) *AnswerError {
	detail = clean(withoutTags(firstBytes(detail, excerptMax)), detailBytesMax)
	return &AnswerError{Reason: reason, Detail: firstBytes(detail, detailBytesMax)}
}

// ParseAnswer reads an answer with status 200: of an OpenAI-style server or of whisper.cpp's,
// in the format it was asked for. What it doesn't tell stays zero; text without times becomes
// segments without times. Silence is an answer; the error is an *[AnswerError].
func ParseAnswer(api API, format Format, body []byte) (Transcript, error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	switch format {
	case Text, SRT, VTT:
		return parsePlain(api, format, body)
	}
	return parseJSON(api, body)
}

// parsePlain reads the formats that aren't JSON. Old whisper-servers answer errors in JSON
// whatever was asked for, and servers that only know JSON answer with that.
func parsePlain(api API, format Format, body []byte) (Transcript, error) {
	start := bytes.TrimSpace(body)
	if len(start) > 0 && start[0] == '{' && json.Valid(start) {
		t, err := parseJSON(api, start)
		if err == nil && format != Text && t.HasWords() && !t.timed() {
			return Transcript{}, answerError(AnswerNoCues, "JSON without times")
		}
		return t, err
	}
	switch {
	case isHTML(start):
		return Transcript{}, answerError(AnswerHTML, htmlTitle(start))
	case bytes.IndexByte(start, 0) >= 0:
		return Transcript{}, answerError(AnswerBinary, "")
	case bytes.HasPrefix(start, []byte(`{"`)): // nobody says that; parsePlain's own JSON was whole
		return Transcript{}, checkObject(start)
	}
	if format == Text {
		return Transcript{Segments: textSegments(api, string(body))}, nil
	}
	segments := parseCues(string(body), format == VTT)
	if len(segments) == 0 && len(start) > 0 && !bytes.HasPrefix(start, []byte("WEBVTT")) {
		return Transcript{}, answerError(AnswerNoCues, string(start[:min(len(start), excerptMax)]))
	}
	if api != WhisperServer {
		addSpaces(segments)
	}
	return Transcript{Segments: segments}, nil
}

func (t Transcript) timed() bool {
	for _, s := range t.Segments {
		if s.End > 0 {
			return true
		}
	}
	return false
}

// textSegments makes segments without times: of whisper.cpp's a line each, else one.
func textSegments(api API, text string) []Segment {
	text = strings.TrimRight(text, "\r\n")
	if strings.TrimSpace(text) == "" {
		return nil
	}
	if api != WhisperServer {
		return []Segment{{Text: text}}
	}
	lines := strings.SplitN(text, "\n", linesMax) // beyond, the last has the rest
	segments := make([]Segment, len(lines))
	for i, line := range lines {
		segments[i] = Segment{ID: i, Text: strings.TrimSuffix(line, "\r")}
	}
	return segments
}

// addSpaces gives segments the space between them that whisper writes and many servers trim.
// Where any has one, the texts are taken to carry their own.
func addSpaces(segments []Segment) {
	for _, s := range segments {
		if startsWithSpace(s.Text) {
			return
		}
	}
	for i := range segments {
		segments[i].Text = withSpace(segments[i].Text)
	}
}

func parseJSON(api API, body []byte) (Transcript, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return Transcript{}, answerError(AnswerEmpty, "")
	}
	if isHTML(body) {
		return Transcript{}, answerError(AnswerHTML, htmlTitle(body))
	}
	if err := checkObject(body); err != nil {
		return Transcript{}, err
	}
	var answer jsonAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return Transcript{}, answerError(AnswerNotJSON, err.Error())
	}
	if failure := answer.failure(); failure != "" {
		return Transcript{}, answerError(AnswerFailure, failure)
	}
	if len(answer.Segments.or(nil)) > linesMax {
		answer.Segments.value = nil
	}
	if answer.Text.value == nil && answer.Segments.value == nil {
		return Transcript{}, answerError(AnswerNoText, findMessage(body).message)
	}
	return answer.transcript(api), nil
}

// checkObject tells what is wrong with a body that is no whole JSON object.
func checkObject(body []byte) error {
	excerpt := string(body[:min(len(body), excerptMax)])
	var whole json.RawMessage
	err := json.NewDecoder(bytes.NewReader(body)).Decode(&whole)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && body[0] == '{':
		return answerError(AnswerTruncated, excerpt)
	case err != nil || !json.Valid(body): // the second: something after the object
		return answerError(AnswerNotJSON, excerpt)
	case body[0] != '{':
		return answerError(AnswerNotObject, excerpt)
	}
	return nil
}
