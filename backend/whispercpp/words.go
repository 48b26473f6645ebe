package whispercpp

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/transcript"
)

// writtenWithoutSpaces are the languages whose words cannot be told by spaces; OpenAI's whisper
// gives them a word for each character (whisper/tokenizer.py, split_to_word_tokens).
var writtenWithoutSpaces = map[string]bool{"zh": true, "ja": true, "th": true, "lo": true, "my": true, "yue": true}

// wordJoiner joins tokens to words. A token may be a word, a part of one or a part of a character;
// a word begins where a token begins with a space.
type wordJoiner struct {
	perCharacter bool // a word is a character instead
	words        []transcript.Word

	text        []byte // of the word in the making
	start, end  float64
	probability float64 // sum over tokens
	tokens      int
}

// add takes the next token of a segment that lasts from low to high seconds. Times are kept within
// it and in order: whisper.cpp guesses them from probabilities, and guesses do cross.
func (j *wordJoiner) add(t token, text string, low, high float64) {
	if text == "" {
		return
	}
	if len(j.text) > 0 && utf8.Valid(j.text) && (j.perCharacter || text[0] == ' ') {
		j.flush()
	}
	if len(j.text) == 0 {
		j.start = min(max(float64(t.t0)/100, low), high)
	}
	j.end = min(max(float64(t.t1)/100, low), high)
	j.text = append(j.text, text...)
	j.probability += t.p
	j.tokens++
}

// endSegment ends the word, unless the next segment has to complete its last character.
func (j *wordJoiner) endSegment() {
	if utf8.Valid(j.text) {
		j.flush()
	}
}

func (j *wordJoiner) finish() []transcript.Word {
	j.flush()
	return j.words
}

func (j *wordJoiner) flush() {
	text := strings.TrimSpace(strings.ToValidUTF8(string(j.text), string(utf8.RuneError)))
	probability := j.probability / float64(max(j.tokens, 1))
	j.text, j.probability, j.tokens = j.text[:0], 0, 0
	if text == "" {
		return
	}
	start, end := j.start, j.end
	if n := len(j.words); n > 0 {
		last := &j.words[n-1]
		start = max(start, last.End)
		if j.perCharacter && strings.IndexFunc(text, notPunctuation) < 0 {
			last.Word += text // marks belong to the word before them
			last.End = max(start, end)
			return
		}
	}
	j.words = append(j.words, transcript.Word{Word: text, Start: start, End: max(start, end), Probability: probability})
}

func notPunctuation(r rune) bool { return !unicode.IsPunct(r) }

// tokenWords are the words of a segment as whisper.cpp's server writes them: its tokens, where those
// that hold a part of a character are joined until it is whole.
func tokenWords(tokens []token, v vocabulary) []transcript.Word {
	var words []transcript.Word
	partial := false
	for _, t := range tokens {
		if t.id < 0 || t.id >= v.eot {
			partial = false
			continue
		}
		text := v.texts[t.id]
		if n := len(words) - 1; partial {
			words[n].Word += text
			if t.t1 > -1 {
				words[n].End = float64(t.t1) / 100
			}
			text = words[n].Word
		} else {
			words = append(words, transcript.Word{Word: text, Start: float64(t.t0) / 100, End: float64(t.t1) / 100, Probability: t.p})
		}
		_, rest := splitIncomplete(text)
		partial = rest != ""
	}
	for i := range words {
		words[i].Word = strings.ToValidUTF8(words[i].Word, string(utf8.RuneError))
	}
	return words
}
