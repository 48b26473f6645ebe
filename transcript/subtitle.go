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

func (t Transcript) vtt(trim bool) []byte {
	var body bytes.Buffer
	body.WriteString("WEBVTT\n\n")
	for _, s := range t.Segments {
		text := vttEscapes.Replace(cueText(s, trim))
		if strings.TrimSpace(text) == "" {
			continue
		}
		fmt.Fprintf(&body, "%s --> %s\n%s\n\n",
			timestamp(s.Start, '.'), timestamp(max(s.Start, s.End), '.'), text)
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

// timestamp is hh:mm:ss and milliseconds; hours grow beyond two digits where they must.
func timestamp(s float64, separator byte) string {
	const secondsMax = 1e9 // thirty years: keeps the conversion within int64
	ms := int64(math.Round(min(seconds(s), secondsMax) * 1000))
	return fmt.Sprintf("%02d:%02d:%02d%c%03d", ms/3_600_000, ms/60_000%60, ms/1000%60, separator, ms%1000)
}
