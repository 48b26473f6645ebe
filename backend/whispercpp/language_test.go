//go:build whispercpp

package whispercpp

import (
	"math"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

func sumOf(probabilities map[string]float64) float64 {
	sum := 0.0
	for _, p := range probabilities {
		sum += p
	}
	return sum
}

func TestLanguageAlone(t *testing.T) {
	for vocab, languages := range map[int]int{51864: 1, 51865: 99, 51866: 100} {
		e := openSynthetic(t, vocab, 1)
		got, err := e.Transcribe(t.Context(), backend.Job{Samples: tone(2), Params: transcript.Params{DetectOnly: true, Language: "en"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.LanguageProbs) != languages || math.Abs(sumOf(got.LanguageProbs)-1) > 1e-3 || len(got.Segments) != 0 || got.Duration != 2 {
			t.Errorf("%d tokens: %d languages, %+v", vocab, len(got.LanguageProbs), got)
		}
		for _, p := range got.LanguageProbs {
			if p > got.LanguageProbs[got.Language] {
				t.Errorf("%d tokens: %s is not the likeliest of %v", vocab, got.Language, got.LanguageProbs)
			}
		}
		if languages == 1 && (got.Language != "en" || got.LanguageProbs["en"] != 1 || got.Work.Windows != 0) {
			t.Errorf("an English model: %+v", got)
		}
	}
}

// whisper.cpp's server tells the probabilities of languages in verbose_json unless it is asked not to,
// and for that encodes one more window.
func TestLanguageProbabilitiesAsTheServerHasThem(t *testing.T) {
	e := openSynthetic(t, 51865, 1)
	server := transcript.Params{API: transcript.WhisperServer, Format: transcript.VerboseJSON, Language: "en", TemperatureInc: ptr(0.0)}
	openai := server
	openai.API = transcript.OpenAI
	text := server
	text.Format = transcript.Text
	quiet := server
	quiet.NoLanguageProbs = true
	unknown := openai
	unknown.Language = ""
	all := server
	all.Language = ""
	for name, c := range map[string]struct {
		p       transcript.Params
		probs   bool
		windows int
	}{
		"verbose_json": {server, true, 2}, "asked not to": {quiet, false, 1}, "text": {text, false, 1},
		"OpenAI": {openai, false, 1}, "OpenAI, detected": {unknown, true, 2}, "detected": {all, true, 2},
	} {
		got, err := e.Transcribe(t.Context(), backend.Job{Samples: tone(2), Params: c.p})
		if err != nil {
			t.Fatal(err)
		}
		if (got.LanguageProbs != nil) != c.probs || got.Work.Windows != c.windows || c.p.Language != "" && got.Language != "en" {
			t.Errorf("%s: %d windows, %d languages, %s", name, got.Work.Windows, len(got.LanguageProbs), got.Language)
		}
	}
	english := openSynthetic(t, 51864, 1)
	got, err := english.Transcribe(t.Context(), backend.Job{Samples: tone(2), Params: server})
	if err != nil || len(got.LanguageProbs) != 1 || got.LanguageProbs["en"] != 1 || got.Work.Windows != 1 {
		t.Errorf("an English model: %+v, %v", got, err)
	}
}

func TestRealLanguage(t *testing.T) {
	e := openReal(t, "base", 1)
	got, err := e.Transcribe(t.Context(), backend.Job{Samples: speechSamples(t, 0, 5), Params: transcript.Params{DetectOnly: true}})
	if err != nil || got.Language != "en" || got.LanguageProbs["en"] < 0.8 || got.Work.Windows != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
