package convert

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sileroFixture is a TorchScript archive in the making: arrays by their number.
type sileroFixture struct {
	root   string
	arrays map[int][]byte
	broken string // a member whose checksum is wrong
}

// newSileroFixture has random numbers that float16 holds exactly in all arrays, those for 8 kHz included.
func newSileroFixture() *sileroFixture {
	f := &sileroFixture{root: "VADr_v6_10_25", arrays: map[int][]byte{}}
	random := rand.New(rand.NewPCG(1, 2))
	for array, elements := range []int{
		0, 0, 258 * 256, 128 * 129 * 3, 128, 64 * 128 * 3, 64, 64 * 64 * 3, 64, 128 * 64 * 3, 128,
		512 * 128, 512 * 128, 512, 512, 128, 1, 130 * 128, 128 * 65 * 3,
	} {
		data := []byte{}
		for range elements {
			data, _ = binary.Append(data, binary.LittleEndian, float32(random.IntN(2048)-1024)/1024)
		}
		f.arrays[array] = data
	}
	return f
}

// number reads element i of an array.
func (f *sileroFixture) number(array, i int) (number float32) {
	_, _ = binary.Decode(f.arrays[array][4*i:], binary.LittleEndian, &number)
	return number
}

// save writes the archive and returns its path.
func (f *sileroFixture) save(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	member := func(name string, data []byte) {
		out, err := w.CreateHeader(&zip.FileHeader{Name: f.root + "/" + name}) // stored, as torch does
		if err != nil {
			t.Fatal(err)
		}
		_, _ = out.Write(data)
	}
	for array, data := range f.arrays {
		member(fmt.Sprintf("data/%d", array), data)
	}
	member("data.pkl", []byte("not read"))
	member("code/__torch__/vad/model/vad_annotator.py", []byte("not read"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	if f.broken != "" {
		at := bytes.Index(data, []byte(f.broken)) + len(f.broken)
		data[at+20] ^= 1
	}
	path := filepath.Join(t.TempDir(), "silero_vad.jit")
	put(t, path, data)
	return path
}

// The names and types are those that models.md lists, not the converter's own table.
func TestConvertSilero(t *testing.T) {
	f := newSileroFixture()
	out := filepath.Join(t.TempDir(), "ggml-silero.bin")
	var done, total int64
	if err := Convert(f.save(t), out, func(d, all int64) { done, total = d, all }); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil || len(data) != 885098 || done != total || total != 885098 { // as the published one has
		t.Fatalf("%d bytes, %d of %d written, %v", len(data), done, total, err)
	}
	in := bytes.NewReader(data)
	number := func() (n int32) { _ = binary.Read(in, binary.LittleEndian, &n); return n }
	text := func(length int32) string { s := make([]byte, length); _, _ = in.Read(s); return string(s) }
	if magic, kind := number(), text(number()); magic != ggmlMagic || kind != "silero-16k" {
		t.Errorf("magic %#x, kind %q", magic, kind)
	}
	for i, want := range []int32{6, 2, 0, 512, 64, 4, 129, 128, 3, 128, 64, 3, 64, 64, 3, 64, 128, 3, 128, 128, 128, 1} {
		if got := number(); got != want {
			t.Errorf("number %d of the header is %d, want %d", i, got, want)
		}
	}
	for _, want := range []string{
		"_model.encoder.0.reparam_conv.weight [3 129 128] 1 of 3", "_model.encoder.0.reparam_conv.bias [128] 0 of 4",
		"_model.encoder.1.reparam_conv.weight [3 128 64] 1 of 5", "_model.encoder.1.reparam_conv.bias [64] 0 of 6",
		"_model.encoder.2.reparam_conv.weight [3 64 64] 1 of 7", "_model.encoder.2.reparam_conv.bias [64] 0 of 8",
		"_model.encoder.3.reparam_conv.weight [3 64 128] 1 of 9", "_model.encoder.3.reparam_conv.bias [128] 0 of 10",
		"_model.decoder.rnn.weight_ih [128 512] 0 of 11", "_model.decoder.rnn.weight_hh [128 512] 0 of 12",
		"_model.decoder.rnn.bias_ih [512] 0 of 13", "_model.decoder.rnn.bias_hh [512] 0 of 14",
		"_model.decoder.decoder.2.weight [128] 1 of 15", "_model.decoder.decoder.2.bias [] 0 of 16",
		"_model.stft.forward_basis_buffer [256 1 258] 1 of 2",
	} {
		rank, length, kind := number(), number(), number()
		shape := make([]int32, rank)
		_ = binary.Read(in, binary.LittleEndian, shape)
		var array int
		_, _ = fmt.Sscanf(want[strings.LastIndex(want, " ")+1:], "%d", &array)
		if got := fmt.Sprintf("%s %v %d of %d", text(length), shape, kind, array); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		for i := range len(f.arrays[array]) / 4 {
			var got float32
			if kind == tensorHalf {
				var half uint16
				_ = binary.Read(in, binary.LittleEndian, &half)
				got = singleOf(half)
			} else {
				_ = binary.Read(in, binary.LittleEndian, &got)
			}
			if got != f.number(array, i) {
				t.Fatalf("%s: number %d is %v, want %v", want, i, got, f.number(array, i))
			}
		}
	}
	if in.Len() > 0 {
		t.Errorf("%d bytes too many", in.Len())
	}
}

func TestConvertRefusesOtherArchives(t *testing.T) {
	for says, change := range map[string]func(*sileroFixture){
		"another version of Silero's VAD (\"VADr_v5\")": func(f *sileroFixture) { f.root = "VADr_v5" },
		"no VADr_v6_10_25/data/3 of 198144 bytes":       func(f *sileroFixture) { f.arrays[3] = f.arrays[4] },
		"no VADr_v6_10_25/data/16 of 4 bytes":           func(f *sileroFixture) { delete(f.arrays, 16) },
		"data/9 is damaged":                             func(f *sileroFixture) { f.broken = f.root + "/data/9" },
		"float16 cannot hold":                           func(f *sileroFixture) { copy(f.arrays[15][8:], []byte{0, 0, 0x80, 0x7f}) },
	} {
		f := newSileroFixture()
		change(f)
		out := filepath.Join(t.TempDir(), "ggml-silero.bin")
		err := Convert(f.save(t), out, nil)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v; want something about %s", err, says)
		}
		for _, left := range []string{out, out + ".part"} {
			if _, err := os.Stat(left); err == nil {
				t.Errorf("%s: %s is there", says, left)
			}
		}
	}
}
