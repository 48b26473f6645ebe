package convert

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// Silero's model tells speech from silence. It comes as silero_vad.jit, a TorchScript archive, in the
// Python package silero-vad: a zip whose members ROOT/data/N are the arrays, in float32. Which N is which
// is in the pickle beside them and is the same in all releases of version 6, as the sizes check; the
// arrays from 17 on are those of the model for 8 kHz, which whisper.cpp has no use for.
//
// What comes out is ggml-silero-v6.2.0.bin as it is published for whisper.cpp, to the last byte.

// sileroRoot begins the name of the archive's folder in version 6.
const sileroRoot = "VADr_v6"

// sileroHead is what the file says of the model: kind and version, samples a window and before it,
// encoder layers with channels in, channels out and width, the LSTM's input and state, and the last
// convolution's channels.
var sileroHead = append(append(integers(ggmlMagic, len(sileroKind)), sileroKind...), integers(
	6, 2, 0, 512, 64,
	4, 129, 128, 3, 128, 64, 3, 64, 64, 3, 64, 128, 3,
	128, 128, 128, 1)...)

const sileroKind = "silero-16k"

// sileroTensor is a tensor of the file; array is its number in the archive.
type sileroTensor struct {
	name  string
	array int
	shape []int // innermost first, as written; none for a single number
	half  bool  // written as float16, as whisper.cpp wants the weights of convolutions
}

func (t sileroTensor) elements() int {
	n := 1
	for _, length := range t.shape {
		n *= length
	}
	return n
}

func (t sileroTensor) bytes() int64 {
	if t.half {
		return int64(t.elements()) * 2
	}
	return int64(t.elements()) * 4
}

// sileroTensors are in the order of the published file.
var sileroTensors = []sileroTensor{
	{"_model.encoder.0.reparam_conv.weight", 3, []int{3, 129, 128}, true},
	{"_model.encoder.0.reparam_conv.bias", 4, []int{128}, false},
	{"_model.encoder.1.reparam_conv.weight", 5, []int{3, 128, 64}, true},
	{"_model.encoder.1.reparam_conv.bias", 6, []int{64}, false},
	{"_model.encoder.2.reparam_conv.weight", 7, []int{3, 64, 64}, true},
	{"_model.encoder.2.reparam_conv.bias", 8, []int{64}, false},
	{"_model.encoder.3.reparam_conv.weight", 9, []int{3, 64, 128}, true},
	{"_model.encoder.3.reparam_conv.bias", 10, []int{128}, false},
	{"_model.decoder.rnn.weight_ih", 11, []int{128, 512}, false},
	{"_model.decoder.rnn.weight_hh", 12, []int{128, 512}, false},
	{"_model.decoder.rnn.bias_ih", 13, []int{512}, false},
	{"_model.decoder.rnn.bias_hh", 14, []int{512}, false},
	{"_model.decoder.decoder.2.weight", 15, []int{128}, true},
	{"_model.decoder.decoder.2.bias", 16, nil, false},
	{"_model.stft.forward_basis_buffer", 2, []int{256, 1, 258}, true},
}

// silero is an open archive with Silero's model in it.
type silero struct {
	path   string
	zip    *zip.ReadCloser
	root   string
	arrays map[string]*zip.File
}

// openSilero opens a TorchScript archive of Silero's; nil for anything else, which others may know. The
// caller closes it.
func openSilero(file string) *silero {
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	archive, err := zip.OpenReader(file)
	if err != nil {
		return nil
	}
	s := &silero{path: file, zip: archive, arrays: map[string]*zip.File{}}
	annotator := false
	for _, member := range archive.File {
		s.arrays[member.Name] = member
		root, rest, _ := strings.Cut(member.Name, "/")
		if strings.HasPrefix(rest, "code/__torch__/vad/") {
			s.root, annotator = root, true
		}
	}
	if !annotator {
		archive.Close()
		return nil
	}
	return s
}

func (s *silero) close() { s.zip.Close() }

// check finds out whether the archive holds what the file is made of.
func (s *silero) check() error {
	if !strings.HasPrefix(s.root, sileroRoot) {
		return fmt.Errorf("%s is of another version of Silero's VAD (%q) than 6, which is the one that can be converted: take silero_vad.jit of the Python package silero-vad 6.2.0", s.path, s.root)
	}
	for _, t := range sileroTensors {
		member := s.arrays[s.member(t)]
		if want := uint64(4 * t.elements()); member == nil || member.UncompressedSize64 != want {
			return fmt.Errorf("%s has no %s of %d bytes for %s: it is of another version of Silero's VAD than 6.2, or damaged", s.path, s.member(t), want, t.name)
		}
	}
	return nil
}

func (s *silero) member(t sileroTensor) string { return path.Join(s.root, "data", fmt.Sprint(t.array)) }

// bytes is the length that the file will have.
func (s *silero) bytes() int64 {
	n := int64(len(sileroHead))
	for _, t := range sileroTensors {
		n += int64(12+4*len(t.shape)+len(t.name)) + t.bytes()
	}
	return n
}

func (s *silero) writeTo(to io.Writer) error {
	if _, err := to.Write(sileroHead); err != nil {
		return err
	}
	for _, t := range sileroTensors {
		data, err := s.array(t)
		if err != nil {
			return err
		}
		kind := tensorFloat
		if t.half {
			kind = tensorHalf
			var ok bool
			if data, ok = appendHalves(nil, data); !ok {
				return fmt.Errorf("%s has a number in %s that float16 cannot hold: it is damaged", s.path, s.member(t))
			}
		}
		head := append(integers(len(t.shape), len(t.name), kind), integers(t.shape...)...)
		if _, err := to.Write(append(append(head, t.name...), data...)); err != nil {
			return err
		}
	}
	return nil
}

// array reads an array whole: the largest has 260 kB. The zip's checksum tells damage.
func (s *silero) array(t sileroTensor) ([]byte, error) {
	in, err := s.arrays[s.member(t)].Open()
	if err != nil {
		return nil, fmt.Errorf("%s: cannot read %s: %w", s.path, s.member(t), err)
	}
	defer in.Close()
	data := make([]byte, 4*t.elements())
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, fmt.Errorf("%s: cannot read %s: %w", s.path, s.member(t), err)
	}
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // which also compares the checksum
		return nil, fmt.Errorf("%s: %s is damaged: %w", s.path, s.member(t), err)
	}
	return data, nil
}
