package transcript

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// srt writes SubRip cues, numbered from first+1.
func (t Transcript) srt(first int, trim bool) []byte {
	var body bytes.Buffer
	for _, s := range t.Segments {
		// SubRip has no way to escape: an arrow in a text must not look like the line of times.
		text := strings.ReplaceAll(cueText(s, trim), "-->", "→")
		if strings.TrimSpace(text) == "" {
			continue // a cue ends with a blank line, so it can't consist of one
		}
		first++
		fmt.Fprintf(&body, "%d\n%s --> %s\n%s\n\n", first,
			timestamp(s.Start, ','), timestamp(max(s.Start, s.End), ','), text)
	}
	return body.Bytes()
}

// vttEscapes are WebVTT's own: the three characters that its cue text gives a meaning.
var vttEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", "-->", "--&gt;")

// cueStyle is how an API writes WebVTT's cues.
type cueStyle uint8

const (
	trimmedCues cueStyle = iota
	rawCues              // with whisper's spaces
	shortCues            // trimmed, and times below an hour without hours
)

func (t Transcript) vtt(style cueStyle) []byte {
	var body bytes.Buffer
	body.WriteString("WEBVTT\n\n")
	clock := timestamp
	if style == shortCues {
		clock = func(s float64, separator byte) string { return strings.TrimPrefix(timestamp(s, separator), "00:") }
	}
	for _, s := range t.Segments {
		voice := ""
		if style == rawCues && s.Speaker != "" { // a tag, not a text
			voice = "<v Speaker" + s.Speaker + ">"
		}
		text := vttEscapes.Replace(cueText(s, style != rawCues))
		if strings.TrimSpace(text) == "" {
			continue
		}
		fmt.Fprintf(&body, "%s --> %s\n%s%s\n\n", clock(s.Start, '.'), clock(max(s.Start, s.End), '.'), voice, text)
	}
	return body.Bytes()
}

func cueText(s Segment, trim bool) string {
	text := oneLine(s.Text)
	if trim {
		return strings.TrimSpace(text)
	}
	return text
}

// secondsMax keeps times within int64 milliseconds: thirty years.
const secondsMax = 1e9

// timestamp is hh:mm:ss and milliseconds; hours grow beyond two digits where they must.
func timestamp(s float64, separator byte) string {
	ms := int64(math.Round(min(seconds(s), secondsMax) * 1000))
	return fmt.Sprintf("%02d:%02d:%02d%c%03d", ms/3_600_000, ms/60_000%60, ms/1000%60, separator, ms%1000)
}
