package transcript

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

const jsonType = "application/json"

// The members of OpenAI's answers, as its API description declares them.
type (
	openAIJSON struct {
		Text  string       `json:"text"`
		Usage *usageMember `json:"usage,omitempty"`
	}
	usageMember struct {
		Type    string  `json:"type"`
		Seconds float64 `json:"seconds"`
	}
	openAIVerbose struct {
		Task     Task            `json:"task"`
		Language string          `json:"language"`
		Duration float64         `json:"duration"`
		Text     string          `json:"text"`
		Words    *[]openAIWord   `json:"words,omitempty"` // a list, even if empty, when asked for
		Segments []openAISegment `json:"segments"`
		Usage    *usageMember    `json:"usage,omitempty"`
	}
	openAIWord struct {
		Word  string  `json:"word"`
		Start float64 `json:"start"`
		End   float64 `json:"end"`
	}
	openAISegment struct {
		ID               int     `json:"id"`
		Seek             int     `json:"seek"`
		Start            float64 `json:"start"`
		End              float64 `json:"end"`
		Text             string  `json:"text"`
		Tokens           []int   `json:"tokens"`
		Temperature      float64 `json:"temperature"`
		AvgLogprob       float64 `json:"avg_logprob"`
		CompressionRatio float64 `json:"compression_ratio"`
		NoSpeechProb     float64 `json:"no_speech_prob"`
	}
)

// The members of whisper.cpp's verbose_json.
type (
	whisperVerbose struct {
		Task             Task               `json:"task"`
		Language         string             `json:"language"`
		Duration         float64            `json:"duration"`
		Text             string             `json:"text"`
		Segments         []whisperSegment   `json:"segments"`
		DetectedLanguage string             `json:"detected_language,omitempty"`
		DetectedProb     *float64           `json:"detected_language_probability,omitempty"`
		LanguageProbs    map[string]float64 `json:"language_probabilities,omitempty"`
	}
	whisperSegment struct {
		ID           int           `json:"id"`
		Text         string        `json:"text"`
		Start        *float64      `json:"start,omitempty"` // none with no_timestamps
		End          *float64      `json:"end,omitempty"`
		Speaker      string        `json:"speaker,omitempty"` // with diarize
		Tokens       []int         `json:"tokens"`
		Words        []whisperWord `json:"words"`
		Temperature  float64       `json:"temperature"`
		AvgLogprob   float64       `json:"avg_logprob"`
		NoSpeechProb float64       `json:"no_speech_prob"`
	}
	whisperWord struct {
		Word        string   `json:"word"`
		Start       *float64 `json:"start,omitempty"` // none without token timestamps
		End         *float64 `json:"end,omitempty"`
		TDTW        *int     `json:"t_dtw,omitempty"`
		Probability float64  `json:"probability"`
	}
)

// encodeJSON leaves <, > and & as they are. Invalid UTF-8 becomes U+FFFD.
func encodeJSON(v any) []byte {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // only strings, ints and finite floats: cannot fail
	return body.Bytes()
}

// usage is nil where the length of the audio is unknown.
func (t Transcript) usage() *usageMember {
	if seconds(t.Duration) == 0 {
		return nil
	}
	return &usageMember{Type: "duration", Seconds: seconds(t.Duration)}
}

// openAIVerbose expects a mended transcript, as whisperVerbose does.
func (t Transcript) openAIVerbose(words bool) openAIVerbose {
	language := LanguageName(t.Language)
	if t.Task == Translate { // the language of the text, not of the speech
		language = LanguageName("en")
	}
	v := openAIVerbose{
		Task: t.Task, Language: language, Duration: seconds(t.Duration), Text: t.Text(),
		Segments: t.openAISegments(), Usage: t.usage(),
	}
	if words {
		list := make([]openAIWord, len(t.Words))
		for i, w := range t.Words {
			list[i] = openAIWord{Word: wordText(w), Start: seconds(w.Start), End: seconds(max(w.Start, w.End))}
		}
		v.Words = &list
	}
	return v
}

func (t Transcript) openAISegments() []openAISegment {
	list := make([]openAISegment, len(t.Segments))
	for i, s := range t.Segments {
		ratio := finite(s.CompressionRatio)
		if ratio == 0 { // whisper.cpp doesn't tell it
			ratio = compressionRatio(s.Text)
		}
		list[i] = openAISegment{
			ID: i, Seek: s.Seek, Start: seconds(s.Start), End: seconds(max(s.Start, s.End)),
			Text: s.Text, Tokens: tokens(s.Tokens),
			Temperature: finite(s.Temperature), AvgLogprob: finite(s.AvgLogprob),
			CompressionRatio: ratio, NoSpeechProb: finite(s.NoSpeechProb),
		}
	}
	return list
}

func (t Transcript) whisperVerbose(p Params) whisperVerbose {
	v := whisperVerbose{
		Task: t.Task, Language: LanguageName(t.Language), Duration: seconds(t.Duration),
		Text: t.withSpeakers().lines(), Segments: make([]whisperSegment, len(t.Segments)),
	}
	if !p.NoLanguageProbs {
		v.DetectedLanguage, v.DetectedProb, v.LanguageProbs = t.detected()
	}
	words := t.wordsBySegment()
	for i, s := range t.Segments {
		segment := whisperSegment{
			ID: i, Text: s.Text, Speaker: s.Speaker, Tokens: tokens(s.Tokens),
			Words: []whisperWord{}, Temperature: finite(s.Temperature),
			AvgLogprob: finite(s.AvgLogprob), NoSpeechProb: finite(s.NoSpeechProb),
		}
		if !p.NoTimestamps {
			start, end := seconds(s.Start), seconds(max(s.Start, s.End))
			segment.Start, segment.End = &start, &end
		}
		switch {
		case s.Words != nil:
			for _, w := range s.Words {
				segment.Words = append(segment.Words, w.whisper(p.Words))
			}
		case p.Words:
			for _, w := range words[i] {
				w.Word = withSpace(wordText(w))
				segment.Words = append(segment.Words, w.whisper(true))
			}
		}
		v.Segments[i] = segment
	}
	return v
}

// whisper is a word as whisper.cpp's server writes it, as it stands.
func (w Word) whisper(timed bool) whisperWord {
	v := whisperWord{Word: strings.ToValidUTF8(w.Word, string(utf8.RuneError)), Probability: finite(w.Probability)}
	if timed {
		start, end, none := seconds(w.Start), seconds(max(w.Start, w.End)), -1 // no time by dynamic time warping
		v.Start, v.End, v.TDTW = &start, &end, &none
	}
	return v
}

// negligible: whisper.cpp's server does not list languages that are no likelier.
const negligible = 0.001

// detected is the language that the engine found likeliest. Without probabilities it is the one
// that was used, and no probability is made up for it.
func (t Transcript) detected() (name string, probability *float64, all map[string]float64) {
	if len(t.LanguageProbs) == 0 {
		return LanguageName(t.Language), nil, nil
	}
	all = make(map[string]float64, len(t.LanguageProbs))
	likeliest := ""
	for _, code := range slices.Sorted(maps.Keys(t.LanguageProbs)) { // sorted: ties go the same way
		if p := finite(t.LanguageProbs[code]); p > negligible {
			all[code] = p
		}
		if likeliest == "" || finite(t.LanguageProbs[code]) > finite(t.LanguageProbs[likeliest]) {
			likeliest = code
		}
	}
	best := finite(t.LanguageProbs[likeliest])
	return LanguageName(likeliest), &best, all
}

// wordsBySegment gives each word to the last segment that starts no later than the word's middle.
func (t Transcript) wordsBySegment() [][]Word {
	lists := make([][]Word, len(t.Segments))
	at := 0
	for _, w := range t.Words {
		middle := (w.Start + w.End) / 2
		for at+1 < len(t.Segments) && t.Segments[at+1].Start <= middle {
			at++
		}
		if at < len(lists) {
			lists[at] = append(lists[at], w)
		}
	}
	return lists
}

func wordText(w Word) string {
	return strings.TrimSpace(strings.ToValidUTF8(w.Word, string(utf8.RuneError)))
}

// tokens is a list in JSON, never null.
func tokens(ids []int) []int {
	if ids == nil {
		return []int{}
	}
	return slices.Clone(ids)
}

type countingWriter int

func (n *countingWriter) Write(p []byte) (int, error) {
	*n += countingWriter(len(p))
	return len(p), nil
}

var compressors = sync.Pool{New: func() any { return zlib.NewWriter(nil) }}

// compressionRatio is how many times zlib shrinks a text: bytes before / bytes after (openai/whisper,
// utils.py). Text that repeats itself has a high one, which betrays a decoder in a loop.
func compressionRatio(text string) float64 {
	if text == "" {
		return 0
	}
	var after countingWriter
	writer := compressors.Get().(*zlib.Writer)
	defer compressors.Put(writer)
	writer.Reset(&after)
	_, _ = writer.Write([]byte(text)) // a countingWriter cannot fail
	_ = writer.Close()
	return math.Round(float64(len(text))/float64(after)*1e4) / 1e4
}
