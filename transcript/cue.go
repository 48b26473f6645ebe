package transcript

import (
	"regexp"
	"strconv"
	"strings"
)

// vttUnescapes undoes WebVTT's escapes, those of other writers included.
var vttUnescapes = strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&nbsp;", " ", "&lrm;", "", "&rlm;", "")

// cueTimeTag is WebVTT's mark of a time inside a cue.
var cueTimeTag = regexp.MustCompile(`<[0-9:.]+>`)

// parseCues reads SubRip or WebVTT: every line of times begins a cue, whose text goes on to the
// next blank line or times. Numbers, settings, notes and styles are skipped; the lines of a cue
// are joined.
func parseCues(body string, vtt bool) []Segment {
	body = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(body)
	var segments []Segment
	var lines []string
	inCue := false
	finish := func() {
		if inCue {
			segments[len(segments)-1].Text = cueLines(lines, vtt)
		}
		lines, inCue = nil, false
	}
	for line := range strings.SplitSeq(body, "\n") {
		if start, end, ok := cueTimes(line); ok {
			if last := len(lines) - 1; last >= 0 && strings.Trim(lines[last], "0123456789 ") == "" {
				lines = lines[:last] // this cue's number: the blank line before it is missing
			}
			finish()
			segments = append(segments, Segment{ID: len(segments), Start: start, End: max(start, end)})
			inCue = true
		} else if strings.TrimSpace(line) == "" {
			finish()
		} else if inCue {
			lines = append(lines, line)
		}
	}
	finish()
	return segments
}

func cueLines(lines []string, vtt bool) string {
	var text strings.Builder
	for _, line := range lines {
		if vtt {
			line = vttUnescapes.Replace(withoutMarkup(cueTimeTag.ReplaceAllString(line, "")))
		}
		if text.Len() > 0 && !startsWithSpace(line) {
			text.WriteByte(' ')
		}
		text.WriteString(line)
	}
	return text.String()
}

// cueTimes reads "00:00:01,000 --> 00:00:02.5 align:start", with comma or point, hours or none.
func cueTimes(line string) (start, end float64, ok bool) {
	left, right, arrow := strings.Cut(line, "-->")
	rest := strings.Fields(right)
	if !arrow || len(rest) == 0 {
		return 0, 0, false
	}
	start, ok = clock(strings.TrimSpace(left))
	if !ok {
		return 0, 0, false
	}
	end, ok = clock(rest[0])
	return start, end, ok
}

// clock reads [hh:]mm:ss[.mmm] in seconds.
func clock(text string) (seconds float64, ok bool) {
	parts := strings.Split(strings.Replace(text, ",", ".", 1), ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, false
	}
	for i, part := range parts {
		if part == "" || strings.Trim(part, "0123456789.") != "" || i < len(parts)-1 && strings.Contains(part, ".") {
			return 0, false
		}
		value, err := strconv.ParseFloat(part, 64)
		if err != nil || value > 1e9 {
			return 0, false
		}
		seconds = seconds*60 + value
	}
	return seconds, true
}
