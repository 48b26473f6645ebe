package convert

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ct2Command is what turns other forms of a model into a folder that can be
// converted.
const ct2Command = "`ct2-transformers-converter --model MODEL --output_dir DIR --quantization float16 --copy_files tokenizer.json`"

// findModel returns the path of the folder's model.bin. Where there is none it
// looks at what else the folder holds, because most people who name a wrong
// folder hold the same model in another form.
func findModel(dir string) (string, error) {
	info, err := os.Stat(dir)
	if os.IsNotExist(err) {
		return "", fmt.Errorf("there is no folder %s", dir)
	}
	if err != nil {
		return "", plain(err)
	}
	if !info.IsDir() {
		return "", refuseFile(dir)
	}
	path := filepath.Join(dir, "model.bin")
	model, err := os.Stat(path)
	if err == nil && model.Mode().IsRegular() {
		return path, nil
	}
	if err == nil {
		return "", fmt.Errorf("%s is no regular file", path)
	}
	if !os.IsNotExist(err) {
		return "", plain(err)
	}
	for _, other := range []struct{ pattern, what string }{
		{"*.safetensors", "a Hugging Face model"},
		{"pytorch_model*.bin", "a PyTorch model"},
		{"*.pt", "a PyTorch model"},
		{"*.gguf", "a GGUF model"},
	} {
		if found, _ := filepath.Glob(filepath.Join(dir, other.pattern)); len(found) > 0 {
			return "", fmt.Errorf("%s holds %s (%s), not a CTranslate2 one with a model.bin: make one of it with %s", dir, other.what, filepath.Base(found[0]), ct2Command)
		}
	}
	return "", fmt.Errorf("%s has no model.bin: name the folder of a faster-whisper (CTranslate2) model", dir)
}

// refuseFile explains why a file where a folder was due is none.
func refuseFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return plain(err)
	}
	defer file.Close()
	if err := refuseForeign(file, path); err != nil {
		return err
	}
	return fmt.Errorf("%s is a file: name the folder that holds model.bin and tokenizer.json", path)
}

// refuseForeign recognises, by their first bytes, the files that people take
// for a CTranslate2 model.
func refuseForeign(file io.ReaderAt, path string) error {
	head := make([]byte, 16)
	n, err := file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return plain(err)
	}
	head = head[:n]
	has := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case has("lmgg"): // 0x67676d6c, little-endian
		return fmt.Errorf("%s is a ggml file already: whisper.cpp loads it as it is", path)
	case has("GGUF"):
		return fmt.Errorf("%s is a GGUF file, not a CTranslate2 model: whisper.cpp needs the model's ggml file, or the original model made into a CTranslate2 folder with %s", path, ct2Command)
	case has("PK\x03\x04"), has("\x80\x02"):
		return fmt.Errorf("%s is a PyTorch checkpoint, not a CTranslate2 model: make one of it with %s", path, ct2Command)
	case len(head) > 8 && head[8] == '{': // a length of 8 bytes, then a JSON header
		return fmt.Errorf("%s is a safetensors file, not a CTranslate2 model: make one of it with %s", path, ct2Command)
	case has("version https:"):
		return fmt.Errorf("%s is a Git LFS pointer, not the model itself: fetch it with `git lfs pull`", path)
	}
	return nil
}
