package whispercpp

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckModelReadsTheHeader(t *testing.T) {
	for vocab, languages := range map[int]int{51864: 1, 51865: 99, 51866: 100} {
		want := syntheticModel(vocab)
		got, err := CheckModel(writeSynthetic(t, want))
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("read %+v, wrote %+v", got, want)
		}
		if got.Languages() != languages || got.Multilingual() != (languages > 1) {
			t.Errorf("vocabulary of %d: %d languages, multilingual %v", vocab, got.Languages(), got.Multilingual())
		}
	}
}

func TestCheckModelSaysWhatAFileIsInstead(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ content, want string }{
		"empty":       {"", "is empty"},
		"gguf":        {"GGUF\x03\x00\x00\x00" + strings.Repeat("\x00", 64), "GGUF"},
		"pytorch":     {"PK\x03\x04" + strings.Repeat("\x00", 64), "zip file"},
		"page":        {"<!DOCTYPE html><html><head><title>404</title>", "web page"},
		"pointer":     {"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"},
		"safetensors": {"\x40\x01\x00\x00\x00\x00\x00\x00{\"model.decoder\":{\"dtype\"", "safetensors"},
		"ctranslate2": {"\x06\x00\x00\x00\x0c\x00WhisperSpec\x00\x03\x00\x00\x00", "whisper-backend convert"},
		"noise":       {strings.Repeat("\x93\x01\x7f", 100), "does not start as a ggml file"},
		"magic only":  {"lmgg", "cut short: it ends within its header"},
		"vad":         {"lmgg\x0a\x00\x00\x00silero-16k" + strings.Repeat("\x00", 64), "voice activity"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		checkRefused(t, name, path, c.want)
	}
	checkRefused(t, "missing", filepath.Join(dir, "nowhere.bin"), "make model")
	checkRefused(t, "folder", dir, "is a folder")
	checkRefused(t, "device", "/dev/null", "not a regular file")
}

func checkRefused(t *testing.T, name, path, want string) {
	t.Helper()
	_, err := CheckModel(path)
	if err == nil {
		t.Errorf("%s: taken for a model", name)
		return
	}
	if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: %q, which must be one sentence with %q and the path", name, err, want)
	}
}

// A model is good whole only: no cut and no damage may reach whisper.cpp.
func TestCheckModelRefusesEveryCut(t *testing.T) {
	path := writeSynthetic(t, syntheticModel(51865))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cuts := []int{4, 10, 47, 48, 60, 20000, 64300, 64400, 64500, 70000, len(whole) / 2, len(whole) - 1}
	for _, cut := range cuts {
		if err := os.Truncate(path, int64(cut)); err != nil {
			t.Fatal(err)
		}
		checkRefused(t, "cut", path, "")
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, append(whole, 0, 0, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	checkRefused(t, "more at the end", path, "")
}

func TestCheckModelRefusesDamage(t *testing.T) {
	path := writeSynthetic(t, syntheticModel(51865))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	vocabularyAt := 48 + 8 + 4*80*spectrumSize
	tensorsAt := vocabularyAt + 4
	for range int(binary.LittleEndian.Uint32(whole[vocabularyAt:])) {
		tensorsAt += 4 + int(binary.LittleEndian.Uint32(whole[tensorsAt:]))
	}
	for name, at := range map[string]int{
		"vocabulary size": 4, "audio context": 8, "width": 12, "heads": 16, "audio layers": 20, "text context": 24,
		"text width": 28, "text heads": 32, "text layers": 36, "mel bands": 40,
		"filter bands": 48, "filter bins": 52, "token count": vocabularyAt, "token length": vocabularyAt + 4,
		"rank": tensorsAt, "name length": tensorsAt + 4, "type": tensorsAt + 8, "dimension": tensorsAt + 12,
	} {
		for _, value := range []uint32{0, 0xffffffff, 0x7fffffff, 7} {
			overwrite(t, path, at, binary.LittleEndian.AppendUint32(nil, value))
			if _, err := CheckModel(path); err == nil {
				t.Errorf("%s of %d: taken for a model", name, value)
			}
		}
		overwrite(t, path, at, whole[at:at+4])
	}
}

func overwrite(t *testing.T, path string, at int, with []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(with, int64(at)); err != nil {
		t.Fatal(err)
	}
}

func TestCheckModelRefusesAStub(t *testing.T) {
	path := writeSynthetic(t, syntheticModel(51865))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := 48 + 8 + 4*80*spectrumSize
	end := at + 4
	for range int(binary.LittleEndian.Uint32(whole[at:])) {
		end += 4 + int(binary.LittleEndian.Uint32(whole[end:]))
	}
	if err := os.Truncate(path, int64(end)); err != nil {
		t.Fatal(err)
	}
	checkRefused(t, "no weights", path, "stub")
}

// Of large-v3 a state was seen to take 745 MB with one beam, and 587 MB of cache instead of 84 MB
// with five candidates.
func TestSlotBytes(t *testing.T) {
	large := Model{AudioState: 1280, TextLayers: 32}
	if got := large.SlotBytes(5) >> 20; got < 1100 || got > 1300 {
		t.Errorf("large with five candidates: %d MB", got)
	}
}
