package backend

import (
	"net/http"
)

// inferenceBestOf is how many candidates whisper.cpp's server decodes at temperatures above 0 unless it
// is told otherwise; the library's own default, and OpenAI's, is 5.
const inferenceBestOf = 2

// allowAll lets pages of any origin read the answer, as whisper.cpp's server does.
func allowAll(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Headers", "content-type, authorization")
}

// preflight answers the question of a browser whether a page may post to whisper.cpp's path.
func preflight(path string, w http.ResponseWriter, r *http.Request) bool {
	if path != "/inference" || r.Method != http.MethodOptions {
		return false
	}
	allowAll(w.Header())
	w.Header().Set("Access-Control-Allow-Methods", "POST, OPTIONS")
	w.Header().Set("Allow", "POST, OPTIONS")
	w.WriteHeader(http.StatusOK)
	return true
}

// page says to a person what answers here. It loads nothing and runs nothing.
const page = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>whisper-backend</title>
<style>body { font: 16px/1.5 sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em } pre { background: #eee; padding: 1em; overflow: auto }</style>
<h1>whisper-backend</h1>
<p>This server turns speech into text. It speaks the APIs of OpenAI, of whisper.cpp's server and of whisper-asr-webservice:</p>
<pre>
curl -F file=@audio.wav -F model=whisper-1 http://HOST/v1/audio/transcriptions
curl -F file=@audio.wav -F response_format=srt http://HOST/inference
curl -F audio_file=@audio.wav 'http://HOST/asr?output=srt'
</pre>
<form action="inference" method="post" enctype="multipart/form-data">
<p><input type="file" name="file" accept="audio/*,video/*" required>
<input type="hidden" name="language" value="auto">
<select name="response_format"><option>text<option>srt<option>vtt<option>json<option>verbose_json</select>
<button>Transcribe</button></p>
</form>
<p><a href="v1/models">models</a> · <a href="health">health</a> · <a href="load-report">load</a> · <a href="metrics">metrics</a></p>
</html>
`

func (s *Server) servePage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(page)) // the client may be gone
}
