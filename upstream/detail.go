package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/whisperpool/whisperpool/transcript"
)

const (
	detailMax      = 200
	complaintBytes = 4 << 10 // of a body, in which a fault is looked for
)

// detail is the status, the fault that the server tells, and what an operator can do about it. It reaches
// logs and clients: it has no address, and no word of the server's own, see complaints.
func detail(resp *http.Response, body []byte) string {
	text := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if advice := advice(resp); advice != "" {
		text += ": " + advice
	}
	if resp.StatusCode < http.StatusBadRequest || len(body) == 0 {
		return oneLine(text)
	}
	message := transcript.ParseError(resp.StatusCode, resp.Header.Get("Content-Type"), body).Message
	if fault := complaint(message + " " + string(body[:min(len(body), complaintBytes)])); fault != "" {
		return oneLine(text + " (" + fault + ")")
	}
	return oneLine(fmt.Sprintf("%s (it gives a reason of %d bytes; see its own log)", text, len(body)))
}

// advice says what an operator has to put right where a backend is misconfigured, "" elsewhere.
func advice(resp *http.Response) string {
	path := "this path"
	if resp.Request != nil && resp.Request.URL != nil {
		path = resp.Request.URL.Path
	}
	switch status := resp.StatusCode; {
	case status == http.StatusBadRequest: // misconfigured only where it wants TLS
		return "it speaks TLS; write https:// before its address"
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "its header_up Authorization is missing or wrong"
	case status == http.StatusProxyAuthRequired:
		return "a proxy before it wants a login; set header_up Proxy-Authorization, or go around it"
	case status == http.StatusNotFound:
		return "it has no " + path + ", or not the model; is its address right, its kind, its list of models?"
	case status == http.StatusMethodNotAllowed:
		return "it takes no POST at " + path + "; are its address and its kind right?"
	case status >= 300 && status <= 399:
		return redirect(resp)
	}
	return ""
}

// redirect says where to, as far as that helps to correct the address and does not tell it.
func redirect(resp *http.Response) string {
	const ignored = "redirects are not followed; "
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Request == nil || *to == (url.URL{}) {
		return ignored + "make the place where it redirects to the backend's address"
	}
	from := resp.Request.URL
	switch to = from.ResolveReference(to); {
	case to.Hostname() != from.Hostname():
		return ignored + "it redirects to another host; make that the backend's address"
	case to.Scheme != from.Scheme && to.Scheme == "https":
		return ignored + "it redirects to https; write https:// before the backend's address"
	case to.Port() != from.Port():
		return ignored + "it redirects to another port; make that the backend's"
	}
	return ignored + "it redirects to another path; is the one in the backend's address right?"
}

// reason says why an answer is none, without its text.
func reason(err error) string {
	var broken *transcript.AnswerError
	if !errors.As(err, &broken) {
		return "no transcript"
	}
	switch broken.Reason {
	case transcript.AnswerFailure, transcript.AnswerHTML:
		if fault := complaint(broken.Detail); fault != "" {
			return broken.Reason + ": " + fault
		}
	case answerEncoded, answerType, answerLanguage: // our own words
		return broken.Reason + ": " + broken.Detail
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
