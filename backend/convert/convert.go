// Package convert turns a faster-whisper model folder (CTranslate2) into the
// ggml file that whisper.cpp loads.
package convert

import "errors"

// Convert reads the CTranslate2 model in the folder dir and writes it as a ggml file to out.
func Convert(dir, out string, progress func(done, total int64)) error {
	return errors.New("not written yet")
}
