package caddymodule

import (
	"strings"
	"testing"
)

// FuzzKeys: a file of keys is refused with words that hold no key, or has at least one.
func FuzzKeys(f *testing.F) {
	for _, seed := range []string{
		"alice 0123456789abcdef0123\n", "# x\n\nbob sha256:" + strings.Repeat("ab", 32) + " requests_per_minute=60 jobs=2\n", "alice short", "alice\n", "a,b 0123456789abcdef",
		"a sha256:zz", "a 0123456789abcdef jobs=-1", "a 0123456789abcdef jobs=1\na fedcba9876543210 jobs=2", "a 0123456789abcdef\nb 0123456789abcdef", "a 0123456789abcdef x=1", strings.Repeat("x", 9<<10), "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ring, err := parseKeys(text)
		if err == nil {
			if len(ring.grants) == 0 {
				t.Error("taken, and there is no key")
			}
			return
		}
		// A key is what stands second, and long enough not to be a word of the message's own.
		for line := range strings.Lines(text) {
			if words := strings.Fields(line); len(words) > 1 && len(words[1]) >= 2*keyMin && words[1] != words[0] && strings.Contains(err.Error(), words[1]) {
				t.Errorf("the key is told: %v", err)
			}
		}
	})
}
