package upstream

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/transcript"
)

// client is a client's wish and how to tell that it got it.
type client struct {
	name        string
	api         transcript.API
	fields      []string
	contentType string
	check       func(t *testing.T, body string)
}

func exactly(want string) func(*testing.T, string) {
	return func(t *testing.T, body string) {
		t.Helper()
		if body != want {
			t.Errorf("got\n%q\nwant\n%q", body, want)
		}
	}
}

// object decodes a JSON body and checks its text.
func object(t *testing.T, body, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if v["text"] != text {
		t.Errorf("text is %q, want %q", v["text"], text)
	}
	return v
}

func jsonWithText(text string) func(*testing.T, string) {
	return func(t *testing.T, body string) { t.Helper(); object(t, body, text) }
}

func openAIVerbose(words bool) func(*testing.T, string) {
	return func(t *testing.T, body string) {
		t.Helper()
		v := object(t, body, openAIText)
		if v["language"] != "english" || v["duration"] != 11.0 || v["task"] != "transcribe" {
			t.Errorf("language, duration, task: %v, %v, %v", v["language"], v["duration"], v["task"])
		}
		segments, _ := v["segments"].([]any)
		if len(segments) != 2 {
			t.Fatalf("%d segments in %s", len(segments), body)
		}
		second, _ := segments[1].(map[string]any)
		if second["start"] != 3.2 || second["end"] != 7.6 || second["text"] != " ask not what your country can do for you." {
			t.Errorf("second segment: %v", second)
		}
		for _, member := range []string{"seek", "compression_ratio", "tokens"} { // which clients require
			if second[member] == nil {
				t.Errorf("no %s in %v", member, second)
			}
		}
		list, has := v["words"].([]any)
		if has != words {
			t.Fatalf("words: %v, want %v in %s", has, words, body)
		}
		if words {
			first, _ := list[0].(map[string]any)
			if first["word"] != "And" || first["end"] != 0.5 {
				t.Errorf("first word: %v", first)
			}
		}
	}
}

func serverVerbose(t *testing.T, body string) {
	t.Helper()
	v := object(t, body, serverText)
	segments, _ := v["segments"].([]any)
	if len(segments) != 2 || v["duration"] != 11.0 {
		t.Fatalf("segments or duration in %s", body)
	}
	if v["detected_language"] != "english" {
		t.Errorf("detected_language: %v", v["detected_language"])
	}
	first, _ := segments[0].(map[string]any)
	words, _ := first["words"].([]any)
	if len(words) == 0 {
		t.Fatalf("no words in the first segment: %v", first)
	}
	if word, _ := words[0].(map[string]any); word["word"] != " And" || word["end"] != 0.5 || word["probability"] == nil {
		t.Errorf("first word: %v", words[0])
	}
}

// streamed puts the deltas together and compares.
func streamed(t *testing.T, body string) {
	t.Helper()
	var text, done string
	for event := range strings.SplitSeq(strings.TrimSpace(body), "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		if !ok {
			t.Fatalf("event %q", event)
		}
		var v struct{ Type, Delta, Text string }
		if err := json.Unmarshal([]byte(data), &v); err != nil {
			t.Fatal(err)
		}
		switch v.Type {
		case "transcript.text.delta":
			text += v.Delta
		case "transcript.text.done":
			done = v.Text
		}
	}
	if text != openAIText || done != openAIText {
		t.Errorf("deltas %q, done %q", text, done)
	}
}

var clients = []client{
	{"openai json", transcript.OpenAI, nil, "application/json", jsonWithText(openAIText)},
	{"openai text", transcript.OpenAI, []string{"response_format", "text"}, "text/plain", exactly(openAIText + "\n")},
	{"openai srt", transcript.OpenAI, []string{"response_format", "srt"}, "application/x-subrip", exactly(openAISRT)},
	{"openai vtt", transcript.OpenAI, []string{"response_format", "vtt"}, "text/vtt", exactly(openAIVTT)},
	{"openai verbose_json", transcript.OpenAI, []string{"response_format", "verbose_json"}, "application/json", openAIVerbose(false)},
	{"openai words", transcript.OpenAI, []string{"response_format", "verbose_json", "timestamp_granularities[]", "word"}, "application/json", openAIVerbose(true)},
	{"openai stream", transcript.OpenAI, []string{"stream", "true"}, "text/event-stream", streamed},
	{"openai streamed text", transcript.OpenAI, []string{"stream", "true", "response_format", "text"}, "text/event-stream", streamed},
	{"inference json", transcript.WhisperServer, nil, "application/json", jsonWithText(serverText)},
	{"inference text", transcript.WhisperServer, []string{"response_format", "text"}, "text/html", exactly(serverText)},
	{"inference srt", transcript.WhisperServer, []string{"response_format", "srt"}, "application/x-subrip", exactly(serverSRT)},
	{"inference vtt", transcript.WhisperServer, []string{"response_format", "vtt"}, "text/vtt", exactly(serverVTT)},
	{"inference verbose_json", transcript.WhisperServer, []string{"response_format", "verbose_json"}, "application/json", serverVerbose},
	{"asr txt", transcript.ASR, nil, "text/plain", exactly("And so my fellow Americans,\nask not what your country can do for you.\n")},
	{"asr srt", transcript.ASR, []string{"output", "srt"}, "text/plain", exactly(openAISRT)},
	{"asr vtt", transcript.ASR, []string{"output", "vtt"}, "text/plain", exactly(strings.ReplaceAll(openAIVTT, "00:00:", "00:"))},
	{"asr tsv", transcript.ASR, []string{"output", "tsv"}, "text/plain", exactly("start\tend\ttext\n0\t3200\tAnd so my fellow Americans,\n3200\t7600\task not what your country can do for you.\n")},
	{"asr json", transcript.ASR, []string{"output", "json", "word_timestamps", "true"}, "text/plain", asrJSON},
	{"detect-language", transcript.ASR, []string{"detect", "true"}, "application/json", detection},
}

func asrJSON(t *testing.T, body string) {
	t.Helper()
	v := object(t, body, openAIText)
	segments, _ := v["segments"].([]any)
	if len(segments) != 2 || v["language"] != "en" {
		t.Fatalf("segments or language in %s", body)
	}
	first, _ := segments[0].(map[string]any)
	words, _ := first["words"].([]any)
	if len(words) == 0 || words[0].(map[string]any)["word"] != " And" || first["compression_ratio"] == nil {
		t.Errorf("words: %v in %s", words, body)
	}
}

// detection is German of the servers that detect, and what OpenAI's verbose_json tells.
func detection(t *testing.T, body string) {
	t.Helper()
	body = strings.TrimSpace(body)
	if body != `{"detected_language":"german","language_code":"de","confidence":0.97}` && body != `{"detected_language":"english","language_code":"en","confidence":null}` {
		t.Errorf("%s", body)
	}
}

// drain reads a stream to its end, as a stream again.
func drain(t *testing.T, s *Stream) (body []byte, words bool) {
	t.Helper()
	defer s.Close()
	var again transcript.Stream
	for {
		event, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		body = append(body, again.Segment(event.Delta)...)
		if event.Done {
			return append(body, again.Done()...), s.Words()
		}
	}
}

// openAILine is what a whisper.cpp client gets of an answer that has no segments: one line.
var openAILine = map[string]func(*testing.T, string){
	"inference json": jsonWithText(openAIText + "\n"),
	"inference text": exactly(openAIText + "\n"),
}

// Whoever serves it, a client gets the dialect and the format that it asked for.
func TestEveryClientIsServedByEveryKind(t *testing.T) {
	servers := map[string]*server{
		"whisperpool": poolBackend(t), "openai": openAIServer(t), "whisper_server": whisperCPP(t, nil),
	}
	for _, name := range Names() {
		k, _ := ByName(name)
		base := servers[name].base(t)
		for _, c := range clients {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				v := mustExchange(t, k, base, request(params(t, c.api, c.fields...)))
				if v.Class != OK {
					t.Fatalf("class %d: %s", v.Class, v.Detail)
				}
				if mediaType, _, _ := strings.Cut(v.Answer.ContentType, ";"); mediaType != c.contentType {
					t.Errorf("content type %q, want %q", v.Answer.ContentType, c.contentType)
				}
				if stream := v.Answer.Stream; stream != nil {
					v.Answer.Body, v.Answer.Words = drain(t, stream)
				}
				if !v.Answer.Words {
					t.Error("the answer's words were not noticed")
				}
				if s := v.Answer.AudioSeconds; s != 0 && s != 11 {
					t.Errorf("audio seconds: %v", s)
				}
				check := c.check
				if line := openAILine[c.name]; name == "openai" && line != nil {
					check = line
				}
				check(t, string(v.Answer.Body))
			})
		}
	}
}

// What a kind is asked for is no more than the answer needs.
func TestWhatIsAskedFor(t *testing.T) {
	for _, c := range []struct {
		kind, client string
		path, format string
	}{
		{"openai", "openai json", "/v1/audio/transcriptions", "json"},
		{"openai", "openai text", "/v1/audio/transcriptions", "json"}, // gpt-4o-transcribe knows no text
		{"openai", "openai stream", "/v1/audio/transcriptions", "json"},
		{"openai", "openai srt", "/v1/audio/transcriptions", "verbose_json"}, // vLLM knows no srt
		{"openai", "inference text", "/v1/audio/transcriptions", "json"},
		{"openai", "inference verbose_json", "/v1/audio/transcriptions", "verbose_json"},
		{"whisper_server", "openai json", "/inference", "json"},
		{"whisper_server", "openai text", "/inference", "json"},
		{"whisper_server", "openai vtt", "/inference", "verbose_json"},
		{"whisper_server", "inference vtt", "/inference", "vtt"},
		{"whisperpool", "openai srt", "/v1/audio/transcriptions", "srt"},
		{"whisperpool", "openai streamed text", "/v1/audio/transcriptions", "json"},
		{"whisperpool", "inference srt", "/inference", "srt"},
		{"whisperpool", "asr txt", "/v1/audio/transcriptions", "verbose_json"},
		{"whisperpool", "detect-language", "/inference", "verbose_json"},
		{"openai", "asr srt", "/v1/audio/transcriptions", "verbose_json"},
		{"openai", "detect-language", "/v1/audio/transcriptions", "verbose_json"},
		{"whisper_server", "asr json", "/inference", "verbose_json"},
		{"whisper_server", "detect-language", "/inference", "verbose_json"},
	} {
		k, _ := ByName(c.kind)
		s := map[string]func() *server{
			"whisperpool": func() *server { return poolBackend(t) }, "openai": func() *server { return openAIServer(t) },
			"whisper_server": func() *server { return whisperCPP(t, nil) },
		}[c.kind]()
		for _, wish := range clients {
			if wish.name != c.client {
				continue
			}
			mustExchange(t, k, s.base(t), request(params(t, wish.api, wish.fields...)))
			got := s.last(t)
			if got.path != c.path || got.value("response_format") != c.format {
				t.Errorf("%s for %s: asked %s for %s, want %s for %s", c.kind, c.client, got.path, got.value("response_format"), c.path, c.format)
			}
			if streams := got.form["stream"] != nil; streams != (c.kind == "whisperpool" && strings.Contains(c.client, "stream")) {
				t.Errorf("%s for %s: asked to stream: %v", c.kind, c.client, streams)
			}
		}
	}
}

// A server's own bytes reach a client that asked for just them.
func TestAnswersPassThrough(t *testing.T) {
	v := mustExchange(t, openAI{}, openAIServer(t).base(t), request(params(t, transcript.OpenAI, "response_format", "verbose_json")))
	exactly(openAIVerboseBody(false))(t, string(v.Answer.Body))
	v = mustExchange(t, whisperServer{}, whisperCPP(t, nil).base(t), request(params(t, transcript.WhisperServer, "response_format", "verbose_json")))
	exactly(serverVerboseBody(true, true))(t, string(v.Answer.Body))
	if v.Answer.AudioSeconds != 11 {
		t.Errorf("audio seconds %v", v.Answer.AudioSeconds)
	}
}

// A server that knows only JSON answers with that; the client gets what it asked for all the same.
func TestServerThatKnowsOnlyJSON(t *testing.T) {
	s := listen(t, func(s *server, w http.ResponseWriter, r *http.Request) {
		s.receive(t, r)
		write(w, 200, "", `{"text":"`+openAIText+`"}`)
	})
	for _, c := range []struct {
		kind   Kind
		fields []string
		want   string
	}{
		{whisperPool{}, []string{"response_format", "text"}, openAIText + "\n"},
		{openAI{}, []string{"response_format", "srt"}, "1\n00:00:00,000 --> 00:00:11,000\n" + openAIText + "\n\n"},
		{openAI{}, []string{"response_format", "vtt"}, "WEBVTT\n\n00:00:00.000 --> 00:00:11.000\n" + openAIText + "\n\n"},
	} {
		v := mustExchange(t, c.kind, s.base(t), request(params(t, transcript.OpenAI, c.fields...)))
		exactly(c.want)(t, string(v.Answer.Body))
	}
	v := mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.OpenAI, "response_format", "verbose_json")))
	if got := object(t, string(v.Answer.Body), openAIText); got["duration"] != 11.0 || got["segments"] == nil {
		t.Errorf("verbose_json: %s", v.Answer.Body)
	}
	if v.Answer.AudioSeconds != 0 {
		t.Errorf("audio seconds %v, but the server told none", v.Answer.AudioSeconds)
	}
}

// OpenAI's API cannot be asked for a part of the audio; the client gets the part all the same.
func TestPartOfTheAudio(t *testing.T) {
	base := openAIServer(t).base(t)
	v := mustExchange(t, openAI{}, base, request(params(t, transcript.WhisperServer, "offset_t", "3000", "duration", "5000", "response_format", "text")))
	exactly(" ask not what your country can do for you.\n")(t, string(v.Answer.Body))
	v = mustExchange(t, openAI{}, base, request(params(t, transcript.WhisperServer, "duration", "2000", "response_format", "verbose_json")))
	if got := object(t, string(v.Answer.Body), " And so my fellow Americans,\n"); len(got["segments"].([]any)) != 1 {
		t.Errorf("segments: %v", got["segments"])
	}
}
