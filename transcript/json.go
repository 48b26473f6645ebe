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
		Tokens       []int         `json:"tokens"`
		Words        []whisperWord `json:"words"`
		Temperature  float64       `json:"temperature"`
		AvgLogprob   float64       `json:"avg_logprob"`
		NoSpeechProb float64       `json:"no_speech_prob"`
	}
	whisperWord struct {
		Word        string  `json:"word"`
		Start       float64 `json:"start"`
		End         float64 `json:"end"`
		TDTW        int     `json:"t_dtw"`
		Probability float64 `json:"probability"`
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
		Segments: make([]openAISegment, len(t.Segments)), Usage: t.usage(),
	}
	for i, s := range t.Segments {
		ratio := finite(s.CompressionRatio)
		if ratio == 0 { // whisper.cpp doesn't tell it
			ratio = compressionRatio(s.Text)
		}
		v.Segments[i] = openAISegment{
			ID: i, Seek: s.Seek, Start: seconds(s.Start), End: seconds(max(s.Start, s.End)),
			Text: s.Text, Tokens: tokens(s.Tokens),
			Temperature: finite(s.Temperature), AvgLogprob: finite(s.AvgLogprob),
			CompressionRatio: ratio, NoSpeechProb: finite(s.NoSpeechProb),
		}
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

func (t Transcript) whisperVerbose(p Params) whisperVerbose {
	v := whisperVerbose{
		Task: t.Task, Language: LanguageName(t.Language), Duration: seconds(t.Duration),
		Text: t.lines(), Segments: make([]whisperSegment, len(t.Segments)),
	}
	if !p.NoLanguageProbs {
		v.DetectedLanguage, v.DetectedProb, v.LanguageProbs = t.detected()
	}
	words := t.wordsBySegment()
	for i, s := range t.Segments {
		segment := whisperSegment{
			ID: i, Text: s.Text, Tokens: tokens(s.Tokens),
			Words: []whisperWord{}, Temperature: finite(s.Temperature),
			AvgLogprob: finite(s.AvgLogprob), NoSpeechProb: finite(s.NoSpeechProb),
		}
		if !p.NoTimestamps {
			start, end := seconds(s.Start), seconds(max(s.Start, s.End))
			segment.Start, segment.End = &start, &end
		}
		if p.Words {
			for _, w := range words[i] {
				segment.Words = append(segment.Words, whisperWord{
					Word: withSpace(wordText(w)), Start: seconds(w.Start), End: seconds(max(w.Start, w.End)),
					TDTW: -1, Probability: finite(w.Probability),
				})
			}
		}
		v.Segments[i] = segment
	}
	return v
}

// detected is the language that the engine found likeliest. Without probabilities it is the one
// that was used, and no probability is made up for it.
func (t Transcript) detected() (name string, probability *float64, all map[string]float64) {
	if len(t.LanguageProbs) == 0 {
		return LanguageName(t.Language), nil, nil
	}
	all = make(map[string]float64, len(t.LanguageProbs))
	likeliest := ""
	for _, code := range slices.Sorted(maps.Keys(t.LanguageProbs)) { // sorted: ties go the same way
		all[code] = finite(t.LanguageProbs[code])
		if likeliest == "" || all[code] > all[likeliest] {
			likeliest = code
		}
	}
	best := all[likeliest]
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
