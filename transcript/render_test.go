package transcript

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// speech has what breaks formats: a time over an hour, an arrow, markup, line breaks, a blank
// segment and a comma, and words.
func speech() Transcript {
	return Transcript{
		Task: Transcribe, Language: "en", Duration: 3725.5,
		Segments: []Segment{
			{ID: 0, Start: 0, End: 3.32, Text: " And so, my fellow Americans,", Tokens: []int{843, 370}, AvgLogprob: -0.25, NoSpeechProb: 0.5, CompressionRatio: 1.25},
			{ID: 1, Start: 3.32, End: 7.5, Text: " ask <b>not</b> --> what\n\nAT&T can do", Tokens: []int{1029}, Temperature: 0.2, AvgLogprob: -0.5, CompressionRatio: 1.5, Seek: 300},
			{ID: 2, Start: 7.5, End: 8, Text: " "},
			{ID: 3, Start: 3723.004, End: 3725.5, Text: " für dich.", Tokens: []int{}, CompressionRatio: 1},
		},
		Words: []Word{
			{Word: "And", Start: 0.1, End: 0.4, Probability: 0.5},
			{Word: "so,", Start: 0.4, End: 0.9, Probability: 0.75},
			{Word: "ask", Start: 3.5, End: 3.9, Probability: 0.9},
			{Word: "dich.", Start: 3724, End: 3725.5, Probability: 1},
		},
		LanguageProbs: map[string]float64{"en": 0.25, "de": 0.75},
	}
}

func TestRenderGolden(t *testing.T) {
	types := map[string]string{
		"openai.json": "application/json", "openai.text": "text/plain; charset=utf-8",
		"openai.srt": "application/x-subrip; charset=utf-8", "openai.vtt": "text/vtt; charset=utf-8",
		"openai.verbose_json": "application/json", "openai_words.verbose_json": "application/json",
		"whisper_server.json": "application/json", "whisper_server.text": "text/html; charset=utf-8",
		"whisper_server.srt": "application/x-subrip", "whisper_server.vtt": "text/vtt",
		"asr.text": "text/plain; charset=utf-8", "asr.srt": "text/plain; charset=utf-8", "asr.vtt": "text/plain; charset=utf-8",
		"asr.tsv": "text/plain; charset=utf-8", "asr.json": "text/plain; charset=utf-8", "asr_words.json": "text/plain; charset=utf-8",
		"whisper_server_speakers.json": "application/json", "whisper_server_speakers.srt": "application/x-subrip",
		"whisper_server_speakers.vtt": "text/vtt", "whisper_server_speakers.verbose_json": "application/json",
		"whisper_server.verbose_json": "application/json", "whisper_server_words.verbose_json": "application/json",
	}
	for name, wantType := range types {
		t.Run(name, func(t *testing.T) {
			head, format, _ := strings.Cut(name, ".")
			dialect, words := strings.CutSuffix(head, "_words")
			tr := speech()
			if without, speakers := strings.CutSuffix(dialect, "_speakers"); speakers {
				dialect = without
				for i := range tr.Segments {
					tr.Segments[i].Speaker = []string{"0", "1", "?", "1"}[i]
				}
			}
			contentType, body := tr.Render(Params{API: API(dialect), Format: Format(format), Words: words})
			if contentType != wantType {
				t.Errorf("content type %q, want %q", contentType, wantType)
			}
			compareGolden(t, name, body)
		})
	}
	t.Run("stream", func(t *testing.T) { compareGolden(t, "openai.stream", speech().RenderStream()) })
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestRenderDetection(t *testing.T) {
	tr := Transcript{Language: "de", LanguageProbs: map[string]float64{"en": 0.25, "de": 0.75}}
	p := Params{API: ASR, Format: Text, DetectOnly: true}
	if kind, body := tr.Render(p); kind != "application/json" || string(body) != `{"detected_language":"german","language_code":"de","confidence":0.75}`+"\n" {
		t.Errorf("%s %s", kind, body)
	}
	tr.LanguageProbs = nil
	if _, body := tr.Render(p); string(body) != `{"detected_language":"german","language_code":"de","confidence":null}`+"\n" {
		t.Errorf("no probability was told: %s", body)
	}
}

func TestRenderFollowsParams(t *testing.T) {
	render := func(p Params) string {
		_, body := speech().Render(p)
		return string(body)
	}
	whisper := Params{API: WhisperServer, Format: VerboseJSON}
	without := whisper
	without.NoLanguageProbs = true
	if got := render(without); strings.Contains(got, "detected_language") || strings.Contains(got, "language_probabilities") {
		t.Errorf("no_language_probabilities is ignored: %s", got)
	}
	without = whisper
	without.NoTimestamps = true
	if got := render(without); strings.Contains(got, `"start"`) || strings.Contains(got, `"end"`) {
		t.Errorf("no_timestamps is ignored: %s", got)
	}
	if got := render(Params{API: WhisperServer, Format: SRT, OffsetN: 41}); !strings.HasPrefix(got, "42\n") {
		t.Errorf("offset_n is ignored: %s", got)
	}
	if got := render(Params{API: OpenAI, Task: Translate, Format: VerboseJSON}); !strings.Contains(got, `"task":"translate","language":"english"`) {
		t.Errorf("a translation is not English: %s", got)
	}
	_, body := Transcript{}.Render(Params{API: OpenAI, Task: Transcribe, Language: "de", Format: VerboseJSON})
	if !strings.Contains(string(body), `"language":"german"`) {
		t.Errorf("the language that was asked for is not that of an answer without one: %s", body)
	}
}

func TestRenderSilence(t *testing.T) {
	for _, c := range []struct {
		api    API
		format Format
		want   string
	}{
		{OpenAI, JSON, `{"text":"","usage":{"type":"duration","seconds":2}}` + "\n"},
		{OpenAI, Text, "\n"},
		{OpenAI, SRT, ""},
		{OpenAI, VTT, "WEBVTT\n\n"},
		{OpenAI, VerboseJSON, `{"task":"transcribe","language":"","duration":2,"text":"","segments":[],"usage":{"type":"duration","seconds":2}}` + "\n"},
		{WhisperServer, JSON, `{"text":""}` + "\n"},
		{WhisperServer, Text, ""},
		{WhisperServer, SRT, ""},
		{WhisperServer, VTT, "WEBVTT\n\n"},
	} {
		if _, body := (Transcript{Duration: 2}).Render(Params{API: c.api, Format: c.format}); string(body) != c.want {
			t.Errorf("%s %s: %q, want %q", c.api, c.format, body, c.want)
		}
	}
	if got, want := string(Transcript{}.RenderStream()), "data: {\"type\":\"transcript.text.done\",\"text\":\"\"}\n\n"; got != want {
		t.Errorf("stream: %q, want %q", got, want)
	}
}

// Whatever an engine hands over, the body is JSON and UTF-8.
func TestRenderHostileTranscript(t *testing.T) {
	bad := math.NaN()
	tr := Transcript{
		Language: "\xff", Duration: math.Inf(1), LanguageProbs: map[string]float64{"\xff": bad},
		Segments: []Segment{
			{Start: bad, End: math.Inf(1), Text: " a\xff\x00\u2028b", AvgLogprob: bad, NoSpeechProb: bad, Temperature: bad, CompressionRatio: math.Inf(-1)},
			{Start: 1e300, End: -5, Text: "c"},
		},
		Words: []Word{{Word: "\xff\n", Start: bad, End: bad, Probability: bad}},
	}
	for _, api := range []API{OpenAI, WhisperServer} {
		for _, format := range []Format{JSON, Text, SRT, VTT, VerboseJSON} {
			contentType, body := tr.Render(Params{API: api, Format: format, Words: true})
			if !utf8.Valid(body) {
				t.Errorf("%s %s is not UTF-8: %q", api, format, body)
			}
			if contentType == jsonType && !json.Valid(body) {
				t.Errorf("%s %s is not JSON: %q", api, format, body)
			}
			if strings.Count(string(body), "\x00")+strings.Count(string(body), "\u2028") > 0 && contentType != jsonType && format != Text {
				t.Errorf("%s %s has a line break in a cue: %q", api, format, body)
			}
		}
	}
}

func TestTextPutsRunesBackTogether(t *testing.T) {
	euro := "€"
	tr := Transcript{Segments: []Segment{{Text: "  5 " + euro[:1]}, {Text: euro[1:] + " each"}, {Text: " \xe2\x82"}, {Text: " \n"}}}
	if got, want := tr.Text(), "5 € each \uFFFD"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if got, want := strings.Join(tr.mended().pieces(), "|"), "5 |€ each| |\uFFFD"; got != want {
		t.Errorf("pieces %q, want %q", got, want)
	}
}

func TestHasWords(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, " ...": false, "♪♪": false, " [BLANK_AUDIO]": false, "[BLANK_AUDIO] a": true,
		"é": true, " 7": true, "你": true, "[Music]": true,
	} {
		if got := (Transcript{Segments: []Segment{{Text: text}}}).HasWords(); got != want {
			t.Errorf("HasWords(%q) = %v", text, got)
		}
	}
}

func TestTimestamp(t *testing.T) {
	for s, want := range map[float64]string{
		0: "00:00:00.000", 59.9994: "00:00:59.999", 59.9996: "00:01:00.000", 3600: "01:00:00.000",
		362439.999: "100:40:39.999", -1: "00:00:00.000", math.NaN(): "00:00:00.000", 1e300: "277777:46:40.000",
	} {
		if got := timestamp(s, '.'); got != want {
			t.Errorf("timestamp(%v) = %s, want %s", s, got, want)
		}
	}
}

// Reference values: Python 3's len(text) / len(zlib.compress(text)) as in openai/whisper.
func TestCompressionRatio(t *testing.T) {
	loop := strings.Repeat("thank you for watching ", 20)
	if got := compressionRatio(loop); got < 10 || got > 16 {
		t.Errorf("a loop has ratio %v", got)
	}
	plain := "And so, my fellow Americans, ask not what your country can do for you"
	if got := compressionRatio(plain); got < 0.9 || got > 1.2 {
		t.Errorf("plain text has ratio %v", got)
	}
}
