package transcript

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// lenient holds a member of an upstream's answer; a member of another type counts as missing, so
// that a curiosity in one member does not lose the transcript.
type lenient[T any] struct{ value *T }

func (l *lenient[T]) UnmarshalJSON(raw []byte) error {
	var value *T
	if json.Unmarshal(raw, &value) == nil {
		l.value = value
	}
	return nil
}

func (l lenient[T]) or(fallback T) T {
	if l.value == nil {
		return fallback
	}
	return *l.value
}

// The most words and the most segments of one answer: 24 hours of fast speech have 400,000 and 60,000.
const (
	listMax  = 1 << 19
	linesMax = 1 << 17
)

// list is a list of objects that counts as missing as soon as it holds anything else or too much:
// two bytes of it would else become a hundred in memory.
type list[T any] []T

func (l *list[T]) UnmarshalJSON(raw []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('[') {
		return errors.Join(err, errNoList)
	}
	var read []T
	for decoder.More() {
		var one T
		if err := decoder.Decode(&one); err != nil {
			return err
		}
		if read = append(read, one); len(read) > listMax {
			return errTooMany
		}
	}
	*l = read
	return nil
}

// What is wrong with a list; nobody is told, since the member then counts as missing.
var (
	errNoList  = errors.New("no list")
	errTooMany = errors.New("too many")
)

// number also takes a number in quotes: OpenAI's API once declared duration a string.
type number float64

func (n *number) UnmarshalJSON(raw []byte) error {
	value, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	*n = number(finite(value))
	return err
}

// The union of what the servers answer: OpenAI's members, whisper.cpp's, and those of the
// faster-whisper servers.
type (
	jsonAnswer struct {
		Error         json.RawMessage            `json:"error"`
		Task          lenient[string]            `json:"task"`
		Language      lenient[string]            `json:"language"`
		Duration      lenient[number]            `json:"duration"`
		Text          lenient[string]            `json:"text"`
		Segments      lenient[list[jsonSegment]] `json:"segments"`
		Words         lenient[list[jsonWord]]    `json:"words"`
		Usage         lenient[jsonUsage]         `json:"usage"`
		LanguageProbs lenient[map[string]number] `json:"language_probabilities"`
	}
	jsonUsage struct {
		Type    lenient[string] `json:"type"`
		Seconds lenient[number] `json:"seconds"`
	}
	jsonSegment struct {
		Seek             lenient[int]            `json:"seek"`
		Start            lenient[number]         `json:"start"`
		End              lenient[number]         `json:"end"`
		Text             lenient[string]         `json:"text"`
		Tokens           lenient[[]int]          `json:"tokens"`
		Words            lenient[list[jsonWord]] `json:"words"`
		Temperature      lenient[number]         `json:"temperature"`
		AvgLogprob       lenient[number]         `json:"avg_logprob"`
		CompressionRatio lenient[number]         `json:"compression_ratio"`
		NoSpeechProb     lenient[number]         `json:"no_speech_prob"`
		Speaker          lenient[string]         `json:"speaker"`
	}
	jsonWord struct {
		Word        lenient[string] `json:"word"`
		Start       lenient[number] `json:"start"`
		End         lenient[number] `json:"end"`
		Probability lenient[number] `json:"probability"`
		Score       lenient[number] `json:"score"` // the same in aligning servers
	}
)

// failure is what the error member says, "" when there is none.
func (a jsonAnswer) failure() string {
	switch string(a.Error) {
	case "", "null", "false", "0", `""`, "{}", "[]":
		return ""
	}
	if message := errorMember(a.Error).message; message != "" {
		return message
	}
	return string(a.Error)
}

func (a jsonAnswer) transcript(api API) Transcript {
	t := Transcript{
		Task: Task(a.Task.or("")),
	}
	t.Duration = t.moment(a.Duration.or(0))
	if t.Task != Transcribe && t.Task != Translate {
		t.Task = ""
	}
	if usage := a.Usage.or(jsonUsage{}); t.Duration == 0 && usage.Type.or("") == "duration" {
		t.Duration = t.moment(usage.Seconds.or(0))
	}
	t.Language, _ = LanguageCode(a.Language.or(""))
	if probs := a.LanguageProbs.or(nil); len(probs) > 0 {
		t.LanguageProbs = make(map[string]float64, len(probs))
		for code, p := range probs {
			t.LanguageProbs[code] = float64(p)
		}
	}
	a.fillSegments(&t, api)
	a.fillWords(&t, api)
	return t
}

// No recording has a time beyond momentMax seconds, a third of a year. whisper.cpp puts words as much
// as a few hundredths before the start; a whole second before, momentMin, is no time either.
const (
	momentMax = 1e7
	momentMin = -1
)

// moment is a time of the answer in seconds, and remembers when it was none.
func (t *Transcript) moment(x number) float64 {
	if x <= momentMin || x > momentMax {
		t.Mended = true
	}
	return float64(min(max(x, 0), momentMax))
}

// fillSegments prefers the segments; where they hold no text the answer's own text does.
func (a jsonAnswer) fillSegments(t *Transcript, api API) {
	for i, s := range a.Segments.or(nil) {
		var tokens []Word
		if api == WhisperServer {
			tokens = t.timedWords(s.Words.or(nil))
		}
		t.Segments = append(t.Segments, Segment{
			ID: i, Seek: max(s.Seek.or(0), 0),
			Start: t.moment(s.Start.or(0)), End: t.moment(s.End.or(0)),
			Text: s.Text.or(""), Tokens: s.Tokens.or(nil),
			Temperature: float64(s.Temperature.or(0)), AvgLogprob: float64(s.AvgLogprob.or(0)),
			CompressionRatio: float64(s.CompressionRatio.or(0)), NoSpeechProb: float64(s.NoSpeechProb.or(0)),
			Speaker: knownSpeaker(api, s.Speaker.or("")), Words: tokens,
		})
	}
	if text := a.Text.or(""); t.Text() == "" && strings.TrimSpace(text) != "" {
		t.Segments = textSegments(api, text)
		if len(t.Segments) == 1 { // all of the audio, as far as is known
			t.Segments[0].End = t.Duration
		}
	}
	if api != WhisperServer && len(a.Segments.or(nil)) > 0 {
		addSpaces(t.Segments)
	}
}

// knownSpeaker is one of whisper.cpp's.
func knownSpeaker(api API, speaker string) string {
	if api == WhisperServer && (speaker == "0" || speaker == "1" || speaker == "?") {
		return speaker
	}
	return ""
}

// fillWords takes the words at the top, or those nested in the segments.
func (a jsonAnswer) fillWords(t *Transcript, api API) {
	if words := a.Words.or(nil); len(words) > 0 {
		t.Words = t.timedWords(words)
		return
	}
	for _, s := range a.Segments.or(nil) {
		words := t.timedWords(s.Words.or(nil))
		if api == WhisperServer || carrySpaces(words) {
			words = JoinTokens(words)
		}
		t.Words = append(t.Words, words...)
	}
}

// timedWords leaves out the words of an answer without times. A word without a time of its own
// among others that have one (aligners have none for digits) gets the end of the one before it.
func (t *Transcript) timedWords(from list[jsonWord]) []Word {
	var words []Word
	timed := false
	last := 0.0
	for _, w := range from {
		timed = timed || w.Start.value != nil
		start := t.moment(w.Start.or(number(last)))
		last = max(t.moment(w.End.or(number(start))), start)
		words = append(words, Word{
			Word: w.Word.or(""), Start: start, End: last,
			Probability: float64(w.Probability.or(w.Score.or(0))),
		})
	}
	if !timed {
		return nil
	}
	return words
}
