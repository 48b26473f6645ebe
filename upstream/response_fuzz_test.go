package upstream

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/transcript"
)

var formats = []transcript.Format{transcript.JSON, transcript.Text, transcript.SRT, transcript.VTT, transcript.VerboseJSON}

// Whatever a server answers: nothing panics, an answer is well-formed in the client's format, and
// each class comes with what it promises.
func FuzzRead(f *testing.F) {
	for i, body := range []string{
		openAIUsage, openAIText, openAISRT, openAIVTT, openAIVerboseBody(true), serverText, serverSRT, serverVTT,
		serverVerboseBody(true, true), `{"error":"x"}`, `{"error":{"message":"x"}}`, "", "{", "[]", "\ufeff{\"text\":\"a\"}", "Invalid request",
		"File Not Found (/inference)", `{"status":"loading model"}`, `{"text":1}`, `{"text":"\ud800"}`, "WEBVTT", "1\n00:00:00,000 --> x", "<html>",
		`{"text":"a","segments":[{"start":1e308,"end":-1,"text":null,"words":[{"word":"\u0000"}]}],"duration":"NaN"}`,
	} {
		for kind := range byte(3) {
			f.Add(200, []byte(body), kind, byte(i)%5, i%2 == 0, i%3 == 0, "1", "application/json")
			f.Add(503, []byte(body), kind, byte(i+1)%5, i%2 == 1, false, "Mon, 02 Jan 2006 15:04:05 GMT", "text/html")
		}
	}
	f.Add(404, []byte("File Not Found (/inference)"), byte(2), byte(0), true, false, "", "text/plain")
	f.Add(400, []byte("Invalid request"), byte(2), byte(0), true, false, "", "text/plain")
	f.Fuzz(func(t *testing.T, status int, body []byte, kind, format byte, openAI, option bool, retry, contentType string) {
		k := kinds[int(kind)%len(kinds)]
		r := request(transcript.Params{API: transcript.WhisperServer, Task: transcript.Transcribe, Format: formats[int(format)%len(formats)]})
		if openAI {
			r.Params.API = transcript.OpenAI
			r.Params.Stream = option && r.Params.Format == transcript.JSON
			r.Params.Words = option && r.Params.Format == transcript.VerboseJSON
		} else if option {
			r.Params.OffsetMS, r.Params.DurationMS = 1000, 5000
		}
		resp := &http.Response{
			StatusCode: status, Header: http.Header{"Retry-After": {retry}, "Content-Type": {contentType}, "Location": {retry}, "X-Whisperpool-Instance": {retry}}, ContentLength: int64(len(body)),
			Body: io.NopCloser(bytes.NewReader(body)),
		}
		v, err := k.Read(resp, r)
		if err != nil {
			t.Fatalf("a whole body is an error: %v", err)
		}
		if v.Instance != "" && (k.Name() != "whisperpool" || word(v.Instance) != v.Instance) {
			t.Fatalf("instance %q", v.Instance)
		}
		if v.RetryAfter < 0 || v.RetryAfter > retryAfterMax {
			t.Fatalf("RetryAfter %v", v.RetryAfter)
		}
		if !utf8.ValidString(v.Detail) || len(v.Detail) > detailMax+10 || strings.ContainsFunc(v.Detail, unicode.IsControl) {
			t.Fatalf("detail %q", v.Detail)
		}
		switch v.Class {
		case OK:
			checkAnswer(t, v.Answer, r.Params)
		case ClientFault:
			if v.Problem == nil || v.Problem.Status != status || v.Problem.Message == "" || !json.Valid(v.Problem.Body()) {
				t.Fatalf("problem %+v", v.Problem)
			}
		case Broken, Misconfigured, Busy, Loading:
			if v.Detail == "" || v.Answer.Body != nil {
				t.Fatalf("class %d: detail %q, answer %q", v.Class, v.Detail, v.Answer.Body)
			}
		default:
			t.Fatalf("class %d", v.Class)
		}
	})
}

func checkAnswer(t *testing.T, a Answer, p transcript.Params) {
	t.Helper()
	if a.ContentType == "" || !utf8.Valid(a.Body) || !(a.AudioSeconds >= 0) || a.AudioSeconds > 100 { // of 11 s, or of a part of them
		t.Fatalf("answer %+v", a)
	}
	switch {
	case p.Stream:
		if !bytes.HasPrefix(a.Body, []byte("data: {")) || !bytes.HasSuffix(a.Body, []byte("\n\n")) {
			t.Fatalf("events %q", a.Body)
		}
	case p.Format == transcript.JSON, p.Format == transcript.VerboseJSON:
		var v struct{ Text *any }
		if err := json.Unmarshal(a.Body, &v); err != nil {
			t.Fatalf("%v in %q", err, a.Body)
		}
	case p.Format == transcript.VTT:
		if !bytes.HasPrefix(a.Body, []byte("WEBVTT")) {
			t.Fatalf("vtt %q", a.Body)
		}
	case p.Format == transcript.SRT:
		if bytes.HasPrefix(a.Body, []byte("WEBVTT")) {
			t.Fatalf("srt %q", a.Body)
		}
	}
}
