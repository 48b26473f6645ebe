package transcript

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// testdata/whisper_server holds what whisper.cpp 1.9.1's server answered for jfk.wav (tiny.en,
// default parameters). Read and written again in its dialect, each comes out as it went in, but
// that the tokens nested as words are joined to words ("country" and "." to "country.").
func TestRecordedWhisperServer(t *testing.T) {
	const said = "And so my fellow Americans ask not what your country can do for you ask what you can do for your country."
	for _, format := range allFormats {
		t.Run(string(format), func(t *testing.T) {
			body, err := os.ReadFile("testdata/whisper_server/jfk." + string(format))
			if err != nil {
				t.Fatal(err)
			}
			tr, err := ParseAnswer(WhisperServer, format, body)
			if err != nil {
				t.Fatal(err)
			}
			if got := tr.Text(); got != said {
				t.Errorf("text %q", got)
			}
			contentType, again := tr.Render(Params{API: WhisperServer, Task: Transcribe, Format: format, Words: true})
			if contentType != jsonType {
				if string(again) != string(body) {
					t.Errorf("rendered %q, recorded %q", again, body)
				}
				return
			}
			if got, want := decoded(t, again), decoded(t, body); !reflect.DeepEqual(got, want) {
				t.Errorf("rendered %v\nrecorded %v", got, want)
			}
		})
	}
}

// decoded is a JSON body with whisper.cpp's times rounded, which has 0.6900000000000001 for 0.69.
func decoded(t *testing.T, body []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatal(err)
	}
	var round func(v any) any
	round = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			if list, ok := v["words"].([]any); ok {
				var joined string
				for _, w := range list {
					joined += w.(map[string]any)["word"].(string)
				}
				v["words"] = joined
			}
			for key, value := range v {
				if f, ok := value.(float64); ok && (key == "start" || key == "end") {
					value = seconds(f)
				}
				v[key] = round(value)
			}
		case []any:
			for i := range v {
				v[i] = round(v[i])
			}
		}
		return v
	}
	return round(v)
}

// An OpenAI client is served by a whisper-server: words at the top, texts without line breaks.
func TestRecordedAnswerForOpenAIClient(t *testing.T) {
	body, err := os.ReadFile("testdata/whisper_server/jfk.verbose_json")
	if err != nil {
		t.Fatal(err)
	}
	tr, err := ParseAnswer(WhisperServer, VerboseJSON, body)
	if err != nil {
		t.Fatal(err)
	}
	_, out := tr.Render(Params{API: OpenAI, Task: Transcribe, Format: VerboseJSON, Words: true})
	var answer struct {
		Language, Text string
		Duration       float64
		Words          []struct {
			Word       string
			Start, End float64
		}
		Segments []struct {
			ID    int
			Start float64
			Text  string
		}
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	var words []string
	last := 0.0
	for _, w := range answer.Words {
		words = append(words, w.Word)
		if w.Start < last || w.End < w.Start {
			t.Errorf("%q has times %v to %v", w.Word, w.Start, w.End)
		}
		last = w.Start
	}
	if got := strings.Join(words, " "); got != answer.Text {
		t.Errorf("words %q, text %q", got, answer.Text)
	}
	if answer.Language != "english" || answer.Duration != 11 || len(answer.Segments) != 3 || answer.Segments[2].ID != 2 || answer.Segments[2].Start != 8 {
		t.Errorf("answer %+v", answer)
	}
}
