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
	id, tid int     // tid: the likeliest timestamp; of a timestamp, itself
	p, plog float64 // probability and its logarithm
	t0, t1  int64   // only with token times
}

// rawSegment is one segment as whisper.cpp gives it, times in its unit of 10 ms.
type rawSegment struct {
	t0, t1       int64
	text         string // bytes, which may begin or end within a character
	noSpeechProb float64
	temperature  float64 // at which its window was decoded in the end
	window       int     // the how manieth window it is from
	speakerTurn  bool    // another speaker follows
	tokens       []token
}

// vocabulary is the text of every token. Those from eot on are markers, not speech; from begin on
// they are timestamps of 20 ms each.
type vocabulary struct {
	texts      []string
	eot, begin int
}

// speakerTurn is how whisper.cpp's own programs mark that another speaker follows.
const speakerTurn = " [SPEAKER_TURN]"

// assembler turns what whisper.cpp returns into the answer, segment by segment.
type assembler struct {
	options    *options
	vocabulary vocabulary
	emit       func(transcript.Segment) // gets each segment when it is final; may be nil

	answer       transcript.Transcript
	words        wordJoiner
	noSpeechProb float64
	rest         string // the beginning of a character that the next segment completes
	held         *rawSegment
	window, seek int // the window last seen and where it began, in 10 ms
}

func newAssembler(o *options, language string, v vocabulary, emit func(transcript.Segment)) *assembler {
	return &assembler{
		options: o, vocabulary: v, emit: emit, words: wordJoiner{perCharacter: writtenWithoutSpaces[language]},
		answer: transcript.Transcript{Task: o.task, Language: language, Duration: o.duration},
	}
}

// add takes the next segment. One that ends within a character waits for the next one, which is
// given the beginning of it.
func (a *assembler) add(raw rawSegment) {
	if a.held != nil {
		text, rest := splitIncomplete(a.held.text)
		a.settle(*a.held, text)
		a.rest, a.held = rest, nil
	}
	raw.text = a.rest + raw.text
	a.rest = ""
	if _, rest := splitIncomplete(raw.text); rest != "" {
		a.held = &raw
		return
	}
	a.settle(raw, raw.text)
}

// finish is the answer once there are no more segments.
func (a *assembler) finish() transcript.Transcript {
	if a.held != nil {
		a.settle(*a.held, a.held.text)
		a.held = nil
	}
	if a.options.words && !a.options.asServer {
		a.answer.Words = a.words.finish()
	}
	return a.answer
}

func (a *assembler) settle(raw rawSegment, text string) {
	text = strings.ToValidUTF8(text, string(utf8.RuneError))
	if raw.speakerTurn && a.options.tinyDiarize {
		text += speakerTurn
	}
	if raw.noSpeechProb != 0 { // a segment cut at maxLen has it in its first piece only
		a.noSpeechProb = raw.noSpeechProb
	}
	start, end := a.options.within(raw.t0), a.options.within(raw.t1)
	s := transcript.Segment{
		ID: len(a.answer.Segments), Seek: a.seekOf(raw), Start: start, End: max(start, end), Text: text,
		Tokens: make([]int, 0, len(raw.tokens)), Temperature: raw.temperature, CompressionRatio: compressionRatio(text),
		NoSpeechProb: a.noSpeechProb,
	}
	a.setTokens(&s, raw.tokens)
	a.answer.Segments = append(a.answer.Segments, s)
	if a.emit != nil {
		a.emit(s)
	}
}

// setTokens fills in what is made of a segment's tokens. whisper.cpp's server leaves the markers out
// and counts them all the same.
func (a *assembler) setTokens(s *transcript.Segment, tokens []token) {
	for _, t := range tokens {
		speech := t.id >= 0 && t.id < a.vocabulary.eot
		if !speech && a.options.asServer {
			continue
		}
		s.Tokens = append(s.Tokens, t.id)
		s.AvgLogprob += t.plog / float64(len(tokens))
		if a.options.words && speech && !a.options.asServer {
			a.words.add(t, a.vocabulary.texts[t.id], s.Start, s.End)
		}
	}
	a.words.endSegment()
	if a.options.tokenWords {
		s.Words = tokenWords(tokens, a.vocabulary)
	}
}

// seekOf is where a segment's window began: whisper.cpp keeps it to itself, but every timestamp is
// counted from there. 0 where there is no telling.
func (a *assembler) seekOf(raw rawSegment) int {
	if raw.window == a.window || len(raw.tokens) == 0 {
		return a.seek
	}
	first, last := raw.tokens[0], raw.tokens[len(raw.tokens)-1]
	switch {
	case last.id > a.vocabulary.begin:
		a.seek = int(raw.t1) - 2*(last.tid-a.vocabulary.begin)
	case first.id == a.vocabulary.begin || a.options.noTimestamps:
		a.seek = int(raw.t0) - 2*(first.tid-a.vocabulary.begin)
	default:
		a.seek = 0
	}
	a.window, a.seek = raw.window, max(a.seek, 0)
	return a.seek
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
