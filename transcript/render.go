package transcript

// Render writes the transcript in the format and dialect that p asks for.
func (t Transcript) Render(p Params) (contentType string, body []byte) { return "", nil }

// RenderStream writes the transcript as the events of OpenAI's streamed answer.
func (t Transcript) RenderStream() []byte { return nil }

// HasWords tells whether the transcript holds any letter or digit.
func (t Transcript) HasWords() bool { return false }

// Text is the texts of the segments, joined and trimmed.
func (t Transcript) Text() string { return "" }
