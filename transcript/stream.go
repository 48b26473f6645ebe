package transcript

import "bytes"

type (
	deltaEvent struct {
		Type  string `json:"type"`
		Delta string `json:"delta"`
	}
	// doneEvent carries no usage: OpenAI's types allow only a count of tokens there, and ours is a
	// duration, which strict clients refuse.
	doneEvent struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
)

// StreamType is the content type of a streamed answer.
const StreamType = "text/event-stream"

// RenderStream writes the transcript as the server-sent events of OpenAI's streamed answer: a
// delta for each segment and done. The deltas make up the text of done; silence has none.
func (t Transcript) RenderStream() []byte {
	t = t.mended()
	var body bytes.Buffer
	for _, piece := range t.pieces() {
		writeEvent(&body, deltaEvent{Type: "transcript.text.delta", Delta: piece})
	}
	writeEvent(&body, doneEvent{Type: "transcript.text.done", Text: t.Text()})
	return body.Bytes()
}

func writeEvent(body *bytes.Buffer, event any) {
	body.WriteString("data: ")
	body.Write(encodeJSON(event)) // one line, with its end
	body.WriteByte('\n')
}
