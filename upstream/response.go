package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

const retryAfterMax = time.Minute // what OpenAI's SDKs honour at most

// asked is what was asked of the server: the dialect and the format in which its answer is due.
type asked struct {
	api    transcript.API
	format transcript.Format
	// cut: the client wants a part of the audio and the server worked on all of it.
	cut bool
	// stream: the answer is due piece by piece, in OpenAI's events.
	stream bool
}

// read is what all kinds have in common: it reads the response, classifies it and, when it is the
// answer, turns it into what the client asked for. An error is that the attempt itself was ended
// while the answer came. Whatever else breaks after an answer has begun is a broken answer, and not a
// backend that died at work: a job is taken for poison when two of those ran it.
func read(resp *http.Response, r Request, a asked) (Verdict, []byte, error) {
	if resp.StatusCode < http.StatusOK { // 101: what follows is no body and need not end
		resp.Body.Close()
		return Verdict{Class: Broken, Detail: fmt.Sprintf("%d: not the status of an answer", resp.StatusCode)}, nil, nil
	}
	limit := int64(errorBytesMax)
	if resp.StatusCode < http.StatusMultipleChoices {
		limit = answerLimit(r)
	}
	if a.stream && streams(resp) {
		v, err := readStream(resp, limit)
		return v, nil, err
	}
	body, err := readWithin(resp, limit)
	if err != nil && ended(resp, err) {
		return Verdict{}, nil, err
	}
	v := Verdict{Class: classify(resp, body)}
	switch {
	case err != nil && (v.Class == OK || v.Class == ClientFault): // else the status says enough
		return Verdict{Class: Broken, Detail: fmt.Sprintf("%d: %s", resp.StatusCode, broken(err, limit))}, nil, nil
	case v.Class == OK:
		if v.Answer, err = checked(resp, body, r, a); err != nil {
			v = Verdict{Class: failureClass(err), Detail: fmt.Sprintf("%d: %s", resp.StatusCode, reason(err))}
		}
	case v.Class == ClientFault:
		v.Problem = transcript.ParseError(resp.StatusCode, resp.Header.Get("Content-Type"), body)
		v.Detail = fmt.Sprintf("%d: refused what the client sent", resp.StatusCode)
	default:
		v.RetryAfter = retryAfter(resp.Header, time.Now())
		v.Detail = detail(resp, body)
	}
	return v, body, nil
}

// checked is the answer, if the response is one.
func checked(resp *http.Response, body []byte, r Request, a asked) (Answer, error) {
	switch {
	case encoded(resp.Header):
		return Answer{}, &transcript.AnswerError{Reason: answerEncoded, Detail: "compressed although that was not asked for"}
	case isPlain(a.format) && !textual(resp.Header):
		return Answer{}, &transcript.AnswerError{Reason: answerType, Detail: "not that of a text"}
	}
	return answer(body, r, a)
}

// failureClass is the class of an answer under status 200 that is none. Servers that answer errors
// so, whisper-server of before March 2026 among them, also answer so that they are loading.
func failureClass(err error) Class {
	var broken *transcript.AnswerError
	if errors.As(err, &broken) && broken.Reason == transcript.AnswerFailure && loading.MatchString(broken.Detail) {
		return Loading
	}
	return Broken
}

// classify is the table of scheduling.md, 6.2, as far as a status decides. What the table leaves
// out (408, 409, ...) is the backend's fault like any 5xx: the client's are the four that it names.
func classify(resp *http.Response, body []byte) Class {
	switch status := resp.StatusCode; status {
	case 400:
		if wantsTLS.Match(body) {
			return Misconfigured
		}
		return ClientFault
	case 413, 415, 422:
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
		case status == http.StatusOK, status == http.StatusCreated, status == http.StatusNonAuthoritativeInfo:
			return OK
		case status >= 200 && status <= 299: // no content, a part of it, or none yet
			return Broken
		case status >= 300 && status <= 399: // no redirect is followed: the address is another
			return Misconfigured
		}
		return Broken
	}
}

// wantsTLS is how Go's servers, nginx and Apache answer HTTP without TLS where they speak it with.
var wantsTLS = regexp.MustCompile(`(?i)HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS port|speaking plain HTTP to an SSL-enabled`)

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
