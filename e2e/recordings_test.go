package e2e

import (
	"bufio"
	"fmt"
	"io"
	"mime/multipart"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// recording is speech with known words.
type recording struct {
	path    string
	seconds float64
	words   string
}

// recordings reads the manifest that scripts/recordings.sh wrote: file, seconds and words, tabs
// between; those without words are left out.
func recordings(t *testing.T) []recording {
	t.Helper()
	dir := env(t, "WHISPERPOOL_RECORDINGS")
	manifest, err := os.Open(filepath.Join(dir, "manifest.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	defer manifest.Close()
	var all []recording
	for lines := bufio.NewScanner(manifest); lines.Scan(); {
		columns := strings.Split(lines.Text(), "\t")
		if len(columns) < 3 || strings.HasPrefix(columns[0], "#") || columns[2] == "" || strings.Contains(columns[0], "cards/") {
			continue
		}
		seconds, err := strconv.ParseFloat(columns[1], 64)
		if err != nil {
			continue // the head of the table
		}
		all = append(all, recording{filepath.Join(dir, columns[0]), seconds, columns[2]})
	}
	if len(all) < 6 {
		t.Fatalf("only %d recordings with known words in %s", len(all), dir)
	}
	return all
}

// recordingsAll are the files of all recordings, those with words that are hard to make out included.
func recordingsAll(t *testing.T) []string {
	t.Helper()
	dir := env(t, "WHISPERPOOL_RECORDINGS")
	var files []string
	for _, pattern := range []string{"*.wav", "librivox/*.wav", "cards/*.wav"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is well-formed
		files = append(files, found...)
	}
	if len(files) < 11 {
		t.Fatalf("only %d recordings in %s", len(files), dir)
	}
	return files
}

func recordingNamed(t *testing.T, name string) string {
	t.Helper()
	for _, path := range recordingsAll(t) {
		if filepath.Base(path) == name {
			return path
		}
	}
	t.Fatalf("no %s among the recordings", name)
	return ""
}

func jfk(t *testing.T) recording {
	t.Helper()
	for _, r := range recordings(t) {
		if filepath.Base(r.path) == "jfk.wav" {
			return r
		}
	}
	t.Fatal("no jfk.wav among the recordings")
	return recording{}
}

// plainWords are a text's words without case, punctuation and hyphens, which transcripts may set
// as they like.
func plainWords(text string) []string {
	return strings.FieldsFunc(strings.ToLower(strings.ReplaceAll(text, "'", "")), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// wordErrors is the least number of words to insert, delete and replace between two texts.
func wordErrors(got, want string) (errors, words int) {
	a, b := plainWords(got), plainWords(want)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)], len(b)
}

func TestWordErrors(t *testing.T) {
	for _, c := range []struct {
		got, want string
		errors    int
	}{
		{"And so, my fellow Americans", "and so my fellow americans", 0},
		{"a four-legged friend", "a four legged friend", 0},
		{"one two four", "one two three four", 1},
		{"one to three", "one two three", 1},
		{"", "one two", 2},
	} {
		if errors, _ := wordErrors(c.got, c.want); errors != c.errors {
			t.Errorf("%q against %q: %d errors, want %d", c.got, c.want, errors, c.errors)
		}
	}
}

// multipartForm returns a function that writes the upload, file first as Node's client does.
func multipartForm(w io.Writer, file string, fields []string) (write func() error, contentType string) {
	form := multipart.NewWriter(w)
	return func() error {
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		defer in.Close()
		part, err := form.CreateFormFile("file", filepath.Base(file))
		if err != nil {
			return err
		}
		if _, err := io.Copy(part, in); err != nil {
			return err
		}
		for _, field := range fields {
			name, value, ok := strings.Cut(field, "=")
			if !ok {
				return fmt.Errorf("field %q has no value", field)
			}
			if err := form.WriteField(name, value); err != nil {
				return err
			}
		}
		return form.Close()
	}, form.FormDataContentType()
}
