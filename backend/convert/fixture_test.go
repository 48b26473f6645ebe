package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// array is a variable of a synthetic model.
type array struct {
	name  string
	shape []int
	kind  dataType
	data  []byte
}

// fixture is a small CTranslate2 folder in the making; a test changes what it
// wants to break and then saves it.
type fixture struct {
	version   uint32
	spec      string
	arrays    []array
	aliases   [][2]string
	tail      []byte
	tokenizer []byte // tokenizer.json; none if nil
	state     int
	random    *rand.Rand
	kind      dataType
}

const (
	fixtureAudioContext = 12
	fixtureTextContext  = 6
	fixtureHeads        = 2
	fixtureAudioLayers  = 1
	fixtureTextLayers   = 2
)

// newFixture is a whole whisper model of tiny width with seeded weights.
func newFixture(vocabulary, mels, state int, kind dataType) *fixture {
	f := &fixture{version: 6, spec: "WhisperSpec", state: state, kind: kind, random: rand.New(rand.NewPCG(1, 2))}
	for _, side := range []string{"decoder", "encoder"} {
		f.setting(side+"/num_heads", int16Type, fixtureHeads)
		f.setting(side+"/pre_norm", int8Type, 1)
		f.norm(side + "/layer_norm")
	}
	f.setting("decoder/alignment_layer", int16Type, 0xffff)
	f.weight("decoder/embeddings/weight", vocabulary, state)
	f.weight("decoder/position_encodings/encodings", fixtureTextContext, state)
	f.weight("encoder/position_encodings/encodings", fixtureAudioContext, state)
	f.weight("encoder/conv1/weight", state, mels, 3)
	f.weight("encoder/conv1/bias", state)
	f.weight("encoder/conv2/weight", state, state, 3)
	f.weight("encoder/conv2/bias", state)
	for i := range fixtureAudioLayers {
		f.layer(fmt.Sprintf("encoder/layer_%d", i))
	}
	for i := range fixtureTextLayers {
		at := fmt.Sprintf("decoder/layer_%d", i)
		f.layer(at)
		f.norm(at + "/attention/layer_norm")
		f.linear(at+"/attention/linear_0", state, state)
		f.linear(at+"/attention/linear_1", 2*state, state)
		f.linear(at+"/attention/linear_2", state, state)
	}
	f.aliases = [][2]string{{"decoder/projection/weight", "decoder/embeddings/weight"}}
	f.tokenizer = fixtureTokenizerJSON()
	return f
}

func (f *fixture) layer(at string) {
	f.norm(at + "/self_attention/layer_norm")
	f.linear(at+"/self_attention/linear_0", 3*f.state, f.state)
	f.linear(at+"/self_attention/linear_1", f.state, f.state)
	f.norm(at + "/ffn/layer_norm")
	f.linear(at+"/ffn/linear_0", 4*f.state, f.state)
	f.linear(at+"/ffn/linear_1", f.state, 4*f.state)
}

func (f *fixture) norm(at string) {
	f.weight(at+"/gamma", f.state)
	f.weight(at+"/beta", f.state)
}

func (f *fixture) linear(at string, rows, columns int) {
	f.weight(at+"/weight", rows, columns)
	f.weight(at+"/bias", rows)
}

// weight adds an array of random numbers that float16 holds exactly, so that
// both kinds of export must come out alike. Long ones repeat after a prime
// count of numbers, which no part of an array is a multiple of: that is quick,
// and numbers at the wrong place still show.
func (f *fixture) weight(name string, shape ...int) {
	elements := 1
	for _, n := range shape {
		elements *= n
	}
	var block []byte
	for range min(elements, 4099) {
		number := float32(f.random.IntN(2048)-1024) / 1024
		if f.kind == float16Type {
			block = binary.LittleEndian.AppendUint16(block, halfOf(number))
			continue
		}
		block, _ = binary.Append(block, binary.LittleEndian, number)
	}
	bytesWanted := elements * int(f.kind.width())
	data := bytes.Repeat(block, 1+bytesWanted/len(block))[:bytesWanted]
	f.arrays = append(f.arrays, array{name, shape, f.kind, data})
}

func (f *fixture) setting(name string, kind dataType, value uint16) {
	data := binary.LittleEndian.AppendUint16(nil, value)
	f.arrays = append(f.arrays, array{name, nil, kind, data[:kind.width()]})
}

// array finds a variable to change.
func (f *fixture) array(t testing.TB, name string) *array {
	t.Helper()
	for i := range f.arrays {
		if f.arrays[i].name == name {
			return &f.arrays[i]
		}
	}
	t.Fatalf("the fixture has no %s", name)
	return nil
}

func (f *fixture) remove(t testing.TB, name string) {
	t.Helper()
	gone := f.array(t, name)
	*gone = f.arrays[len(f.arrays)-1]
	f.arrays = f.arrays[:len(f.arrays)-1]
}

// number reads element i of a variable.
func (a *array) number(i int) float32 {
	if a.kind == float16Type {
		return singleOf(binary.LittleEndian.Uint16(a.data[2*i:]))
	}
	var number float32
	binary.Decode(a.data[4*i:], binary.LittleEndian, &number)
	return number
}

// model encodes model.bin.
func (f *fixture) model() []byte {
	text := func(to []byte, s string) []byte {
		to = binary.LittleEndian.AppendUint16(to, uint16(len(s)+1))
		return append(append(to, s...), 0)
	}
	out := binary.LittleEndian.AppendUint32(nil, f.version)
	out = text(out, f.spec)
	out = binary.LittleEndian.AppendUint32(out, 3)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(f.arrays)))
	for _, a := range f.arrays {
		out = append(text(out, a.name), byte(len(a.shape)))
		for _, n := range a.shape {
			out = binary.LittleEndian.AppendUint32(out, uint32(n))
		}
		out = append(out, byte(a.kind))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(a.data)))
		out = append(out, a.data...)
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(len(f.aliases)))
	for _, alias := range f.aliases {
		out = text(text(out, alias[0]), alias[1])
	}
	return append(out, f.tail...)
}

// save writes the folder and returns it.
func (f *fixture) save(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "model.bin"), f.model())
	if f.tokenizer != nil {
		put(t, filepath.Join(dir, "tokenizer.json"), f.tokenizer)
	}
	return dir
}

func put(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fixtureSpellings is a vocabulary as GPT-2 spells it: every byte, a few words
// with spaces and beyond ASCII, and filling.
func fixtureSpellings() []string {
	spellings := []string{"Hello", "Ġworld", "Ġ-", "ĊĊ", "Ã¤", "æĹ¥æľ¬", "ðŁĺ"}
	for letter := range byteSpelling() {
		spellings = append(spellings, string(letter))
	}
	for len(spellings) < tokenCount-1 {
		spellings = append(spellings, fmt.Sprintf("Ġw%d", len(spellings)))
	}
	return append(spellings, "")
}

// fixtureTokens are the first of fixtureSpellings as bytes.
var fixtureTokens = []string{"Hello", " world", " -", "\n\n", "ä", "日本", "\xf0\x9f\x98"}

// fixtureTokenizer is what a tokenizer.json holds.
func fixtureTokenizer() (vocab map[string]int, added []map[string]any) {
	vocab = map[string]int{}
	for id, text := range fixtureSpellings() {
		vocab[text] = id
	}
	return vocab, []map[string]any{{"id": tokenCount, "content": "<|endoftext|>"}}
}

func tokenizerJSON(vocab, added any) []byte {
	data, err := json.Marshal(map[string]any{"model": map[string]any{"vocab": vocab}, "added_tokens": added})
	if err != nil {
		panic(err)
	}
	return data
}

// fixtureTokenizerJSON is made once: it has 50,000 tokens.
var fixtureTokenizerJSON = sync.OnceValue(func() []byte {
	vocab, added := fixtureTokenizer()
	return tokenizerJSON(vocab, added)
})

// saveVocabulary replaces the folder's tokenizer.json by one of the other files.
func saveVocabulary(t testing.TB, dir, name string, spellings []string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	data := []byte(strings.Join(spellings, "\n") + "\n")
	if strings.HasSuffix(name, ".json") {
		data, _ = json.Marshal(spellings)
	}
	put(t, filepath.Join(dir, name), data)
}
