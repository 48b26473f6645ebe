package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/whisperpool/whisperpool/transcript"
)

const (
	// answerBytesMax bounds what is read of an answer: the verbose JSON of 24 hours of speech, with
	// words, is some 20 MB.
	answerBytesMax = 64 << 20
	retryAfterMax  = time.Minute // what OpenAI's SDKs honour at most
	detailMax      = 200
)

// asked is what was asked of the server: the dialect and the format in which its answer is due.
type asked struct {
	api    transcript.API
	format transcript.Format
	// cut: the client wants a part of the audio and the server worked on all of it.
	cut bool
}

// errTooLong: a body over the limit of its reader.
var errTooLong = errors.New("the answer is too long")

// readBody reads a body to its end, closes it, and sees to it that it is whole.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer: %w", err)
	case int64(len(body)) > limit:
		return nil, errTooLong
	case resp.ContentLength >= 0 && int64(len(body)) != resp.ContentLength && !resp.Uncompressed:
		return nil, fmt.Errorf("reading the answer: %w: %d of %d bytes", io.ErrUnexpectedEOF, len(body), resp.ContentLength)
	}
	return body, nil
}

// read is what all kinds have in common: it reads the response, classifies it and, when it is the
// answer, turns it into what the client asked for.
func read(resp *http.Response, r Request, a asked) (Verdict, []byte, error) {
	body, err := readBody(resp, answerBytesMax)
	if errors.Is(err, errTooLong) {
		return Verdict{
			Class:  Broken,
			Detail: fmt.Sprintf("%d: the answer has more than %d MiB", resp.StatusCode, answerBytesMax>>20),
		}, nil, nil
	}
	if err != nil {
		return Verdict{}, nil, err
	}
	v := Verdict{Class: classify(resp, body)}
	switch v.Class {
	case OK:
		if encoded(resp.Header) {
			err = &transcript.AnswerError{Reason: answerEncoded, Detail: "compressed although that was not asked for"}
		} else {
			v.Answer, err = answer(body, r, a)
		}
		if err != nil {
			v = Verdict{Class: Broken, Detail: fmt.Sprintf("%d: %s", resp.StatusCode, reason(err))}
		}
	case ClientFault:
		v.Problem = transcript.ParseError(resp.StatusCode, resp.Header.Get("Content-Type"), body)
		v.Detail = fmt.Sprintf("%d: refused what the client sent", resp.StatusCode)
	default:
		v.RetryAfter = retryAfter(resp.Header, time.Now())
		v.Detail = detail(resp, body)
	}
	return v, body, nil
}

// answerEncoded is a reason of ours beside those of [transcript.AnswerError].
const answerEncoded = "encoded"

// encoded tells whether a body is compressed: no request asks for that.
func encoded(h http.Header) bool {
	encoding := h.Get("Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}

// classify is the table of scheduling.md, 6.2, as far as a status decides. What the table leaves
// out (408, 409, ...) is the backend's fault like any 5xx: the client's are the four that it names.
func classify(resp *http.Response, body []byte) Class {
	switch status := resp.StatusCode; status {
	case 400, 413, 415, 422:
		return ClientFault
	case 401, 403, 404, 405, 407:
		return Misconfigured
	case 429:
		return Busy
	case 503:
		if saysLoading(resp.Header, body) {
			return Loading
		}
		return Busy
	default:
		switch {
		case status >= 200 && status <= 299:
			return OK
		case status >= 300 && status <= 399: // no redirect is followed: the address is another
			return Misconfigured
		}
		return Broken
	}
}

var loading = regexp.MustCompile(`(?i)\bloading\b`)

// saysLoading finds the word in what servers say while their model loads: our own backend in its
// error's code, whisper-server in {"status":"loading model"}, others in a message or header.
func saysLoading(h http.Header, body []byte) bool {
	const lookAt = 4 << 10
	if loading.Match(body[:min(len(body), lookAt)]) {
		return true
	}
	for name, values := range h {
		if strings.HasPrefix(name, "X-") && loading.MatchString(strings.Join(values, " ")) {
			return true
		}
	}
	return false
}

// retryAfter reads Retry-After, seconds or a date, and keeps it within a minute. 0: not told.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	var wait time.Duration
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		wait = time.Duration(min(seconds, retryAfterMax.Seconds()) * float64(time.Second))
	} else if date, err := http.ParseTime(value); err == nil {
		if sent, err := http.ParseTime(h.Get("Date")); err == nil {
			now = sent // the server's own clock, which may differ from ours
		}
		wait = date.Sub(now)
	}
	return min(max(wait, 0), retryAfterMax) // NaN became the smallest duration
}

// detail is the status and what the server gives as its reason. Only for answers that are neither
// a transcript nor about what the client sent, either of which may hold what was said.
func detail(resp *http.Response, body []byte) string {
	status := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if location := resp.Header.Get("Location"); location != "" && resp.StatusCode/100 == 3 {
		return oneLine(status + ": redirects to " + location + "; make that the backend's address")
	}
	problem := transcript.ParseError(resp.StatusCode, resp.Header.Get("Content-Type"), body)
	if problem == nil || problem.Message == "" {
		return status
	}
	return oneLine(status + ": " + problem.Message)
}

// reason says why an answer is none, without its text.
func reason(err error) string {
	var broken *transcript.AnswerError
	if !errors.As(err, &broken) {
		return "no transcript"
	}
	switch broken.Reason {
	case transcript.AnswerFailure, transcript.AnswerHTML, answerEncoded: // its words, none of the speaker's
		return oneLine(broken.Reason + ": " + broken.Detail)
	}
	return broken.Reason
}

// oneLine makes text fit for a log line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > detailMax {
		s = strings.ToValidUTF8(s[:detailMax], "") + "..."
	}
	return s
}
