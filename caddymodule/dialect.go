package caddymodule

import (
	"net/http"
	"net/url"

	"github.com/whisperpool/whisperpool/transcript"
	"github.com/whisperpool/whisperpool/upstream"
)

// dialect is how a path that takes audio is spoken to.
type dialect struct {
	api    transcript.API
	task   transcript.Task
	file   string // the form's field with the audio
	query  bool   // parameters are in the URL
	detect bool   // only the language is asked for
}

// dialects are the paths that take audio.
var dialects = map[string]dialect{
	"/v1/audio/transcriptions": {api: transcript.OpenAI, task: transcript.Transcribe, file: "file"},
	"/v1/audio/translations":   {api: transcript.OpenAI, task: transcript.Translate, file: "file"},
	"/inference":               {api: transcript.WhisperServer, task: transcript.Transcribe, file: "file"},
	"/asr":                     {api: transcript.ASR, task: transcript.Transcribe, file: "audio_file", query: true},
	"/detect-language":         {api: transcript.ASR, task: transcript.Transcribe, file: "audio_file", query: true, detect: true},
}

// params reads what a request asks for.
func (d dialect) params(r *http.Request, form *upload) (transcript.Params, *transcript.Error) {
	if d.query {
		for name, values := range r.URL.Query() {
			form.fields[name] = values
		}
	}
	params, problem := transcript.ParseForm(d.api, d.task, form.fields, transcript.Limits{})
	if problem == nil && d.detect {
		params.DetectOnly, params.Language = true, ""
	}
	return params, problem
}

// setHeaders sets what clients of whisper-asr-webservice may look for: the engine, and the name under
// which a browser saves the answer.
func (d dialect) setHeaders(h http.Header, asked upstream.Request) {
	if d.api != transcript.ASR {
		return
	}
	h.Set("Asr-Engine", "whisperpool")
	if !d.detect {
		name := lastOf(asked.File.Name, 100)
		if name == "" {
			name = "audio"
		}
		h.Set("Content-Disposition", `attachment; filename="`+url.PathEscape(name)+"."+asked.Params.Extension()+`"`)
	}
}
