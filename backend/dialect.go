package backend

import (
	"net/http"

	"github.com/whisperpool/whisperpool/transcript"
)

// dialect is how a route that takes audio is spoken to.
type dialect struct {
	api    transcript.API
	task   transcript.Task
	file   string // the form's field with the audio
	query  bool   // parameters are in the URL
	detect bool   // only the language is asked for
}

// The dialects, one a route.
var (
	openAITranscription = dialect{api: transcript.OpenAI, task: transcript.Transcribe, file: "file"}
	openAITranslation   = dialect{api: transcript.OpenAI, task: transcript.Translate, file: "file"}
	inference           = dialect{api: transcript.WhisperServer, task: transcript.Transcribe, file: "file"}
	asr                 = dialect{api: transcript.ASR, task: transcript.Transcribe, file: "audio_file", query: true}
	detectLanguage      = dialect{api: transcript.ASR, task: transcript.Transcribe, file: "audio_file", query: true, detect: true}
)

// setHeaders sets the headers that clients of the API know.
func (d dialect) setHeaders(h http.Header, j *job, s *Server) {
	switch d.api {
	case transcript.WhisperServer:
		allowAll(h)
		// A text is text/html there: whatever somebody said, no browser may run it.
		h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	case transcript.ASR:
		s.setASRHeaders(h, j)
	}
}
