package transcript

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var (
	allAPIs    = []API{OpenAI, WhisperServer, ASR}
	allFormats = []Format{JSON, Text, SRT, VTT, VerboseJSON}
)

// What is accepted is within the bounds that keep whisper.cpp alive.
func FuzzParseForm(f *testing.F) {
	for _, seed := range []string{
		"task=translate&language=de&output=srt&encode=false", "output=json&word_timestamps=1&vad_filter=t", "diarize=1&vad=1&vad_threshold=0.5&detect_language=y",
		"model=whisper-1", "temperature=NaN", "temperature_inc=1e-9&beam_size=9", "offset_t=-1&duration=2.5", "language=en-US&prompt=%ff",
		"response_format=verbose_json&timestamp_granularities[]=word&model=m", "audio_ctx=1501", "stream=True&model=m", "max_context=-1&vad=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		form, _ := url.ParseQuery(query)
		for _, api := range allAPIs {
			p, err := ParseForm(api, Transcribe, form, Limits{})
			if err != nil {
				checkRefusal(t, err)
				continue
			}
			if !(p.Temperature >= 0 && p.Temperature <= 1) || p.BeamSize < 0 || p.BeamSize > 8 || p.BestOf < 0 || p.BestOf > 8 ||
				p.AudioCtx < 0 || p.AudioCtx > 1500 || p.OffsetMS < 0 || p.DurationMS < 0 || p.MaxLen < 0 || p.OffsetN < 0 || len(p.Prompt) > PromptBytesMax ||
				!utf8.ValidString(p.Prompt) || strings.ContainsRune(p.Prompt+p.Model, 0) {
				t.Errorf("accepted %+v", p)
			}
			if step := p.TemperatureInc; step != nil && *step != 0 && !(*step >= 0.1 && *step <= 1) {
				t.Errorf("accepted temperature_inc %v", *step)
			}
			if v := p.VAD; v.Threshold != nil && !(*v.Threshold >= 0 && *v.Threshold <= 1) || v.SpeechPadMS != nil && (*v.SpeechPadMS < 0 || *v.SpeechPadMS > vadMSMax) ||
				v.MaxSpeechS != nil && !(*v.MaxSpeechS >= 0) {
				t.Errorf("accepted %+v", p.VAD)
			}
			if p.Language != "" && LanguageName(p.Language) == "" {
				t.Errorf("accepted language %q", p.Language)
			}
		}
	})
}

func checkRefusal(t *testing.T, err *Error) {
	t.Helper()
	if err.Status != 400 || err.Message == "" || len(err.Message) > 2000 || !utf8.ValidString(err.Message) || hasControl(err.Message) || hasControl(err.Param) {
		t.Errorf("refused with %+v", err)
	}
	if !json.Valid(err.Body()) {
		t.Errorf("body %q", err.Body())
	}
}

func hasControl(s string) bool { return strings.IndexFunc(s, unicode.IsControl) >= 0 }

// What is read can be written in every format, and the text survives.
func FuzzParseAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"text":"a"}`, `{"error":"x"}`, `{"text":"","segments":[{"start":1,"text":" a","words":[{"word":" a","start":1}]}]}`, `{"text":`,
		"1\n00:00:00,000 --> 00:00:01,000\na\n\n", "WEBVTT\n\n00:01.000 --> 00:02.000\n<b>a</b> &lt; b\n", "<html><title>x</title>", " a\n b\n", "\xff\xfe",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, api := range allAPIs {
			for _, format := range allFormats {
				tr, err := ParseAnswer(api, format, body)
				if err != nil {
					var answer *AnswerError
					if !errors.As(err, &answer) || answer.Reason == "" || len(answer.Detail) > detailBytesMax || !utf8.ValidString(answer.Detail) || hasControl(answer.Detail) {
						t.Fatalf("%#v", err)
					}
					continue
				}
				checkRenders(t, tr)
			}
		}
	})
}

func checkRenders(t *testing.T, tr Transcript) {
	t.Helper()
	for _, api := range allAPIs {
		for _, format := range append(slices.Clone(allFormats), TSV) {
			contentType, body := tr.Render(Params{API: api, Format: format, Words: true})
			if !utf8.Valid(body) || contentType == jsonType && !json.Valid(body) {
				t.Fatalf("%s %s: %q", api, format, body)
			}
			if api == ASR || format == TSV || format == Text && len(tr.Segments) > 0 { // no backend is asked so, or it may look like JSON or a page
				continue
			}
			back, err := ParseAnswer(api, format, body)
			if err != nil {
				t.Fatalf("%s %s: %v reading %q", api, format, err, body)
			}
			if api == OpenAI && contentType == jsonType && strings.Join(strings.Fields(back.Text()), "") != strings.Join(strings.Fields(tr.Text()), "") {
				t.Fatalf("%s: text %q became %q", format, tr.Text(), back.Text())
			}
		}
	}
	got := streamed(t, tr.RenderStream())
	if strings.Join(strings.Fields(got), "") != strings.Join(strings.Fields(tr.Text()), "") && utf8.ValidString(text(tr)) {
		t.Fatalf("streamed %q, text %q", got, tr.Text())
	}
}

// text is the bytes of all segments.
func text(tr Transcript) string {
	var all strings.Builder
	for _, s := range tr.Segments {
		all.WriteString(s.Text)
	}
	return all.String()
}

// streamed reads a whole stream: the deltas must be the text of the last event.
func streamed(t *testing.T, stream []byte) string {
	t.Helper()
	r := NewStreamReader(bytes.NewReader(stream), int64(len(stream)))
	var deltas strings.Builder
	for {
		e, err := r.Next()
		if err != nil {
			t.Fatalf("%v in %q", err, stream)
		}
		if e.Done && e.Delta != "" {
			t.Fatalf("the last event has %q more than the deltas", e.Delta)
		}
		if deltas.WriteString(e.Delta); e.Done {
			return deltas.String()
		}
	}
}

// Whatever a backend streams: an error, or texts that are whole.
func FuzzStreamReader(f *testing.F) {
	f.Add(speech().RenderStream())
	f.Add([]byte("data: {\"type\":\"transcript.text.done\",\"text\":\"a\"}\n\n"))
	f.Add([]byte(": x\r\n\r\nevent: y\ndata: {\"type\":\ndata: \"transcript.text.delta\",\"delta\":\"a\"}\n\ndata: {\"error\":{\"message\":\"m\"}}\n\n"))
	f.Add([]byte("data: {\"error\":\"x\"}\n\n"))
	f.Add([]byte("data: [DONE]\n\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := NewStreamReader(bytes.NewReader(body), 4096)
		for range len(body) + 1 {
			e, err := r.Next()
			if err != nil {
				if !utf8.ValidString(err.Error()) {
					t.Fatalf("%q", err)
				}
				return
			}
			if !utf8.ValidString(e.Delta) {
				t.Fatalf("%q", e.Delta)
			}
			if e.Done {
				return
			}
		}
		t.Fatal("more events than bytes")
	})
}

func FuzzParseError(f *testing.F) {
	for _, seed := range []string{
		`{"error":{"message":"m","type":"t","param":"p","code":"c"}}`, `{"error":"x"}`, `{"detail":[{"loc":["body","file"],"msg":"m"}]}`,
		"<html><title>a</title>", "plain <<b>b> text", "\xff\x00", `[{"message":"a"}]`,
	} {
		f.Add(500, "application/json", []byte(seed))
		f.Add(400, "text/html", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		e := ParseError(status, contentType, body)
		for _, s := range []string{e.Message, e.Type, e.Param, e.Code} {
			if !utf8.ValidString(s) || hasControl(s) || utf8.RuneCountInString(s) > messageMax {
				t.Errorf("%+v", e)
			}
			for i := range len(s) - 1 {
				if s[i] == '<' && startsTag(s[i+1]) {
					t.Errorf("markup in %q", s)
				}
			}
		}
		if e.Message == "" || e.Type == "" || e.Status != status || !json.Valid(e.Body()) {
			t.Errorf("%+v", e)
		}
	})
}
