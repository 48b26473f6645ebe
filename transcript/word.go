package transcript

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// JoinTokens makes words of whisper's tokens, which hold parts of words, of runes even, and begin
// with a space where a word does. In scripts without spaces a token is a word. The words keep no
// space around them; a word's probability is the mean of its tokens'; punctuation stays with the
// word before it.
func JoinTokens(tokens []Word) []Word {
	var words []Word
	count := 0 // tokens in the last word
	for _, token := range tokens {
		if last := len(words) - 1; last >= 0 && !beginsWord(words[last].Word, token.Word) {
			w := &words[last]
			w.Word += token.Word
			w.End = max(w.End, token.End)
			w.Probability += (token.Probability - w.Probability) / float64(count+1)
			count++
			continue
		}
		words = append(words, token)
		count = 1
	}
	kept := words[:0]
	for _, w := range words {
		if w.Word = wordText(w); w.Word != "" {
			kept = append(kept, w)
		}
	}
	return kept
}

// beginsWord tells whether a token starts a new word after the word so far.
func beginsWord(soFar, token string) bool {
	if _, begun := splitBegunRune(soFar); begun != "" {
		return false
	}
	if startsWithSpace(token) || strings.TrimSpace(soFar) == "" && soFar != "" {
		return startsWithSpace(token)
	}
	r, _ := utf8.DecodeRuneInString(token)
	return unicode.In(r, unspaced...) && !unicode.IsMark(r)
}

// carrySpaces tells whether the words are tokens that say themselves where a word begins.
func carrySpaces(words []Word) bool {
	for _, w := range words {
		if startsWithSpace(w.Word) {
			return true
		}
	}
	return false
}
