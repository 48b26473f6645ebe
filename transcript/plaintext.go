package transcript

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes one line of s: control characters and invalid UTF-8 become spaces, runs of space
// one, and of the result the first n characters stay.
func clean(s string, n int) string {
	s = strings.ToValidUTF8(s, " ")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) { // Cf: what reorders or hides text
			return ' '
		}
		return r
	}, s)
	return firstRunes(strings.Join(strings.Fields(s), " "), n)
}

// Text is the texts of the segments, joined and trimmed. Segments carry their own spaces, as
// whisper's do.
func (t Transcript) Text() string { return strings.Join(t.mended().pieces(), "") }

// pieces is the text cut at the segments: no space at either end of the whole, no piece empty.
func (t Transcript) pieces() []string {
	var pieces []string
	for _, segment := range t.Segments {
		text := segment.Text
		if len(pieces) == 0 {
			text = strings.TrimLeftFunc(text, unicode.IsSpace)
		}
		if text != "" {
			pieces = append(pieces, text)
		}
	}
	for len(pieces) > 0 {
		last := len(pieces) - 1
		if pieces[last] = strings.TrimRightFunc(pieces[last], unicode.IsSpace); pieces[last] != "" {
			break
		}
		pieces = pieces[:last]
	}
	return pieces
}

// mended is the transcript with texts in valid UTF-8. Whisper's tokens are bytes, so a rune that
// one segment begins and the next ends goes whole into the next.
func (t Transcript) mended() Transcript {
	if !slices.ContainsFunc(t.Segments, func(s Segment) bool { return !utf8.ValidString(s.Text) }) {
		return t
	}
	t.Segments = slices.Clone(t.Segments)
	var begun string // the first bytes of a rune
	for i := range t.Segments {
		text := begun + t.Segments[i].Text
		begun = ""
		if i < len(t.Segments)-1 {
			text, begun = splitBegunRune(text)
		}
		t.Segments[i].Text = strings.ToValidUTF8(text, string(utf8.RuneError))
	}
	return t
}

// splitBegunRune cuts off the bytes at the end of s that begin a rune and do not end it.
func splitBegunRune(s string) (whole, begun string) {
	for n := 1; n < utf8.UTFMax && n <= len(s); n++ {
		tail := s[len(s)-n:]
		if utf8.RuneStart(tail[0]) {
			if !utf8.FullRuneInString(tail) {
				return s[:len(s)-n], tail
			}
			break
		}
	}
	return s, ""
}

// blankAudio is how whisper.cpp writes a window without speech.
const blankAudio = "[BLANK_AUDIO]"

// HasWords tells whether anything was said: any letter or digit, whisper.cpp's mark for silence
// aside.
func (t Transcript) HasWords() bool {
	for _, segment := range t.Segments {
		text := strings.ReplaceAll(segment.Text, blankAudio, "")
		if strings.IndexFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }) >= 0 {
			return true
		}
	}
	return false
}

// unspaced are the scripts that write words without spaces between them.
var unspaced = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer,
	unicode.Myanmar, unicode.Tibetan,
}

// startsUnspaced tells whether no space belongs before the text: it starts in such a script or
// with their punctuation.
func startsUnspaced(text string) bool {
	r, _ := utf8.DecodeRuneInString(text)
	return unicode.In(r, unspaced...) || r >= 0x3000 && r <= 0x303F || r >= 0xFF00 && r <= 0xFF65
}

func startsWithSpace(text string) bool {
	r, _ := utf8.DecodeRuneInString(text)
	return unicode.IsSpace(r)
}

// withSpace puts the space before a text that whisper would have written there.
func withSpace(text string) string {
	if text == "" || startsWithSpace(text) || startsUnspaced(text) {
		return text
	}
	return " " + text
}
