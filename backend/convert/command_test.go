package convert

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	dir := newFixture(vocabularyEnglish, 80, 8, float16Type).save(t)
	out := filepath.Join(t.TempDir(), "ggml.bin")
	for _, c := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"help", []string{"--help"}, 0, "Usage: whisper-backend convert DIR OUT", ""},
		{"no arguments", nil, 2, "", "Usage:"},
		{"one argument", []string{dir}, 2, "", "Usage:"},
		{"an unknown flag", []string{"--fast", out}, 2, "", "Usage:"},
		{"no folder", []string{filepath.Join(dir, "x"), out}, 1, "", "whisper-backend convert: there is no folder"},
		{"a model", []string{dir, out}, 0, out + ": ", "converting: 0 %\nconverting: "},
		{"the same again", []string{dir, out}, 1, "", "exists already"},
	} {
		var stdout, stderr bytes.Buffer
		if code := Command(c.args, &stdout, &stderr); code != c.code {
			t.Errorf("%s: exit code %d, want %d", c.name, code, c.code)
		}
		if !strings.Contains(stdout.String(), c.stdout) || c.stdout == "" && stdout.Len() > 0 {
			t.Errorf("%s: stdout is %q", c.name, &stdout)
		}
		if !strings.Contains(stderr.String(), c.stderr) || c.stderr == "" && stderr.Len() > 0 {
			t.Errorf("%s: stderr is %q", c.name, &stderr)
		}
		if c.code == 1 && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: the error has several lines: %q", c.name, &stderr)
		}
	}
	if _, err := os.Stat(out); err != nil {
		t.Error(err)
	}
}

// On a terminal the bar is redrawn in one line, and its line is left at the end.
func TestBarOnTerminal(t *testing.T) {
	var screen bytes.Buffer
	b := &bar{to: &screen, terminal: true}
	for done := range int64(1001) {
		b.show(done, 1000)
	}
	b.end()
	got := screen.String()
	if strings.Count(got, "\r") != 101 || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "100 %\n") {
		t.Errorf("%d redraws, ending in %q", strings.Count(got, "\r"), got[max(0, len(got)-60):])
	}
	widest := 0
	for _, line := range strings.Split(got, "\r") {
		widest = max(widest, len(strings.TrimSpace(line)))
	}
	if widest > 79 {
		t.Errorf("the bar is %d wide", widest)
	}
}
