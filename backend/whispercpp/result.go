package whispercpp

import (
	"bytes"
	"compress/zlib"
	"strings"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/transcript"
)

// token is one token as whisper.cpp gives it, times in its unit of 10 ms.
type token struct {
	id      int
	p, plog float64 // probability and its logarithm
	t0, t1  int64   // only with token times
}

// rawSegment is one segment as whisper.cpp gives it, times in its unit of 10 ms.
type rawSegment struct {
	t0, t1       int64
	text         string // bytes, which may begin or end within a character
	noSpeechProb float64
	tokens       []token
}

// vocabulary is the text of every token; those from eot on are markers, not speech.
type vocabulary struct {
	texts []string
	eot   int
}

// assemble turns what whisper.cpp returned into the answer. whisper.cpp does not tell at which
// temperature a segment was decoded, so that the one asked for is given.
func assemble(o *options, language string, raw []rawSegment, v vocabulary) transcript.Transcript {
	t := transcript.Transcript{Task: o.task, Language: language, Duration: o.duration}
	words := wordJoiner{perCharacter: writtenWithoutSpaces[language]}
	noSpeechProb := 0.0
	rest := "" // the beginning of a character that the next segment completes
	for i, segment := range raw {
		text, cut := rest+segment.text, ""
		if i < len(raw)-1 {
			text, cut = splitIncomplete(text)
		}
		rest = cut
		text = strings.ToValidUTF8(text, string(utf8.RuneError))
		if segment.noSpeechProb != 0 { // a segment cut at maxLen has it in its first piece only
			noSpeechProb = segment.noSpeechProb
		}
		start, end := o.within(segment.t0), o.within(segment.t1)
		end = max(start, end)
		s := transcript.Segment{
			ID: len(t.Segments), Start: start, End: end, Text: text, Tokens: make([]int, 0, len(segment.tokens)),
			Temperature: o.temperature, CompressionRatio: compressionRatio(text), NoSpeechProb: noSpeechProb,
		}
		for _, token := range segment.tokens {
			s.Tokens = append(s.Tokens, token.id)
			s.AvgLogprob += token.plog / float64(len(segment.tokens))
			if o.words && token.id >= 0 && token.id < v.eot {
				words.add(token, v.texts[token.id], start, end)
			}
		}
		words.endSegment()
		t.Segments = append(t.Segments, s)
	}
	if o.words {
		t.Words = words.finish()
	}
	return t
}

// within turns a time of 10 ms units into seconds within the audio: whisper.cpp's last window ends
// 30 s after it began, however little audio there was.
func (o *options) within(t int64) float64 { return min(max(float64(t)/100, 0), o.duration) }

// splitIncomplete cuts the beginning of an unfinished character off the end of s.
func splitIncomplete(s string) (whole, rest string) {
	for back := 1; back < utf8.UTFMax && back <= len(s); back++ {
		if tail := s[len(s)-back:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRuneInString(tail) {
				return s[:len(s)-back], tail
			}
			break
		}
	}
	return s, ""
}

// emptyBlock is what Go's deflate writes at the end and zlib does not: an empty stored block.
const emptyBlock = 4

// compressionRatio is how much zlib shrinks the text, by which repetition shows: bytes before over
// bytes after (OpenAI's whisper/utils.py).
func compressionRatio(text string) float64 {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	_, _ = w.Write([]byte(text)) // into memory: cannot fail
	_ = w.Close()
	return float64(len(text)) / float64(out.Len()-emptyBlock)
}
