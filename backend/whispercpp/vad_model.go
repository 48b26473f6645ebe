package whispercpp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// sileroTensors are the weights of Silero's network for 16 kHz, in the order of the published files, with their
// dimensions; f16 where whisper.cpp wants them so.
var sileroTensors = []struct {
	name  string
	shape []int
	f16   bool
}{
	{"_model.encoder.0.reparam_conv.weight", []int{3, 129, 128}, true},
	{"_model.encoder.0.reparam_conv.bias", []int{128}, false},
	{"_model.encoder.1.reparam_conv.weight", []int{3, 128, 64}, true},
	{"_model.encoder.1.reparam_conv.bias", []int{64}, false},
	{"_model.encoder.2.reparam_conv.weight", []int{3, 64, 64}, true},
	{"_model.encoder.2.reparam_conv.bias", []int{64}, false},
	{"_model.encoder.3.reparam_conv.weight", []int{3, 64, 128}, true},
	{"_model.encoder.3.reparam_conv.bias", []int{128}, false},
	{"_model.decoder.rnn.weight_ih", []int{128, 512}, false},
	{"_model.decoder.rnn.weight_hh", []int{128, 512}, false},
	{"_model.decoder.rnn.bias_ih", []int{512}, false},
	{"_model.decoder.rnn.bias_hh", []int{512}, false},
	{"_model.decoder.decoder.2.weight", []int{128}, true},
	{"_model.decoder.decoder.2.bias", nil, false},
	{"_model.stft.forward_basis_buffer", []int{256, 1, 258}, true},
}

// piece is a part of a file that must be as it is; weights may be anything.
type piece struct {
	what    string
	bytes   []byte // nil: any
	skipped int    // how many, then
}

// sileroPieces is the whole file. whisper.cpp takes lengths and sizes from it on trust, so that another one
// could end the process.
func sileroPieces() []piece {
	ints := func(values ...int) (raw []byte) {
		for _, v := range values {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(v))
		}
		return raw
	}
	const kind = "silero-16k"
	pieces := []piece{
		{what: "its kind", bytes: append(ints(ggmlMagic, len(kind)), kind...)},
		{what: "its version", skipped: 3 * 4},
		{what: "its header", bytes: ints(512, 64, 4, 129, 128, 3, 128, 64, 3, 64, 64, 3, 64, 128, 3, 128, 128, 128, 1)},
	}
	for _, t := range sileroTensors {
		elements, kind, width := 1, 0, 4
		if t.f16 {
			kind, width = 1, 2
		}
		for _, n := range t.shape {
			elements *= n
		}
		head := append(ints(len(t.shape), len(t.name), kind), ints(t.shape...)...)
		pieces = append(pieces,
			piece{what: "the head of " + t.name, bytes: append(head, t.name...)},
			piece{what: t.name, skipped: elements * width})
	}
	return pieces
}

// checkDetector refuses a file that is no model for telling speech from silence. The error is one sentence.
func checkDetector(path string) error {
	const hint = "get ggml-silero-v6.2.0.bin with `make model`"
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no file %s to tell speech from silence: %s, or name another", path, hint)
	case err != nil:
		return fmt.Errorf("cannot read the model that tells speech from silence: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file, so no model can be read from it", path)
	}
	size := 0
	for _, p := range sileroPieces() {
		size += len(p.bytes) + p.skipped
	}
	if info.Size() != int64(size) {
		return fmt.Errorf("%s has %d bytes, but Silero's model, which tells speech from silence, has %d: %s", path, info.Size(), size, hint)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read the model that tells speech from silence: %w", err)
	}
	for _, p := range sileroPieces() {
		if !bytes.HasPrefix(data, p.bytes) {
			return fmt.Errorf("%s is not Silero's model, which tells speech from silence, or is damaged (%s): %s", path, p.what, hint)
		}
		data = data[min(len(data), len(p.bytes)+p.skipped):]
	}
	return nil
}
