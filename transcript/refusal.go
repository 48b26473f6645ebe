package transcript

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"
)

const (
	messageMax     = 500      // characters kept of an upstream's message
	errorBytesRead = 64 << 10 // of an upstream's error body
)

// ParseError reads the body of an upstream's error: OpenAI's shape, {"error":"..."}, FastAPI's
// {"detail":...}, {"message":"..."}, plain text or a web page, of which only the title counts.
// The result has the given status and a message of one clean line without markup, at most 500
// characters; where the body says nothing, the status does. RetryAfter is in headers and so is
// left to the caller. Final is set for what is the client's: 400, 413, 415 and 422.
func ParseError(status int, contentType string, body []byte) *Error {
	body = bytes.TrimSpace(bytes.TrimPrefix(body[:min(len(body), errorBytesRead)], []byte("\ufeff")))
	var found upstreamMessage
	switch {
	case len(body) > 0 && body[0] == '{':
		found = findMessage(body)
	case isHTML(body) || strings.Contains(contentType, "html"):
		found.message = htmlTitle(body)
	case len(body) > 0 && (body[0] == '[' || strings.Contains(contentType, "json")):
		found.message = messageText(body)
	case !strings.HasPrefix(contentType, "audio/") && !bytes.ContainsRune(body, 0):
		found.message = string(body)
	}
	message := clean(withoutTags(found.message), messageMax)
	if message == "" {
		message = fmt.Sprintf("The backend answered with status %d.", status)
		if text := http.StatusText(status); text != "" {
			message = fmt.Sprintf("The backend answered with status %d (%s).", status, text)
		}
	}
	e := &Error{
		Status: status, Message: message, Type: clean(withoutTags(found.kind), quotedMax),
		Param: clean(withoutTags(found.param), quotedMax), Code: clean(withoutTags(found.code), quotedMax),
	}
	if e.Type == "" {
		e.Type = errorType(status)
	}
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		e.Final = true
	}
	return e
}

func errorType(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 400 && status < 500:
		return "invalid_request_error"
	}
	return "server_error"
}

// upstreamMessage is what an error body holds, still as it was written.
type upstreamMessage struct{ message, kind, param, code string }

// findMessage looks for a message in the members where servers put it.
func findMessage(body []byte) upstreamMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil {
		return upstreamMessage{}
	}
	if found := errorMember(object["error"]); found.message != "" {
		return found
	}
	found := members(object)
	for _, name := range []string{"detail", "message", "msg", "reason", "title"} {
		if found.message = messageText(object[name]); found.message != "" {
			return found
		}
	}
	return found
}

// errorMember reads the value of "error": a string, or OpenAI's object.
func errorMember(raw json.RawMessage) upstreamMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		return upstreamMessage{message: messageText(raw)}
	}
	found := members(object)
	for _, name := range []string{"message", "detail", "msg", "error"} {
		if found.message = messageText(object[name]); found.message != "" {
			break
		}
	}
	return found
}

func members(object map[string]json.RawMessage) upstreamMessage {
	return upstreamMessage{kind: scalar(object["type"]), param: scalar(object["param"]), code: scalar(object["code"])}
}

// scalar is a string, or a number as text: some servers have the status as code.
func scalar(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String()
	}
	return ""
}

// messageText is a message: a string, an object that has one, or FastAPI's list of what is wrong
// with which field.
func messageText(raw json.RawMessage) string {
	if text := scalar(raw); text != "" || len(raw) == 0 {
		return text
	}
	type problem struct {
		Loc     lenient[[]any]  `json:"loc"`
		Msg     lenient[string] `json:"msg"`
		Message lenient[string] `json:"message"`
	}
	var one problem
	if json.Unmarshal(raw, &one) == nil {
		return one.Message.or(one.Msg.or(""))
	}
	var list []problem
	if json.Unmarshal(raw, &list) != nil {
		return ""
	}
	var texts []string
	for _, p := range list {
		text := p.Msg.or(p.Message.or(""))
		if loc := p.Loc.or(nil); len(loc) > 0 && text != "" {
			text = fmt.Sprintf("%v: %s", loc[len(loc)-1], text)
		}
		if text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

// page matches how web pages begin, those of gateways that leave out half of one included.
var page = regexp.MustCompile(`(?i)^<(!doctype|!--|\?xml|(html|head|body|title|meta|script|style|center|h1|pre)[\s>/])`)

func isHTML(body []byte) bool { return page.Match(body[:min(len(body), 64)]) }

// htmlTitle is the title of a web page, which for error pages says what happened.
func htmlTitle(body []byte) string {
	lower := bytes.ToLower(body) // ASCII tags keep their place even if other letters change length
	if len(lower) != len(body) {
		return ""
	}
	start := bytes.Index(lower, []byte("<title>"))
	if start < 0 {
		return ""
	}
	start += len("<title>")
	length := bytes.Index(lower[start:], []byte("</title"))
	if length < 0 {
		return ""
	}
	return html.UnescapeString(string(body[start : start+length]))
}

// withoutMarkup takes out tags: from "<" before a letter, "/", "!" or "?" to the next ">".
func withoutMarkup(s string) string {
	var text strings.Builder
	for {
		at := strings.IndexByte(s, '<')
		if at < 0 || at == len(s)-1 {
			break
		}
		if !startsTag(s[at+1]) {
			text.WriteString(s[:at+1])
			s = s[at+1:]
			continue
		}
		end := strings.IndexByte(s[at:], '>')
		if end < 0 {
			break
		}
		text.WriteString(s[:at])
		s = s[at+end+1:]
	}
	text.WriteString(s)
	return text.String()
}

// withoutTags is withoutMarkup for texts that must hold no tag at all: where one is left, because
// it is nested or not closed, every angle bracket goes.
func withoutTags(s string) string {
	s = withoutMarkup(s)
	for i := range len(s) - 1 {
		if s[i] == '<' && startsTag(s[i+1]) {
			return strings.NewReplacer("<", "", ">", "").Replace(s)
		}
	}
	return s
}

func startsTag(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '/' || c == '!' || c == '?'
}
