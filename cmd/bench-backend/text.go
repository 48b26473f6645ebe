package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// opticks is the text that is read aloud: Isaac Newton's Opticks of 1730, in the public domain, which
// comes with every Go toolchain as data of its own tests.
const opticks = "src/testdata/Isaac.Newton-Opticks.txt"

var (
	bracketed  = regexp.MustCompile(`(?s)\[[^\]]*\]`)
	blank      = regexp.MustCompile(`\s+`)
	plainProse = regexp.MustCompile(`^[A-Z][a-z]+(?:[,;:]? (?:[A-Z][a-z]+|[a-z]+|I|A))+$`)
)

// sentences are those of a text that a voice can read as they stand: without figures, formulae,
// abbreviations and marks, of eight words or more.
func sentences(text string) []string {
	if _, after, found := strings.Cut(text, "DEFIN. I."); found {
		text = after // the title page and the advertisements
	}
	text = strings.NewReplacer("_", "", "--", ", ", "'d", "ed").Replace(bracketed.ReplaceAllString(text, ""))
	text = blank.ReplaceAllString(text, " ")
	var kept []string
	for _, s := range strings.Split(text, ". ") {
		s = strings.TrimSpace(s)
		if plainProse.MatchString(s) && len(strings.Fields(s)) >= 8 {
			kept = append(kept, s)
		}
	}
	return kept
}

// readOpticks finds the text in the Go toolchain at root.
func readOpticks(root string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(root, opticks))
	if err != nil {
		return nil, fmt.Errorf("the text to read aloud comes with Go's toolchain, and it is not there: %w", err)
	}
	all := sentences(string(text))
	if n := distinct(all...); len(all) < 200 || n < 1000 {
		return nil, fmt.Errorf("%s has only %d sentences with %d distinct words that can be read aloud", opticks, len(all), n)
	}
	return all, nil
}
