package transcript

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var (
	allAPIs    = []API{OpenAI, WhisperServer}
	allFormats = []Format{JSON, Text, SRT, VTT, VerboseJSON}
)

// What is accepted is within the bounds that keep whisper.cpp alive.
func FuzzParseForm(f *testing.F) {
	for _, seed := range []string{
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
		for _, format := range allFormats {
			contentType, body := tr.Render(Params{API: api, Format: format, Words: true})
			if !utf8.Valid(body) || contentType == jsonType && !json.Valid(body) {
				t.Fatalf("%s %s: %q", api, format, body)
			}
			if format == Text && len(tr.Segments) > 0 { // which may look like JSON or a page
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
	var streamed strings.Builder
	for event := range strings.SplitSeq(strings.TrimSuffix(string(tr.RenderStream()), "\n\n"), "\n\n") {
		var e struct{ Type, Delta, Text string }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(event, "data: ")), &e); err != nil {
			t.Fatalf("%v in event %q", err, event)
		}
		if streamed.WriteString(e.Delta); e.Type == "transcript.text.done" && e.Text != streamed.String() {
			t.Fatalf("deltas %q, text %q", streamed.String(), e.Text)
		}
	}
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
