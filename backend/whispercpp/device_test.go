package whispercpp

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUUIDOfACard(t *testing.T) {
	folder := t.TempDir()
	card := filepath.Join(folder, "0000:3b:00.0")
	if err := os.Mkdir(card, 0o700); err != nil {
		t.Fatal(err)
	}
	text := "Model: \t\t Tesla T4\nIRQ:   \t\t 183\nGPU UUID: \t GPU-5a1d3e8c-0c6c-11ef-9c1a-0242ac120002\nVideo BIOS: \t 90.04.38.00.03\n"
	if err := os.WriteFile(filepath.Join(card, "information"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for slot, want := range map[string]string{
		"0000:3b:00.0":      "GPU-5a1d3e8c-0c6c-11ef-9c1a-0242ac120002",
		"0000:3B:00.0":      "GPU-5a1d3e8c-0c6c-11ef-9c1a-0242ac120002", // CUDA writes it so
		"0000:3c:00.0":      "",
		"":                  "",
		"../0000:3b:00.0/x": "",
	} {
		if got := uuidOf(folder, slot); got != want {
			t.Errorf("%q: %q, want %q", slot, got, want)
		}
	}
}
