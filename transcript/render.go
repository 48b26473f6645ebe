package transcript

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Render writes the transcript in the format and dialect that p asks for. The body is valid
// UTF-8 whatever the texts hold. It does not look at p.Stream; see [Transcript.RenderStream].
func (t Transcript) Render(p Params) (contentType string, body []byte) {
	t = t.mended().completed(p)
	switch p.API {
	case WhisperServer:
		return t.renderWhisperServer(p)
	case ASR:
		return t.renderASR(p)
	}
	switch p.Format {
	case Text:
		return "text/plain; charset=utf-8", []byte(t.Text() + "\n")
	case SRT:
		return "application/x-subrip; charset=utf-8", t.srt(0, true)
	case VTT:
		return "text/vtt; charset=utf-8", t.vtt(trimmedCues)
	case VerboseJSON:
		return jsonType, encodeJSON(t.openAIVerbose(p.Words))
	}
	return jsonType, encodeJSON(openAIJSON{Text: t.Text(), Usage: t.usage()})
}

// renderWhisperServer writes what whisper.cpp's server does (server.cpp of 1.9): texts with the
// spaces that whisper puts before them, a line a segment.
func (t Transcript) renderWhisperServer(p Params) (contentType string, body []byte) {
	switch p.Format {
	case Text:
		return "text/html; charset=utf-8", []byte(t.withSpeakers().lines())
	case SRT:
		return "application/x-subrip", t.withSpeakers().srt(p.OffsetN, false)
	case VTT:
		return "text/vtt", t.vtt(rawCues)
	case VerboseJSON:
		return jsonType, encodeJSON(t.whisperVerbose(p))
	}
	return jsonType, encodeJSON(openAIJSON{Text: t.withSpeakers().lines()})
}

// withSpeakers puts before each text who speaks, where that is known.
func (t Transcript) withSpeakers() Transcript {
	if !slices.ContainsFunc(t.Segments, func(s Segment) bool { return s.Speaker != "" }) {
		return t
	}
	t.Segments = slices.Clone(t.Segments)
	for i := range t.Segments {
		if s := &t.Segments[i]; s.Speaker != "" {
			s.Text = "(speaker " + s.Speaker + ")" + s.Text
		}
	}
	return t
}

// completed fills in what an answer that was parsed does not say from what was asked.
func (t Transcript) completed(p Params) Transcript {
	if p.Task != "" {
		t.Task = p.Task
	}
	if t.Task == "" {
		t.Task = Transcribe
	}
	if t.Language == "" {
		t.Language = p.Language
	}
	return t
}

// lines is a line a segment.
func (t Transcript) lines() string {
	var text strings.Builder
	for _, segment := range t.Segments {
		text.WriteString(oneLine(segment.Text))
		text.WriteByte('\n')
	}
	return text.String()
}

// oneLine has a space for each run of line breaks, so that a segment stays one line or cue.
func oneLine(s string) string {
	s = strings.ReplaceAll(s, "\x00", string(utf8.RuneError))
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return r >= '\n' && r <= '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029'
	}), " ")
}

// seconds rounds a time to milliseconds, so that it prints short, and makes a number of it that
// JSON can hold.
func seconds(s float64) float64 { return max(math.Round(finite(s)*1000)/1000, 0) }

// finite is x, or 0 where JSON has no word for x.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}
