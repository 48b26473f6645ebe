package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// tokenCount is how many tokens the ggml file lists: GPT-2's 50,257, the
// end of text among them, for English models, and as many of the multilingual
// table. whisper.cpp adds the rest, the languages and the time stamps, itself.
const tokenCount = 50257

// vocabularyBytesMax bounds a tokenizer file; whisper's have 2 to 3 MB.
const vocabularyBytesMax = 64 << 20

// readTokens returns the bytes of the first tokenCount tokens, by the first of
// the three files that the folder has. They hold the same table; tokenizer.json
// is the one that tells the numbers.
func readTokens(dir string) ([][]byte, error) {
	for _, file := range []struct {
		name  string
		parse func([]byte) (map[int]string, error)
	}{
		{"tokenizer.json", parseTokenizer},
		{"vocabulary.json", parseVocabularyList},
		{"vocabulary.txt", parseVocabularyLines},
	} {
		path := filepath.Join(dir, file.name)
		data, err := readBounded(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, plain(err)
		}
		table, err := file.parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s is no whisper vocabulary: %w", path, err)
		}
		tokens, err := tokenBytes(table)
		if err != nil {
			return nil, fmt.Errorf("%s is no whisper vocabulary: %w", path, err)
		}
		return tokens, nil
	}
	return nil, fmt.Errorf("%s has none of tokenizer.json, vocabulary.json and vocabulary.txt: copy the tokenizer.json of the original model into it", dir)
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	if info.Size() > vocabularyBytesMax {
		return nil, fmt.Errorf("%s has %d bytes, where a whisper vocabulary has 2 to 3 MB", path, info.Size())
	}
	return os.ReadFile(path)
}

// parseTokenizer reads Hugging Face's tokenizer.json. Special tokens may be
// listed as added ones only.
func parseTokenizer(data []byte) (map[int]string, error) {
	var file struct {
		Added []struct {
			ID      int    `json:"id"`
			Content string `json:"content"`
		} `json:"added_tokens"`
		Model struct {
			Vocab map[string]int `json:"vocab"`
		} `json:"model"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	table := make(map[int]string, len(file.Model.Vocab))
	for text, id := range file.Model.Vocab {
		if other, twice := table[id]; twice && other != text {
			return nil, fmt.Errorf("token %d is listed twice", id)
		}
		table[id] = text
	}
	for _, token := range file.Added {
		if _, listed := table[token.ID]; !listed {
			table[token.ID] = token.Content
		}
	}
	return table, nil
}

func parseVocabularyList(data []byte) (map[int]string, error) {
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	return numbered(list), nil
}

func parseVocabularyLines(data []byte) (map[int]string, error) {
	data = bytes.TrimSuffix(data, []byte("\n")) // the last line's end, not an empty token
	return numbered(strings.Split(string(data), "\n")), nil
}

func numbered(list []string) map[int]string {
	table := make(map[int]string, len(list))
	for id, text := range list {
		table[id] = text
	}
	return table
}

// tokenBytes undoes GPT-2's spelling of bytes in tokens 0 to tokenCount-1.
func tokenBytes(table map[int]string) ([][]byte, error) {
	spelled := byteSpelling()
	tokens := make([][]byte, tokenCount)
	for id := range tokens {
		text, ok := table[id]
		if !ok {
			return nil, fmt.Errorf("it lacks token %d of %d", id, tokenCount)
		}
		for _, letter := range text {
			b, ok := spelled[letter]
			if !ok {
				return nil, fmt.Errorf("token %d, %q, has the letter %q, which stands for no byte", id, text, letter)
			}
			tokens[id] = append(tokens[id], b)
		}
	}
	return tokens, nil
}

// byteSpelling is GPT-2's table from letters to bytes. A token is any string of
// bytes; to keep it readable in JSON each byte is written as a letter: printable
// ones of Latin-1 as themselves, the other 68, in order, as the letters from
// U+0100 on. So a space is Ġ (U+0120) and a line's end is Ċ (U+010A).
func byteSpelling() map[rune]byte {
	table := make(map[rune]byte, 256)
	next := rune(0x100)
	for b := range 256 {
		printable := b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae
		if printable {
			table[rune(b)] = byte(b)
			continue
		}
		table[next] = byte(b)
		next++
	}
	return table
}
