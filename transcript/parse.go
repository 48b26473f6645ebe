package transcript

// AnswerError says why an upstream's answer is no transcript.
type AnswerError struct {
	Reason string // machine-readable: "empty", "truncated", "not_json", "not_object", "no_text", "error"
	Detail string // what was found, at most 200 bytes
}

func (e *AnswerError) Error() string { return e.Reason + ": " + e.Detail }

// ParseAnswer reads the answer of an upstream.
func ParseAnswer(api API, format Format, body []byte) (Transcript, error) { return Transcript{}, nil }

// ParseError reads an upstream's error body.
func ParseError(status int, contentType string, body []byte) *Error { return &Error{Status: status} }
