package transcript

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// What Render writes, ParseAnswer reads: all that the format can hold comes back.
func TestRoundTrip(t *testing.T) {
	full := Transcript{
		Task: Transcribe, Language: "en", Duration: 11.25,
		Segments: []Segment{
			{ID: 0, Start: 0, End: 3.3, Text: " And so, my fellow <i>Americans</i>", Tokens: []int{400, 370}, AvgLogprob: -0.25, NoSpeechProb: 0.125, CompressionRatio: 1.5, Seek: 0},
			{ID: 1, Start: 3.3, End: 11.25, Text: " ask not what AT&T & co. &lt; 3 can do --- 你好", Tokens: []int{1}, Temperature: 0.4, AvgLogprob: -0.5, CompressionRatio: 2, Seek: 330},
		},
		Words: []Word{{Word: "And", Start: 0.1, End: 0.4, Probability: 0.5}, {Word: "ask", Start: 3.5, End: 3.75, Probability: 0.75}},
	}
	bare := func(keepTimes bool, texts ...string) Transcript {
		var tr Transcript
		for i, text := range texts {
			s := Segment{ID: i, Text: text}
			if keepTimes {
				s.Start, s.End = full.Segments[i].Start, full.Segments[i].End
			}
			tr.Segments = append(tr.Segments, s)
		}
		return tr
	}
	first, second := full.Segments[0].Text, full.Segments[1].Text
	withoutProbability := full
	withoutProbability.Words = []Word{{Word: "And", Start: 0.1, End: 0.4}, {Word: "ask", Start: 3.5, End: 3.75}}
	whisper := full // whisper.cpp tells neither of these
	whisper.Segments = []Segment{full.Segments[0], full.Segments[1]}
	for i := range whisper.Segments {
		whisper.Segments[i].Seek, whisper.Segments[i].CompressionRatio = 0, 0
		whisper.Segments[i].Words = []Word{full.Words[i]}
		whisper.Segments[i].Words[0].Word = " " + full.Words[i].Word // as tokens
		whisper.Segments[i].Speaker = []string{"0", "?"}[i]
	}
	whisper.LanguageProbs = map[string]float64{"en": 0.875, "de": 0.0625}
	joined := strings.TrimSpace(first + second)
	text := bare(false, joined)
	text.Duration = 11.25
	text.Segments[0].End = 11.25

	for _, c := range []struct {
		api    API
		format Format
		from   Transcript
		want   Transcript
	}{
		{OpenAI, JSON, full, text},
		{OpenAI, Text, full, bare(false, joined)},
		{OpenAI, SRT, full, bare(true, first, second)},
		{OpenAI, VTT, full, bare(true, first, second)},
		{OpenAI, VerboseJSON, full, withoutProbability},
		{WhisperServer, JSON, full, bare(false, first, second)},
		{WhisperServer, Text, full, bare(false, first, second)},
		{WhisperServer, SRT, full, bare(true, first, second)},
		{WhisperServer, VTT, full, bare(true, first, second)},
		{WhisperServer, VerboseJSON, whisper, whisper},
	} {
		t.Run(fmt.Sprintf("%s %s", c.api, c.format), func(t *testing.T) {
			_, body := c.from.Render(Params{API: c.api, Format: c.format, Words: true})
			got, err := ParseAnswer(c.api, c.format, body)
			if err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v\nbody %s", got, c.want, body)
			}
		})
	}
}

func TestParseAnswerOfServers(t *testing.T) {
	seg := func(i int, start, end float64, text string) Segment {
		return Segment{ID: i, Start: start, End: end, Text: text}
	}
	for name, c := range map[string]struct {
		api    API
		format Format
		body   string
		want   Transcript
	}{
		"silence in json":     {OpenAI, JSON, `{"text":""}`, Transcript{}},
		"silence in text":     {OpenAI, Text, "\n", Transcript{}},
		"silence in srt":      {WhisperServer, SRT, "", Transcript{}},
		"silence in vtt":      {WhisperServer, VTT, "WEBVTT\n\n", Transcript{}},
		"vtt without a byte":  {OpenAI, VTT, "", Transcript{}},
		"silence in verbose":  {OpenAI, VerboseJSON, `{"task":"transcribe","language":"english","duration":1.5,"text":"","segments":[]}`, Transcript{Task: Transcribe, Language: "en", Duration: 1.5}},
		"byte order mark":     {OpenAI, JSON, "\ufeff{\"text\":\"a\"}", Transcript{Segments: []Segment{seg(0, 0, 0, "a")}}},
		"null error":          {OpenAI, JSON, `{"text":"a","error":null}`, Transcript{Segments: []Segment{seg(0, 0, 0, "a")}}},
		"tokens as usage":     {OpenAI, JSON, `{"text":"a","usage":{"type":"tokens","input_tokens":14,"seconds":3}}`, Transcript{Segments: []Segment{seg(0, 0, 0, "a")}}},
		"duration as string":  {OpenAI, VerboseJSON, `{"text":"a","duration":"8.25"}`, Transcript{Duration: 8.25, Segments: []Segment{seg(0, 0, 8.25, "a")}}},
		"trimmed segments":    {OpenAI, VerboseJSON, `{"language":"en","segments":[{"start":0,"end":1,"text":"Hello"},{"start":1,"end":2,"text":"world."}]}`, Transcript{Language: "en", Segments: []Segment{seg(0, 0, 1, " Hello"), seg(1, 1, 2, " world.")}}},
		"Chinese segments":    {OpenAI, VerboseJSON, `{"language":"zh","segments":[{"end":1,"text":"你好"},{"start":1,"end":2,"text":"，世界"}]}`, Transcript{Language: "zh", Segments: []Segment{seg(0, 0, 1, "你好"), seg(1, 1, 2, "，世界")}}},
		"curious members":     {OpenAI, VerboseJSON, `{"text":"a b","task":7,"language":null,"duration":{},"segments":[{"id":"x","start":"0.5","end":null,"text":" a b","tokens":"none","avg_logprob":null}],"words":null}`, Transcript{Segments: []Segment{seg(0, 0.5, 0, " a b")}}},
		"segments of no use":  {OpenAI, VerboseJSON, `{"text":"a","segments":["x"]}`, Transcript{Segments: []Segment{seg(0, 0, 0, "a")}}},
		"unknown language":    {OpenAI, VerboseJSON, `{"text":"","language":"elvish"}`, Transcript{}},
		"verbose due, json":   {OpenAI, VerboseJSON, `{"text":"a"}`, Transcript{Segments: []Segment{seg(0, 0, 0, "a")}}},
		"text due, json":      {OpenAI, Text, `{"text":"a"}`, Transcript{Segments: []Segment{seg(0, 0, 0, "a")}}},
		"srt due, verbose":    {OpenAI, SRT, `{"text":"a","segments":[{"start":1,"end":2,"text":" a"}]}`, Transcript{Segments: []Segment{seg(0, 1, 2, " a")}}},
		"text with a brace":   {OpenAI, Text, "{laughs} yes\n", Transcript{Segments: []Segment{seg(0, 0, 0, "{laughs} yes")}}},
		"windows line ends":   {OpenAI, SRT, "1\r\n00:00:01,000 --> 00:00:02,500\r\nHello\r\nworld\r\n\r\n", Transcript{Segments: []Segment{seg(0, 1, 2.5, " Hello world")}}},
		"no blank lines":      {OpenAI, SRT, "1\n00:00:00,000 --> 00:00:01,000\nHello\n2\n00:00:01,000 --> 00:00:02,000\nworld", Transcript{Segments: []Segment{seg(0, 0, 1, " Hello"), seg(1, 1, 2, " world")}}},
		"points in srt":       {OpenAI, SRT, "1\n00:01.5 --> 01:00:02.5\nx\n", Transcript{Segments: []Segment{seg(0, 1.5, 3602.5, " x")}}},
		"a year is no number": {OpenAI, SRT, "1\n00:00:00,000 --> 00:00:01,000\n1984\n\n2\n00:00:01,000 --> 00:00:02,000\n2001\n\n", Transcript{Segments: []Segment{seg(0, 0, 1, " 1984"), seg(1, 1, 2, " 2001")}}},
		"vtt with everything": {
			OpenAI, VTT,
			"WEBVTT - a title\nKind: captions\n\nNOTE\nhidden\n\nSTYLE\n::cue { color: red }\n\nintro\n00:01.000 --> 00:02.000 align:start position:0%\n<v Anna>Hi <00:01.500><c>there</c>\nAT&amp;T\n\n",
			Transcript{Segments: []Segment{seg(0, 1, 2, " Hi there AT&T")}},
		},
		"words at the top": {
			OpenAI, VerboseJSON, `{"text":"Hi 42","words":[{"word":"Hi","start":0.5,"end":1,"probability":0.5},{"word":"42","score":0.25}],"segments":[{"start":0,"end":2,"text":" Hi 42","words":[{"word":" no","start":0,"end":1}]}]}`,
			Transcript{Segments: []Segment{seg(0, 0, 2, " Hi 42")}, Words: []Word{{"Hi", 0.5, 1, 0.5}, {"42", 1, 1, 0.25}}},
		},
		"faster-whisper's nested words": {
			OpenAI, VerboseJSON, `{"text":"Hi there","words":null,"segments":[{"start":0,"end":2,"text":" Hi there","words":[{"word":" Hi","start":0,"end":1,"probability":1},{"word":" there.","start":1,"end":2,"probability":1}]}]}`,
			Transcript{Segments: []Segment{seg(0, 0, 2, " Hi there")}, Words: []Word{{"Hi", 0, 1, 1}, {"there.", 1, 2, 1}}},
		},
		"nested words without spaces": {
			OpenAI, VerboseJSON, `{"segments":[{"start":0,"end":2,"text":" Hi there","words":[{"word":"Hi","start":0,"end":1},{"word":"there","start":1,"end":2}]}]}`,
			Transcript{Segments: []Segment{seg(0, 0, 2, " Hi there")}, Words: []Word{{"Hi", 0, 1, 0}, {"there", 1, 2, 0}}},
		},
		"whisper.cpp's tokens": {
			WhisperServer, VerboseJSON,
			`{"detected_language":"english","detected_language_probability":0.75,"duration":2.0,"language":"english","language_probabilities":{"en":0.75},"segments":[{"avg_logprob":-0.5,"end":2.0,"id":0,"no_speech_prob":0.25,"start":0.0,"temperature":0.0,"text":" Ask not,","tokens":[1,2,3],"words":[{"end":0.5,"probability":0.5,"start":-0.01,"t_dtw":-1,"word":" A"},{"end":1.0,"probability":1.0,"start":0.5,"t_dtw":-1,"word":"sk"},{"end":1.5,"probability":1.0,"start":1.0,"t_dtw":-1,"word":" not"},{"end":2.0,"probability":0.5,"start":1.5,"t_dtw":-1,"word":","}]}],"task":"transcribe","text":" Ask not,\n"}`,
			Transcript{
				Task: Transcribe, Language: "en", Duration: 2, LanguageProbs: map[string]float64{"en": 0.75},
				Segments: []Segment{{
					End: 2, Text: " Ask not,", Tokens: []int{1, 2, 3}, AvgLogprob: -0.5, NoSpeechProb: 0.25,
					Words: []Word{{" A", 0, 0.5, 0.5}, {"sk", 0.5, 1, 1}, {" not", 1, 1.5, 1}, {",", 1.5, 2, 0.5}},
				}},
				Words: []Word{{"Ask", 0, 1, 0.75}, {"not,", 1, 2, 0.75}},
			},
		},
		"whisper.cpp without timestamps": {
			WhisperServer, VerboseJSON, `{"text":" a\n","segments":[{"id":0,"text":" a","words":[{"word":" a","probability":1}]}]}`,
			Transcript{Segments: []Segment{seg(0, 0, 0, " a")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseAnswer(c.api, c.format, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestParseAnswerRefuses(t *testing.T) {
	for _, c := range []struct {
		format         Format
		body           string
		reason, detail string
	}{
		{JSON, "", AnswerEmpty, ""},
		{VerboseJSON, " \n", AnswerEmpty, ""},
		{JSON, `{"text":"And so my fel`, AnswerTruncated, `{"text":"And so my fel`},
		{VerboseJSON, `{"text":"a","segments":[{"id":0`, AnswerTruncated, `{"text":"a","segments":[{"id":0`},
		{JSON, `hello`, AnswerNotJSON, "hello"},
		{JSON, `{"text":"a"}{"text":"b"}`, AnswerNotJSON, `{"text":"a"}{"text":"b"}`},
		{JSON, `["a"]`, AnswerNotObject, `["a"]`},
		{JSON, `null`, AnswerNotObject, `null`},
		{JSON, `"text"`, AnswerNotObject, `"text"`},
		{JSON, `{}`, AnswerNoText, ""},
		{JSON, `{"text":null}`, AnswerNoText, ""},
		{JSON, `{"text":7}`, AnswerNoText, ""},
		{JSON, `{"status":"ok","detail":"try later"}`, AnswerNoText, "try later"},
		{JSON, `{"error":"failed to process audio"}`, AnswerFailure, "failed to process audio"},
		{JSON, `{"error":{"message":"out of\nmemory","code":7}}`, AnswerFailure, "out of memory"},
		{JSON, `{"error":{"reason":"x"}}`, AnswerFailure, `{"reason":"x"}`},
		{JSON, `{"text":"a","error":"late failure"}`, AnswerFailure, "late failure"},
		{JSON, `{"error":true}`, AnswerFailure, "true"},
		{Text, `{"error":"failed to process audio"}`, AnswerFailure, "failed to process audio"},
		{SRT, `{"error":"failed"}`, AnswerFailure, "failed"},
		{SRT, `{"text":"a"}`, AnswerNoCues, "JSON without times"},
		{SRT, "Hello world", AnswerNoCues, "Hello world"},
		{VTT, "Hello world", AnswerNoCues, "Hello world"},
		{Text, "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>", AnswerHTML, "502 Bad Gateway"},
		{JSON, "<html><body>log in</body></html>", AnswerHTML, ""},
	} {
		_, err := ParseAnswer(WhisperServer, c.format, []byte(c.body))
		var answer *AnswerError
		if !errors.As(err, &answer) || answer.Reason != c.reason || answer.Detail != c.detail {
			t.Errorf("%s %q: %#v", c.format, c.body, err)
		} else if !strings.HasPrefix(err.Error(), "the answer ") || strings.Contains(err.Error(), "  ") {
			t.Errorf("%s %q: message %q", c.format, c.body, err)
		}
	}
	_, err := ParseAnswer(OpenAI, JSON, []byte(`{"error":"`+strings.Repeat("ü", 500)+`"}`))
	if answer := new(AnswerError); !errors.As(err, &answer) || len(answer.Detail) != 200 || !utf8.ValidString(answer.Detail) {
		t.Errorf("a long detail is not cut: %v", err)
	}
}

func TestJoinTokens(t *testing.T) {
	token := func(text string) Word { return Word{Word: text, Probability: 1} }
	for name, c := range map[string]struct {
		tokens []string
		want   string
	}{
		"pieces":              {[]string{" trans", "cript", "ion", ",", " please"}, "transcription,|please"},
		"no space at first":   {[]string{"Hel", "lo", " you"}, "Hello|you"},
		"split rune":          {[]string{" caf", "\xc3", "\xa9", " au"}, "café|au"},
		"split Chinese":       {[]string{"\xe4\xbd", "\xa0", "好", "，", "世界"}, "你|好，|世界"},
		"Thai marks":          {[]string{"ก", "ิ", "น"}, "กิ|น"},
		"space of its own":    {[]string{" ", "a", " ", " b", " "}, "a|b"},
		"a lone broken piece": {[]string{" \xff", " a"}, "\uFFFD|a"},
		"nothing":             {nil, ""},
	} {
		var tokens []Word
		for _, text := range c.tokens {
			tokens = append(tokens, token(text))
		}
		var got []string
		for _, w := range JoinTokens(tokens) {
			got = append(got, w.Word)
			if w.Probability != 1 {
				t.Errorf("%s: probability %v of %q", name, w.Probability, w.Word)
			}
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, want %q", name, strings.Join(got, "|"), c.want)
		}
	}
}

func TestParseError(t *testing.T) {
	for name, c := range map[string]struct {
		status            int
		contentType, body string
		want              Error
	}{
		"OpenAI": {400, "application/json", `{"error":{"message":"Invalid file format.","type":"invalid_request_error","param":"file","code":null}}`, Error{Message: "Invalid file format.", Type: "invalid_request_error", Param: "file", Final: true}},
		"vLLM":   {400, "application/json", `{"object":"error","message":"bad audio","type":"BadRequestError","param":null,"code":400}`, Error{Message: "bad audio", Type: "BadRequestError", Code: "400", Final: true}},
		"string": {500, "application/json", `{"error":"failed to process audio"}`, Error{Message: "failed to process audio", Type: "server_error"}},
		"detail": {404, "application/json", `{"detail":"Model 'x' is not installed"}`, Error{Message: "Model 'x' is not installed", Type: "invalid_request_error"}},
		"FastAPI's list": {422, "application/json", `{"detail":[{"loc":["body","file"],"msg":"field required","type":"value_error"},{"loc":["body",0],"msg":"no"}]}`,
			Error{Message: "file: field required; 0: no", Type: "invalid_request_error", Final: true}},
		"nested detail":     {503, "", `{"detail":{"message":"busy"}}`, Error{Message: "busy", Type: "server_error"}},
		"message":           {429, "application/json", `{"message":"slow down"}`, Error{Message: "slow down", Type: "rate_limit_error"}},
		"problem":           {413, "application/problem+json", `{"title":"Too Large","status":413}`, Error{Message: "Too Large", Type: "invalid_request_error", Final: true}},
		"plain":             {400, "text/plain", "Invalid request\r\n", Error{Message: "Invalid request", Type: "invalid_request_error", Final: true}},
		"control":           {500, "text/plain", "a\x1b[31mb\x00", Error{Message: "The backend answered with status 500 (Internal Server Error).", Type: "server_error"}},
		"escapes":           {500, "text/plain", "a\x1b[31mb\u202e", Error{Message: "a [31mb", Type: "server_error"}},
		"page":              {502, "text/html", "<html>\r\n<head><TITLE>502 Bad &amp; Gateway</TITLE></head><body><script>x</script></body></html>", Error{Message: "502 Bad & Gateway", Type: "server_error"}},
		"page in disguise":  {502, "application/json", "<!doctype html><p>oops</p>", Error{Message: "The backend answered with status 502 (Bad Gateway).", Type: "server_error"}},
		"markup in JSON":    {500, "application/json", `{"error":"no <b>way</b> <script>alert(1)"}`, Error{Message: "no way alert(1)", Type: "server_error"}},
		"nested markup":     {500, "text/plain", "x <<b>b>y", Error{Message: "x by", Type: "server_error"}},
		"a comparison":      {400, "text/plain", "need 1 < 2 > 0", Error{Message: "need 1 < 2 > 0", Type: "invalid_request_error", Final: true}},
		"nothing":           {599, "", "", Error{Message: "The backend answered with status 599.", Type: "server_error"}},
		"truncated":         {500, "application/json", `{"error":{"mess`, Error{Message: "The backend answered with status 500 (Internal Server Error).", Type: "server_error"}},
		"useless JSON":      {401, "application/json", `{"error":null,"ok":false}`, Error{Message: "The backend answered with status 401 (Unauthorized).", Type: "authentication_error"}},
		"JSON string":       {403, "application/json", `"go away"`, Error{Message: "go away", Type: "permission_error"}},
		"list of messages":  {400, "application/json", `[{"message":"a"},{"message":"b"}]`, Error{Message: "a; b", Type: "invalid_request_error", Final: true}},
		"sound":             {500, "audio/wav", "RIFFxxxx", Error{Message: "The backend answered with status 500 (Internal Server Error).", Type: "server_error"}},
		"error in an error": {500, "", `{"error":{"error":"deep"}}`, Error{Message: "deep", Type: "server_error"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Status = c.status
			if got := ParseError(c.status, c.contentType, []byte(c.body)); *got != c.want {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
		})
	}
	if got := ParseError(500, "text/plain", []byte(strings.Repeat("ü", 5000))); got.Message != strings.Repeat("ü", 500) {
		t.Errorf("a long message is not cut: %d bytes", len(got.Message))
	}
}
