package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/whisperpool/whisperpool/transcript"
)

// The servers here answer as the real ones were seen or read to (transcription.md, 1 and 3): the
// bodies are written out, so that what the package renders itself is not its own witness.

// received is a request as a server got it.
type received struct {
	path     string
	form     map[string][]string
	order    []string // names of the parts
	filename string
	fileType string
	file     []byte
	header   http.Header
	length   int64
}

// server is a listening server of some kind that remembers what it got.
type server struct {
	*httptest.Server
	mu  sync.Mutex
	got []received
}

func (s *server) base(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (s *server) last(t *testing.T) received {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) == 0 {
		t.Fatal("the server got no transcription request")
	}
	return s.got[len(s.got)-1]
}

// receive reads an upload part by part.
func (s *server) receive(t *testing.T, r *http.Request) received {
	got := received{path: r.URL.Path, form: map[string][]string{}, header: r.Header, length: r.ContentLength}
	parts, err := r.MultipartReader()
	if err != nil {
		t.Errorf("the request is no form: %v", err)
		return got
	}
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Errorf("reading the form: %v", err)
			return got
		}
		value, err := io.ReadAll(part)
		if err != nil {
			t.Errorf("reading %s: %v", part.FormName(), err)
			return got
		}
		got.order = append(got.order, part.FormName())
		if part.FormName() == "file" {
			got.filename, got.fileType, got.file = part.FileName(), part.Header.Get("Content-Type"), value
			continue
		}
		got.form[part.FormName()] = append(got.form[part.FormName()], string(value))
	}
	s.mu.Lock()
	s.got = append(s.got, got)
	s.mu.Unlock()
	return got
}

func (r received) value(name string) string {
	if values := r.form[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}

func listen(t *testing.T, handler func(s *server, w http.ResponseWriter, r *http.Request)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(s, w, r) }))
	t.Cleanup(s.Close)
	return s
}

func write(w http.ResponseWriter, status int, contentType, body string) {
	if contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// What is said in the recording, in OpenAI's and in whisper-server's formats.
const (
	openAIText    = "And so my fellow Americans, ask not what your country can do for you."
	openAIUsage   = `{"text":"` + openAIText + `","usage":{"type":"duration","seconds":11}}`
	openAISRT     = "1\n00:00:00,000 --> 00:00:03,200\nAnd so my fellow Americans,\n\n2\n00:00:03,200 --> 00:00:07,600\nask not what your country can do for you.\n\n"
	openAIVTT     = "WEBVTT\n\n00:00:00.000 --> 00:00:03.200\nAnd so my fellow Americans,\n\n00:00:03.200 --> 00:00:07.600\nask not what your country can do for you.\n\n"
	openAISegment = `{"id":0,"seek":0,"start":0.0,"end":3.2,"text":" And so my fellow Americans,","tokens":[50364,400],"temperature":0.0,"avg_logprob":-0.28,"compression_ratio":1.2,"no_speech_prob":0.01},` +
		`{"id":1,"seek":0,"start":3.2,"end":7.6,"text":" ask not what your country can do for you.","tokens":[50524,1029],"temperature":0.0,"avg_logprob":-0.28,"compression_ratio":1.2,"no_speech_prob":0.01}`
	openAIWords = `[{"word":"And","start":0.0,"end":0.5},{"word":"so","start":0.5,"end":0.8},{"word":"ask","start":3.3,"end":3.6},{"word":"not","start":3.6,"end":4.0}]`

	serverText = " And so my fellow Americans,\n ask not what your country can do for you.\n"
	serverSRT  = "1\n00:00:00,000 --> 00:00:03,200\n And so my fellow Americans,\n\n2\n00:00:03,200 --> 00:00:07,600\n ask not what your country can do for you.\n\n"
	serverVTT  = "WEBVTT\n\n00:00:00.000 --> 00:00:03.200\n And so my fellow Americans,\n\n00:00:03.200 --> 00:00:07.600\n ask not what your country can do for you.\n\n"
)

func openAIVerboseBody(words bool) string {
	body := `{"task":"transcribe","language":"english","duration":11.0,"text":"` + openAIText + `","segments":[` + openAISegment + `]`
	if words {
		body += `,"words":` + openAIWords
	}
	return body + `,"x_extension":"kept"}`
}

// serverVerboseBody is whisper-server 1.9's verbose_json: words are tokens, nested in segments.
func serverVerboseBody(times, probabilities bool) string {
	token := func(word string, start, end float64) string {
		if !times {
			return fmt.Sprintf(`{"word":%q,"probability":0.9}`, word)
		}
		return fmt.Sprintf(`{"word":%q,"start":%v,"end":%v,"t_dtw":-1,"probability":0.9}`, word, start, end)
	}
	body := `{"task":"transcribe","language":"english","duration":11.0,"text":` + quoted(serverText) + `,"segments":[` +
		`{"id":0,"text":" And so my fellow Americans,","start":0.0,"end":3.2,"tokens":[400,370],"words":[` +
		strings.Join([]string{token(" And", 0, .5), token(" so", .5, .8), token(" my", .8, 1), token(" fel", 1, 1.3), token("low", 1.3, 1.6), token(" Americans", 1.6, 3), token(",", 3, 3.2)}, ",") +
		`],"temperature":0.0,"avg_logprob":-0.3,"no_speech_prob":0.0},` +
		`{"id":1,"text":" ask not what your country can do for you.","start":3.2,"end":7.6,"tokens":[1029,406],"words":[` +
		strings.Join([]string{token(" ask", 3.3, 3.6), token(" not", 3.6, 4)}, ",") +
		`],"temperature":0.0,"avg_logprob":-0.3,"no_speech_prob":0.0}]`
	if probabilities {
		body += `,"detected_language":"english","detected_language_probability":0.97,"language_probabilities":{"en":0.97,"de":0.01}`
	}
	return body + "}"
}

func quoted(s string) string {
	body, _ := json.Marshal(s)
	return string(body)
}

// streamBody is an answer in events, with a comment before.
const streamBody = ": still at work\n\n" +
	`data: {"type":"transcript.text.delta","delta":"And so my fellow Americans,"}` + "\n\n" +
	`data: {"type":"transcript.text.delta","delta":" ask not what your country can do for you."}` + "\n\n" +
	`data: {"type":"transcript.text.done","text":"` + openAIText + `"}` + "\n\n"

func answerOpenAI(w http.ResponseWriter, got received) {
	if got.value("stream") == "true" {
		w.Header().Set("X-Whisperpool-Audio-Seconds", "11.000")
		write(w, 200, "text/event-stream", streamBody)
		return
	}
	switch got.value("response_format") {
	case "text":
		write(w, 200, "text/plain; charset=utf-8", openAIText+"\n")
	case "srt":
		write(w, 200, "text/plain", openAISRT)
	case "vtt":
		write(w, 200, "text/vtt", openAIVTT)
	case "verbose_json":
		write(w, 200, "application/json", openAIVerboseBody(slices.Contains(got.form["timestamp_granularities[]"], "word")))
	default:
		write(w, 200, "application/json", openAIUsage)
	}
}

func answerWhisperServer(w http.ResponseWriter, got received) {
	if got.value("detect_language") == "true" && got.value("response_format") == "verbose_json" {
		write(w, 200, "application/json", `{"task":"transcribe","language":"german","duration":11.0,"text":"","segments":[],`+
			`"detected_language":"german","detected_language_probability":0.97,"language_probabilities":{"de":0.97,"en":0.01}}`)
		return
	}
	switch got.value("response_format") {
	case "text":
		write(w, 200, "text/html; charset=utf-8", serverText)
	case "srt":
		write(w, 200, "application/x-subrip", serverSRT)
	case "vtt":
		write(w, 200, "text/vtt", serverVTT)
	case "verbose_json":
		write(w, 200, "application/json", serverVerboseBody(got.value("token_timestamps") != "false", got.value("no_language_probabilities") != "true"))
	default:
		write(w, 200, "application/json", `{"text":`+quoted(serverText)+`}`)
	}
}

// openAIServer serves two models.
func openAIServer(t *testing.T) *server {
	return listen(t, func(s *server, w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "POST /v1/audio/transcriptions", "POST /v1/audio/translations":
			answerOpenAI(w, s.receive(t, r))
		case "GET /v1/models":
			write(w, 200, "application/json", `{"object":"list","data":[{"id":"Systran/faster-whisper-base.en","object":"model"},{"id":"large-v3-turbo","object":"model"},{"id":"large-v3","object":"model"}]}`)
		default:
			write(w, 404, "application/json", `{"detail":"Not Found"}`)
		}
	})
}

// whisperCPP is whisper-server. quirk, if it answers, comes first.
func whisperCPP(t *testing.T, quirk func(w http.ResponseWriter, r *http.Request) bool) *server {
	return listen(t, func(s *server, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "whisper.cpp")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if quirk != nil && quirk(w, r) {
			return
		}
		switch r.Method + " " + r.URL.Path {
		case "POST /inference":
			answerWhisperServer(w, s.receive(t, r))
		case "OPTIONS /inference":
			write(w, 200, "", "")
		case "GET /health":
			write(w, 200, "application/json", `{"status":"ok"}`)
		case "GET /":
			write(w, 200, "text/html", "<html><head><title>Whisper.cpp Server</title></head></html>")
		default:
			write(w, 404, "text/plain", "File Not Found ("+r.URL.Path+")")
		}
	})
}

const loadReportBody = `{"server":"whisperpool","version":"dev","instance":"4f0c91d2a7b3e865","ready":true,"loading":false,"draining":false,` +
	`"slots":2,"busy":1,"queued":3,"queue_max":16,"gpu_class":"A10G","engine":"whispercpp","device":"CUDA0: NVIDIA A10G","gpu_uuid":"GPU-1f2e3d4c","emulator":false,` +
	`"models":[{"id":"base","multilingual":true,"translate":true,"words":true},{"id":"tiny","multilingual":false,"translate":false,"words":true}]}`

// poolBackend is our own backend: both dialects and a load report.
func poolBackend(t *testing.T) *server {
	return listen(t, func(s *server, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Whisperpool-Instance", "4f0c91d2a7b3e865")
		switch r.Method + " " + r.URL.Path {
		case "POST /v1/audio/transcriptions", "POST /v1/audio/translations":
			answerOpenAI(w, s.receive(t, r))
		case "POST /inference":
			answerWhisperServer(w, s.receive(t, r))
		case "GET /load-report":
			write(w, 200, "application/json", loadReportBody)
		case "GET /v1/models":
			write(w, 200, "application/json", `{"object":"list","data":[{"id":"base"}]}`)
		case "GET /health":
			write(w, 200, "application/json", `{"status":"ok"}`)
		default:
			write(w, 404, "application/json", `{"error":{"message":"no such path"}}`)
		}
	})
}

// transport is like the proxy's: it neither compresses nor follows redirects.
var transport = &http.Transport{DisableCompression: true}

// prober sends a probe's requests.
type prober struct{ healthURI string }

func (p prober) Do(req *http.Request) (*http.Response, error) { return transport.RoundTrip(req) }
func (p prober) HealthURI() string                            { return p.healthURI }

// wav is an upload; what is in it does not matter to these servers.
func wav() File {
	content := []byte("RIFF\x24\x00\x00\x00WAVEfmt pretend audio")
	return File{
		Name: "speech.wav", ContentType: "audio/wav", Size: int64(len(content)),
		Open: func() io.ReadCloser { return io.NopCloser(bytes.NewReader(content)) },
	}
}

func request(p transcript.Params) Request {
	return Request{Params: p, Model: "base", File: wav(), AudioSeconds: 11}
}

// params are what a form means, as the proxy reads it.
func params(t *testing.T, api transcript.API, fields ...string) transcript.Params {
	t.Helper()
	form := map[string][]string{"model": {"base"}}
	for i := 0; i+1 < len(fields); i += 2 {
		form[fields[i]] = append(form[fields[i]], fields[i+1])
	}
	p, refusal := transcript.ParseForm(api, transcript.Transcribe, form, transcript.Limits{})
	if refusal != nil {
		t.Fatalf("fields %v: %v", fields, refusal)
	}
	if api == transcript.ASR && form["detect"] != nil { // which is a path of its own
		p.DetectOnly = true
	}
	return p
}

// exchange renders r for k, sends it to base and reads the answer.
func exchange(t *testing.T, k Kind, base *url.URL, r Request) (Verdict, error) {
	t.Helper()
	req, err := k.Render(context.Background(), base, r)
	if err != nil {
		t.Fatalf("Render: %v", err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	return k.Read(resp, r)
}

func mustExchange(t *testing.T, k Kind, base *url.URL, r Request) Verdict {
	t.Helper()
	v, err := exchange(t, k, base, r)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return v
}
