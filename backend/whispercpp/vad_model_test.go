package whispercpp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sileroFile is a file of Silero's in which all weights are 0.
func sileroFile() []byte {
	var data []byte
	for _, p := range sileroPieces() {
		data = append(append(data, p.bytes...), make([]byte, p.skipped)...)
	}
	return data
}

func TestCheckDetector(t *testing.T) {
	whole := sileroFile()
	if len(whole) != 885098 { // as the published one has
		t.Fatalf("%d bytes", len(whole))
	}
	changed := func(at int) []byte {
		data := append([]byte(nil), whole...)
		data[at] ^= 1
		return data
	}
	for _, c := range []struct {
		name string
		data []byte
		says string // "": taken
	}{
		{"whole", whole, ""},
		{"another version", changed(20), ""},
		{"other weights", changed(1000), ""},
		{"empty", nil, "has 0 bytes"},
		{"cut short", whole[:len(whole)-1], "has 885097 bytes"},
		{"too long", append(changed(20), 0), "has 885099 bytes"},
		{"no ggml file", changed(0), "(its kind)"},
		{"another kind", changed(10), "(its kind)"},
		{"another window", changed(30), "(its header)"},
		{"more layers", changed(38), "(its header)"},
		{"another rank", changed(106), "(the head of _model.encoder.0.reparam_conv.weight)"},
		{"another name", changed(len(whole) - 258*256*2 - 1), "(the head of _model.stft.forward_basis_buffer)"},
	} {
		path := filepath.Join(t.TempDir(), "ggml-silero.bin")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := checkDetector(path)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "make model")):
			t.Errorf("%s: %v, want something about %q", c.name, err, c.says)
		}
	}
	for path, says := range map[string]string{
		filepath.Join(t.TempDir(), "none.bin"): "there is no file",
		t.TempDir():                            "not a regular file",
	} {
		if err := checkDetector(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
