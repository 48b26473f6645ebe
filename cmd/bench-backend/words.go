package main

import (
	"strings"
	"unicode"
)

// plainWords are a text's words without case, punctuation, apostrophes and hyphens, which transcripts
// may set as they like.
func plainWords(text string) []string {
	text = strings.NewReplacer("'", "", "’", "").Replace(strings.ToLower(text))
	return strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// wordErrors is the least number of words to insert, delete and replace between what was heard and
// what was said (Levenshtein's distance), and how many of them were deleted.
func wordErrors(heard, said []string) (errors, deleted int) {
	type cost struct{ errors, deleted int }
	better := func(a, b cost) cost {
		if b.errors < a.errors || b.errors == a.errors && b.deleted < a.deleted {
			return b
		}
		return a
	}
	row := make([]cost, len(said)+1)
	for j := range row {
		row[j] = cost{j, j}
	}
	for i, word := range heard {
		diagonal := row[0]
		row[0] = cost{i + 1, 0}
		for j := range said {
			replaced := diagonal
			if word != said[j] {
				replaced.errors++
			}
			diagonal = row[j+1]
			inserted, dropped := row[j+1], row[j]
			inserted.errors++
			dropped.errors++
			dropped.deleted++
			row[j+1] = better(better(replaced, inserted), dropped)
		}
	}
	last := row[len(said)]
	return last.errors, last.deleted
}

// distinct counts different words.
func distinct(texts ...string) int {
	seen := map[string]bool{}
	for _, text := range texts {
		for _, word := range plainWords(text) {
			seen[word] = true
		}
	}
	return len(seen)
}
