package whispercpp

import (
	"bufio"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// syntheticModel is a model of the real format with random weights: it speaks nonsense, but it
// drives every part of the library in little time and needs no download.
func syntheticModel(vocab int) Model {
	return Model{
		Vocab: vocab, AudioCtx: 1500, AudioState: 64, AudioHeads: 1, AudioLayers: 1,
		TextCtx: 448, TextHeads: 1, TextLayers: 3, Mels: 80, Ftype: 1,
	}
}

// writeSynthetic writes such a model to a file of the test's and returns its path.
func writeSynthetic(t testing.TB, m Model) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ggml-synthetic.bin")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := &modelWriter{out: bufio.NewWriterSize(file, 1<<20), chance: rand.New(rand.NewPCG(9, uint64(m.Vocab)))}
	w.int32s(ggmlMagic, m.Vocab, m.AudioCtx, m.AudioState, m.AudioHeads, m.AudioLayers,
		m.TextCtx, m.AudioState, m.TextHeads, m.TextLayers, m.Mels, m.Ftype)
	w.melFilters(m.Mels)
	w.vocabulary()
	shapes := tensorShapes(m)
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		w.tensor(name, shapes[name])
	}
	if err := w.out.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

type modelWriter struct {
	out    *bufio.Writer
	chance *rand.Rand
}

// A bufio.Writer keeps its first error for Flush.
func (w *modelWriter) bytes(b []byte) { _, _ = w.out.Write(b) }

func (w *modelWriter) int32s(values ...int) {
	for _, v := range values {
		w.bytes(binary.LittleEndian.AppendUint32(nil, uint32(v)))
	}
}

func (w *modelWriter) float32(v float64) {
	w.bytes(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v))))
}

// melFilters are triangles side by side.
func (w *modelWriter) melFilters(bands int) {
	w.int32s(bands, spectrumSize)
	for band := range bands {
		centre := float64(band+1) * (spectrumSize - 1) / float64(bands+1)
		for bin := range spectrumSize {
			w.float32(max(0, 1-math.Abs(float64(bin)-centre)/3) / 100)
		}
	}
}

// vocabulary has the single bytes, what whisper.cpp looks up by name, and short words.
func (w *modelWriter) vocabulary() {
	tokens := make([]string, 0, 3000)
	for b := range 256 {
		tokens = append(tokens, string([]byte{byte(b)}))
	}
	tokens = append(tokens, " -", " '")
	for _, a := range "abcdefghijklmnopqrstuvwxyz" {
		for _, b := range "aeioué語" {
			tokens = append(tokens, string([]rune{a, b}), string([]rune{' ', a, b}))
		}
	}
	w.int32s(len(tokens))
	for _, token := range tokens {
		w.int32s(len(token))
		w.bytes([]byte(token))
	}
}

func (w *modelWriter) tensor(name string, shape [3]int64) {
	rank := 3
	for rank > 1 && shape[rank-1] == 1 {
		rank--
	}
	full := rank == 1 || strings.HasSuffix(name, "bias") || strings.HasSuffix(name, "positional_embedding")
	w.int32s(rank, len(name), map[bool]int{true: 0, false: 1}[full])
	for _, dimension := range shape[:rank] {
		w.int32s(int(dimension))
	}
	w.bytes([]byte(name))
	for range shape[0] * shape[1] * shape[2] {
		switch random := w.chance.Uint32(); {
		case strings.HasSuffix(name, "ln.weight"):
			w.float32(1)
		case full:
			w.float32(w.chance.NormFloat64() / 10)
		default: // a half-precision number of either sign between 2^-6 and 2^-2
			w.bytes(binary.LittleEndian.AppendUint16(nil, uint16(random&0x83ff|(9+random>>20&3)<<10)))
		}
	}
}
