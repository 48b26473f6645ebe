package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// What is read of an answer. The verbose JSON of 24 hours of speech, with words, is some 20 MB; that of
// a second may be 22 KB, when whisper fills its window with nonsense.
const (
	answerBytesMax       = 64 << 20
	answerBytesLeast     = 1 << 20
	answerBytesPerSecond = 8 << 10
	errorBytesMax        = 64 << 10
)

// errorBodyWithin is how long an answer that is none may go on after its header, which says what matters.
const errorBodyWithin = 2 * time.Second

// answerLimit is the most that an answer may have: by the length of the audio, and by the size of the
// upload, whose header may be wrong. Without it a few backends that answer without end would take the
// proxy's memory.
func answerLimit(r Request) int64 {
	if r.AudioSeconds <= 0 && r.File.Size <= 0 {
		return answerBytesMax
	}
	bySeconds := int64(min(r.AudioSeconds, 1e6) * answerBytesPerSecond)
	bySize := 2 * min(r.File.Size, answerBytesMax)
	return min(answerBytesLeast+max(bySeconds, bySize), answerBytesMax)
}

// errTooLong: a body over the limit of its reader.
var errTooLong = errors.New("the answer is too long")

// readBody reads a body to its end, closes it, and sees to it that it is whole. What was read comes
// with the error.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return body, fmt.Errorf("reading the answer: %w", err)
	case int64(len(body)) > limit:
		return body[:limit], errTooLong
	case resp.ContentLength >= 0 && int64(len(body)) != resp.ContentLength && !resp.Uncompressed:
		return body, fmt.Errorf("reading the answer: %w: %d of %d bytes", io.ErrUnexpectedEOF, len(body), resp.ContentLength)
	}
	return body, nil
}

// errStill: the body of an answer that is none did not end.
var errStill = errors.New("the answer stood still")

// readWithin is readBody, and gives up early where the status says that it is no answer.
func readWithin(resp *http.Response, limit int64) ([]byte, error) {
	if resp.StatusCode < http.StatusMultipleChoices {
		return readBody(resp, limit)
	}
	var late atomic.Bool
	timer := time.AfterFunc(errorBodyWithin, func() {
		late.Store(true)
		resp.Body.Close() // which ends the read
	})
	defer timer.Stop()
	body, err := readBody(resp, limit)
	if err != nil && late.Load() && resp.Request.Context().Err() == nil {
		err = errStill
	}
	return body, err
}

// ended tells whether reading ended because the attempt was.
func ended(resp *http.Response, err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		resp.Request != nil && resp.Request.Context().Err() != nil
}

// broken says how a body broke, without addresses.
func broken(err error, limit int64) string {
	var slow interface{ Timeout() bool }
	switch {
	case errors.Is(err, errTooLong):
		return fmt.Sprintf("the answer has more than %.3g MiB, which is more than such a recording can have", float64(limit)/(1<<20))
	case errors.Is(err, errStill), errors.As(err, &slow) && slow.Timeout():
		return errStill.Error()
	}
	return "connection closed before the answer was whole"
}

// Garbled tells whether the error of a round trip is that the server answered, though not in HTTP: a
// header without end or over the transport's limit, a flood of 1xx, something else than HTTP. It is
// alive then and did not die of its job. net/http has no types for most of these.
func Garbled(err error) bool {
	var protocol textproto.ProtocolError
	if errors.As(err, &protocol) {
		return true
	}
	for _, words := range []string{
		"malformed HTTP", "malformed MIME header", "too many 1xx", "response headers exceeded", "bad Content-Length",
		"invalid Content-Length", "multiple Content-Length", "unsupported transfer encoding", "too many transfer encodings",
	} {
		if err != nil && strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}

// Reasons of ours beside those of [transcript.AnswerError].
const (
	answerEncoded = "encoded"
	answerType    = "content_type"
)

// encoded tells whether a body is compressed: no request asks for that.
func encoded(h http.Header) bool {
	encoding := h.Get("Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}

func isPlain(format transcript.Format) bool {
	return format != transcript.JSON && format != transcript.VerboseJSON
}

// textual tells whether the content type may be that of a text. Where JSON is due the body tells more
// than its type, but anything can pass for a text.
func textual(h http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return true // not told, in effect
	}
	switch kind, _, _ := strings.Cut(mediaType, "/"); kind {
	case "image", "audio", "video", "font", "model", "multipart":
		return false
	}
	return mediaType != transcript.StreamType // nobody asks for a stream: an answer is made into one here
}
