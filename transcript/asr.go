package transcript

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// Outputs are the formats of whisper-asr-webservice's API by its own names for them.
var outputs = map[string]Format{"txt": Text, "vtt": VTT, "srt": SRT, "tsv": TSV, "json": JSON}

// parseASR reads the parameters of whisper-asr-webservice's /asr, which are in the query of the URL.
// /detect-language has encode alone; who serves that sets DetectOnly.
func (f *fields) parseASR(p *Params) {
	p.Model = strings.TrimSpace(f.text("model")) // not that server's own
	switch task := strings.TrimSpace(f.text("task")); task {
	case "", string(Transcribe):
		p.Task = Transcribe
	case string(Translate):
		p.Task = Translate
	default:
		f.refuse("task", codeInvalid, "task is %s; allowed are transcribe and translate.", Quote(task))
	}
	output := strings.TrimSpace(f.text("output"))
	if output == "" {
		output = "txt"
	}
	format, known := outputs[output]
	if !known {
		f.refuse("output", codeInvalid, "output is %s; allowed are txt, vtt, srt, tsv and json.", Quote(output))
	}
	p.Format = format
	p.Language = f.language(f.text("language"))
	p.Prompt = lastBytes(f.text("initial_prompt"), PromptBytesMax)
	p.PCM = !f.flag("encode", true)
	p.Words = f.flag("word_timestamps", false) && p.Format == JSON // no other output has them
	p.VAD.On = f.vadFilter()
}

// vadFilter is nil where the client says nothing.
func (f *fields) vadFilter() *bool {
	if strings.TrimSpace(f.text("vad_filter")) == "" {
		return nil
	}
	on := f.flag("vad_filter", false)
	return &on
}

// Extension is how that API calls the format in the name of the file that it answers with.
func (p Params) Extension() string {
	for name, format := range outputs {
		if format == p.Format {
			return name
		}
	}
	return "txt"
}

// The members of openai/whisper's JSON, which that API answers with.
type (
	asrJSON struct {
		Text     string       `json:"text"`
		Segments []asrSegment `json:"segments"`
		Language string       `json:"language"` // its code
	}
	asrSegment struct {
		openAISegment
		Words *[]asrWord `json:"words,omitempty"`
	}
	asrWord struct {
		Word        string  `json:"word"`
		Start       float64 `json:"start"`
		End         float64 `json:"end"`
		Probability float64 `json:"probability"`
	}
	// detection is the answer of /detect-language.
	detection struct {
		Language   string   `json:"detected_language"`
		Code       string   `json:"language_code"`
		Confidence *float64 `json:"confidence"` // null where the engine does not tell
	}
)

// renderASR writes what whisper-asr-webservice does: every output as text/plain, JSON too.
func (t Transcript) renderASR(p Params) (contentType string, body []byte) {
	const plain = "text/plain; charset=utf-8"
	if p.DetectOnly {
		d := detection{Language: LanguageName(t.Language), Code: t.Language}
		if probability, told := t.LanguageProbs[t.Language]; told {
			probability = finite(probability)
			d.Confidence = &probability
		}
		return jsonType, encodeJSON(d)
	}
	switch p.Format {
	case SRT:
		return plain, t.srt(0, true)
	case VTT:
		return plain, t.vtt(shortCues)
	case TSV:
		return plain, t.tsv()
	case JSON:
		return plain, encodeJSON(t.asrJSON(p.Words))
	}
	var text bytes.Buffer
	for _, s := range t.Segments {
		text.WriteString(strings.TrimSpace(oneLine(s.Text)))
		text.WriteByte('\n')
	}
	return plain, text.Bytes()
}

// tsv is a line a segment: start and end in whole milliseconds, and the text.
func (t Transcript) tsv() []byte {
	var body bytes.Buffer
	body.WriteString("start\tend\ttext\n")
	for _, s := range t.Segments {
		ms := func(x float64) int64 { return int64(math.Round(1000 * min(seconds(x), secondsMax))) }
		text := strings.ReplaceAll(strings.TrimSpace(oneLine(s.Text)), "\t", " ")
		fmt.Fprintf(&body, "%d\t%d\t%s\n", ms(s.Start), ms(max(s.Start, s.End)), text)
	}
	return body.Bytes()
}

func (t Transcript) asrJSON(words bool) asrJSON {
	v := asrJSON{Text: t.Text(), Language: t.Language, Segments: make([]asrSegment, len(t.Segments))}
	if t.Task == Translate { // the language of the text
		v.Language = "en"
	}
	bySegment := t.wordsBySegment()
	for i, s := range t.openAISegments() {
		v.Segments[i].openAISegment = s
		if !words {
			continue
		}
		list := make([]asrWord, len(bySegment[i]))
		for j, w := range bySegment[i] {
			list[j] = asrWord{
				Word: withSpace(wordText(w)), Start: seconds(w.Start), End: seconds(max(w.Start, w.End)), Probability: finite(w.Probability),
			}
		}
		v.Segments[i].Words = &list
	}
	return v
}
