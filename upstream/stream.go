package upstream

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// Stream is an answer whose first event has been checked and whose others are still to come.
type Stream struct {
	resp   *http.Response
	events *transcript.StreamReader
	limit  int64
	first  *transcript.StreamEvent // until it is taken
	whole  bool
}

// Next waits for the next event. An error means that the stream breaks off; see Fault. The end of the
// attempt's context ends the wait.
func (s *Stream) Next() (event transcript.StreamEvent, err error) {
	if s.first != nil {
		event, s.first = *s.first, nil
	} else {
		event, err = s.events.Next()
	}
	s.whole = event.Done && err == nil
	return event, err
}

// Words tells whether anything was said so far.
func (s *Stream) Words() bool {
	return transcript.Transcript{Segments: []transcript.Segment{{Text: s.events.Text()}}}.HasWords()
}

// Fault says what an error of Next means, in our own words; ended, that the attempt was ended.
func (s *Stream) Fault(err error) (detail string, over bool) {
	if ended(s.resp, err) {
		return "", true
	}
	return streamFault(err, s.limit), false
}

// endWithin is how soon the end of a body comes after its last event.
const endWithin = time.Second

// Close gives the connection back, if the stream was read to its end, or closes it.
func (s *Stream) Close() {
	if s.whole {
		late := time.AfterFunc(endWithin, func() { s.resp.Body.Close() })
		_, _ = io.CopyN(io.Discard, s.resp.Body, 1)
		late.Stop()
	}
	s.resp.Body.Close()
}

// streams tells whether a response is a stream of events.
func streams(resp *http.Response) bool {
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return resp.StatusCode == http.StatusOK && err == nil && mediaType == transcript.StreamType && !encoded(resp.Header)
}

// readStream reads a stream to its first event: until then everything can still be done elsewhere.
func readStream(resp *http.Response, limit int64) (Verdict, error) {
	s := &Stream{resp: resp, events: transcript.NewStreamReader(resp.Body, limit), limit: limit}
	first, err := s.events.Next()
	if err == nil {
		s.first = &first
		answer := Answer{ContentType: transcript.StreamType, Stream: s, Words: s.Words()}
		if seconds, err := strconv.ParseFloat(resp.Header.Get("X-Whisperpool-Audio-Seconds"), 64); err == nil && seconds > 0 && seconds < 1e9 {
			answer.AudioSeconds = seconds
		}
		return Verdict{Class: OK, Answer: answer}, nil
	}
	defer resp.Body.Close()
	if ended(resp, err) {
		return Verdict{}, err
	}
	var told *transcript.Error
	if errors.As(err, &told) {
		return refusedIn(told), nil
	}
	return Verdict{Class: Broken, Detail: fmt.Sprintf("%d: %s", resp.StatusCode, streamFault(err, limit))}, nil
}

// refusedIn is what an error means that comes as the first event: it would have been a status, had it
// come sooner.
func refusedIn(told *transcript.Error) Verdict {
	v := Verdict{Class: Broken, Detail: "an error in its stream"}
	switch told.Code {
	case "shutting_down", "queue_full", "too_many_uploads", "no_space":
		v.Class = Busy
	case "loading":
		v.Class = Loading
	}
	if told.Type == "invalid_request_error" {
		problem := *told
		problem.Status, problem.Final = http.StatusBadRequest, true
		return Verdict{Class: ClientFault, Problem: &problem, Detail: "refused what the client sent"}
	}
	if fault := complaint(told.Message); fault != "" {
		v.Detail += ": " + fault
	}
	return v
}

// streamFault says how a stream broke, without its text.
func streamFault(err error, limit int64) string {
	var told *transcript.Error
	var strange *transcript.AnswerError
	switch {
	case errors.As(err, &told):
		return refusedIn(told).Detail
	case errors.As(err, &strange):
		return "its stream makes no sense"
	case errors.Is(err, transcript.ErrStreamTooLong):
		return broken(errTooLong, limit)
	}
	return broken(err, limit)
}
