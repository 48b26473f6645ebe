package whispercpp

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzCheckModel: a damaged model file is refused in a sentence, whatever is damaged. A whole one is too
// large to be changed at every place, so the seeds end in each of its parts.
func FuzzCheckModel(f *testing.F) {
	whole, err := os.ReadFile(writeSynthetic(f, syntheticModel(51864)))
	if err != nil {
		f.Fatal(err)
	}
	const mels = 4 + 11*4 + 2*4 + 80*201*4
	for _, length := range []int{0, 3, 4, 4 + 11*4, 4 + 11*4 + 8, mels, mels + 4, mels + 60} {
		f.Add(whole[:min(length, len(whole))])
	}
	for _, seed := range []string{"GGUF\x03\x00\x00\x00", "PK\x03\x04", "<html>", "version https://git-lfs", "\x20\x00\x00\x00\x00\x00\x00\x00{", "\x06\x00\x00\x00\x0c\x00WhisperSpec\x00"} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "model.bin")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := CheckModel(path)
		if err != nil && err.Error() == "" {
			t.Error("an error that says nothing")
		}
		if err == nil && (m.Languages() < 1 || m.AudioCtx <= 0) {
			t.Errorf("accepted %+v", m)
		}
	})
}
