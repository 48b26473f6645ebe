package convert

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// refused converts and checks that it fails with one sentence that holds all of
// the words, and leaves no file behind.
func refused(t *testing.T, dir string, words ...string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "ggml.bin")
	err := Convert(dir, out, nil)
	if err == nil {
		t.Fatalf("it was converted, want an error with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
		t.Errorf("the error is no sentence: %v", err)
	}
	if left, _ := filepath.Glob(out + "*"); len(left) > 0 {
		t.Errorf("it left %v behind", left)
	}
}

// What is wrong inside a model.bin.
func TestConvertRefusesModels(t *testing.T) {
	set := func(name string, kind dataType) func(*testing.T, *fixture) {
		return func(t *testing.T, f *fixture) {
			a := f.array(t, name)
			elements := 1
			for _, n := range a.shape {
				elements *= n
			}
			a.kind, a.data = kind, make([]byte, elements*int(kind.width()))
		}
	}
	without := func(name string) func(*testing.T, *fixture) {
		return func(t *testing.T, f *fixture) { f.remove(t, name) }
	}
	for name, c := range map[string]struct {
		change func(*testing.T, *fixture)
		words  []string
	}{
		"another architecture": {func(_ *testing.T, f *fixture) { f.spec = "TransformerSpec" }, []string{"no whisper model", `"TransformerSpec"`}},
		"an old version":       {func(_ *testing.T, f *fixture) { f.version = 4 }, []string{"binary version 4", "version 6"}},
		"int8 weights":         {set("encoder/layer_0/ffn/linear_0/weight", int8Type), []string{"quantised to int8", "float16"}},
		"int16 weights":        {set("decoder/embeddings/weight", int16Type), []string{"quantised to int16", "float16"}},
		"bfloat16 weights":     {set("decoder/embeddings/weight", bfloat16Type), []string{"bfloat16", "float16"}},
		"bfloat16 norms":       {set("decoder/layer_norm/gamma", bfloat16Type), []string{"bfloat16", "decoder/layer_norm/gamma"}},
		"a scale": {func(t *testing.T, f *fixture) {
			set("encoder/layer_0/ffn/linear_0/weight", int8Type)(t, f)
			f.weight("encoder/layer_0/ffn/linear_0/weight_scale", 4*f.state)
		}, []string{"quantised to int8", "float16"}},
		"no tensor of a layer": {without("decoder/layer_0/attention/linear_2/bias"), []string{"lacks", "decoder/layer_0/attention/linear_2/bias"}},
		"no embeddings":        {without("decoder/embeddings/weight"), []string{"lacks", "decoder/embeddings/weight"}},
		"no layers": {func(_ *testing.T, f *fixture) {
			f.arrays = slices.DeleteFunc(f.arrays, func(a array) bool { return strings.HasPrefix(a.name, "encoder/layer_0/") })
		}, []string{"lacks", "encoder/layer_0/"}},
		"a layer missing in the middle": {func(_ *testing.T, f *fixture) {
			f.arrays = slices.DeleteFunc(f.arrays, func(a array) bool { return strings.HasPrefix(a.name, "decoder/layer_0/") })
		}, []string{"lacks", "decoder/layer_0/"}},
		"too many layers":         {func(_ *testing.T, f *fixture) { f.weight("encoder/layer_4000000/x", 1) }, []string{"layer_4000000", "at most"}},
		"another vocabulary":      {func(t *testing.T, f *fixture) { *f = *newFixture(51900, 80, 8, float16Type) }, []string{"vocabulary of 51900"}},
		"other mel bands":         {func(t *testing.T, f *fixture) { *f = *newFixture(vocabularyEnglish, 40, 8, float16Type) }, []string{"40 mel bands"}},
		"heads that don't fit":    {func(t *testing.T, f *fixture) { f.array(t, "decoder/num_heads").data = []byte{3, 0} }, []string{"decoder 8 wide", "3 attention heads"}},
		"negative heads":          {func(t *testing.T, f *fixture) { f.array(t, "encoder/num_heads").data = []byte{0xff, 0xff} }, []string{"-1 attention heads"}},
		"no heads and too narrow": {without("encoder/num_heads"), []string{"0 attention heads"}},
		"another shape": {func(t *testing.T, f *fixture) { f.array(t, "decoder/layer_1/ffn/linear_0/weight").shape = []int{8, 32} },
			[]string{"decoder/layer_1/ffn/linear_0/weight", "[8 32]", "[32 8]"}},
		"another rank": {func(t *testing.T, f *fixture) { f.array(t, "encoder/conv1/weight").shape = []int{8, 240} }, []string{"encoder/conv1/weight", "[8 240]"}},
		"unequal widths": {func(t *testing.T, f *fixture) {
			f.array(t, "decoder/position_encodings/encodings").shape = []int{12, 4}
		}, []string{"encoder 8 wide", "decoder 4 wide"}},
		"weights unknown": {func(_ *testing.T, f *fixture) {
			f.aliases = nil
			f.weight("decoder/projection/weight", vocabularyEnglish, 8)
		}, []string{"decoder/projection/weight", "no place"}},
		"a variable twice": {func(_ *testing.T, f *fixture) { f.weight("encoder/conv1/bias", 8) }, []string{"encoder/conv1/bias", "twice"}},
		"an alias to nothing": {func(t *testing.T, f *fixture) {
			f.remove(t, "encoder/conv1/bias")
			f.aliases = append(f.aliases, [2]string{"encoder/conv1/bias", "nothing"})
		}, []string{"lacks", "encoder/conv1/bias"}},
		"bytes after the end": {func(_ *testing.T, f *fixture) { f.tail = []byte("more") }, []string{"4 bytes after its end"}},
		"an unknown type":     {func(t *testing.T, f *fixture) { f.array(t, "encoder/conv1/bias").kind = 77 }, []string{"encoder/conv1/bias", "type 77"}},
		"a wrong length":      {func(t *testing.T, f *fixture) { f.array(t, "encoder/conv1/bias").data = make([]byte, 15) }, []string{"encoder/conv1/bias", "15 bytes for 8 elements"}},
		"a huge dimension":    {func(t *testing.T, f *fixture) { f.array(t, "encoder/conv1/bias").shape = []int{math.MaxUint32} }, []string{"encoder/conv1/bias", "16 bytes for 4294967295 elements"}},
		"a huge product": {func(t *testing.T, f *fixture) {
			f.array(t, "encoder/conv1/bias").shape = []int{1 << 16, 1 << 16, 1 << 16, 1 << 16}
		}, []string{"encoder/conv1/bias", "impossible size"}},
		"a zero dimension":            {func(t *testing.T, f *fixture) { a := f.array(t, "encoder/conv1/bias"); a.shape, a.data = []int{0}, nil }, []string{"encoder/conv1/bias", "impossible size"}},
		"too many dimensions":         {func(t *testing.T, f *fixture) { f.array(t, "encoder/conv1/bias").shape = make([]int, 200) }, []string{"encoder/conv1/bias", "200 dimensions"}},
		"no tokenizer":                {func(_ *testing.T, f *fixture) { f.tokenizer = nil }, []string{"tokenizer.json", "vocabulary.txt"}},
		"an empty tokenizer":          {func(_ *testing.T, f *fixture) { f.tokenizer = []byte("{}") }, []string{"tokenizer.json", "lacks token 0"}},
		"a tokenizer of another kind": {func(_ *testing.T, f *fixture) { f.tokenizer = tokenizerJSON([]string{"a"}, nil) }, []string{"tokenizer.json"}},
		"a token twice": {func(_ *testing.T, f *fixture) {
			vocab, added := fixtureTokenizer()
			vocab["again"] = 3
			f.tokenizer = tokenizerJSON(vocab, added)
		}, []string{"tokenizer.json", "token 3 is listed twice"}},
		"a token that isn't spelled": {func(_ *testing.T, f *fixture) {
			vocab, added := fixtureTokenizer()
			delete(vocab, "Hello")
			vocab["▁Hello"] = 0
			f.tokenizer = tokenizerJSON(vocab, added)
		}, []string{"token 0", "▁"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(vocabularyEnglish, 80, 8, float16Type)
			c.change(t, f)
			refused(t, f.save(t), c.words...)
		})
	}
}

// What is wrong with the folder.
func TestConvertRefusesFolders(t *testing.T) {
	with := func(name, content string) string {
		dir := t.TempDir()
		put(t, filepath.Join(dir, name), []byte(content))
		return dir
	}
	refused(t, filepath.Join(t.TempDir(), "nowhere"), "there is no folder", "nowhere")
	refused(t, t.TempDir(), "no model.bin")
	refused(t, with("model.safetensors", "x"), "Hugging Face", "model.safetensors", "ct2-transformers-converter")
	refused(t, with("pytorch_model.bin", "x"), "PyTorch", "pytorch_model.bin", "ct2-transformers-converter")
	refused(t, with("base.pt", "x"), "PyTorch", "base.pt")
	refused(t, with("whisper.gguf", "x"), "GGUF", "whisper.gguf")
	refused(t, with("model.bin", ""), "cut short", "0 bytes")
	refused(t, with("model.bin", "GGUF\x03\x00\x00\x00"), "GGUF")
	refused(t, with("model.bin", "lmgg\x98\xca\x00\x00"), "ggml file already")
	refused(t, with("model.bin", "PK\x03\x04 and so on"), "PyTorch")
	refused(t, with("model.bin", "\x80\x02\x8a\x0al\xfc\x9c\x46"), "PyTorch")
	refused(t, with("model.bin", "\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":{}}"), "safetensors")
	refused(t, with("model.bin", "version https://git-lfs.github.com/spec/v1\n"), "git lfs pull")
	refused(t, with("model.bin", "<html>not found</html>"), "binary version")
	refused(t, filepath.Join(with("ggml-base.bin", "lmgg\x98\xca\x00\x00"), "ggml-base.bin"), "ggml file already")
	refused(t, filepath.Join(with("notes.txt", "hello"), "notes.txt"), "is a file", "folder that holds model.bin")

	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "model.bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "no regular file")

	huge := newFixture(vocabularyEnglish, 80, 8, float16Type).save(t)
	if err := os.Truncate(filepath.Join(huge, "tokenizer.json"), vocabularyBytesMax+1); err != nil {
		t.Fatal(err)
	}
	refused(t, huge, "tokenizer.json", "2 to 3 MB")
}

// A file cut anywhere is told to be cut short, never taken for a whole one.
func TestConvertRefusesTruncation(t *testing.T) {
	f := newFixture(vocabularyEnglish, 80, 8, float16Type)
	whole := f.model()
	for length := range len(whole) {
		// All of the head and the tail, then every so often.
		if length > 1500 && length < len(whole)-1500 && length%4001 != 0 {
			continue
		}
		_, err := readModel(bytes.NewReader(whole[:length]), int64(length), "model.bin")
		if err == nil || !strings.Contains(err.Error(), "model.bin is cut short") {
			t.Fatalf("the first %d of %d bytes: %v", length, len(whole), err)
		}
	}
	dir := f.save(t)
	put(t, filepath.Join(dir, "model.bin"), whole[:len(whole)/2])
	refused(t, dir, "model.bin is cut short", "fetch it again")
}

// Numbers that float16 cannot hold would become infinite.
func TestConvertRefusesOverflow(t *testing.T) {
	for _, number := range []float32{65520, -1e30, float32(math.Inf(1)), float32(math.NaN())} {
		f := newFixture(vocabularyEnglish, 80, 8, float32Type)
		binary.Encode(f.array(t, "decoder/embeddings/weight").data[4000:], binary.LittleEndian, number)
		refused(t, f.save(t), "float16 cannot hold", "decoder/embeddings/weight")
	}
}

// An existing file may be anything, the model itself included.
func TestConvertKeepsExistingFiles(t *testing.T) {
	dir := newFixture(vocabularyEnglish, 80, 8, float16Type).save(t)
	for _, name := range []string{"model.bin", "precious"} {
		path := filepath.Join(dir, name)
		if name == "precious" {
			put(t, path, []byte("precious"))
		}
		before, _ := os.ReadFile(path)
		err := Convert(dir, path, nil)
		if err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(path); !slices.Equal(before, after) {
			t.Errorf("%s changed", name)
		}
	}
	if err := Convert(dir, filepath.Join(dir, "no", "such", "folder"), nil); err == nil || !strings.Contains(err.Error(), "cannot open") {
		t.Errorf("a folder that isn't there: %v", err)
	}
}

// A run that was killed leaves a part, which the next run replaces.
func TestConvertReplacesLeftover(t *testing.T) {
	dir := newFixture(vocabularyEnglish, 80, 8, float16Type).save(t)
	out := filepath.Join(t.TempDir(), "ggml.bin")
	put(t, out+".part", make([]byte, 9<<20))
	if err := Convert(dir, out, nil); err != nil {
		t.Fatal(err)
	}
	parse(t, out)
	if _, err := os.Stat(out + ".part"); !os.IsNotExist(err) {
		t.Errorf("the part is still there: %v", err)
	}
}

// FuzzReadModel feeds damaged tables of contents. Whatever comes, reading ends
// without a panic and without taking more memory than the file has bytes.
func FuzzReadModel(f *testing.F) {
	small := &fixture{version: 6, spec: "WhisperSpec", kind: float16Type, state: 2, random: newFixture(vocabularyEnglish, 80, 2, float16Type).random}
	small.setting("encoder/num_heads", int16Type, 2)
	small.weight("encoder/position_encodings/encodings", 3, 2)
	small.weight("decoder/position_encodings/encodings", 3, 2)
	small.weight("encoder/conv1/weight", 2, 80, 3)
	small.layer("encoder/layer_0")
	small.aliases = [][2]string{{"decoder/projection/weight", "decoder/embeddings/weight"}}
	f.Add(small.model())
	f.Add([]byte("\x06\x00\x00\x00\x0c\x00WhisperSpec\x00\x03\x00\x00\x00\xff\xff\xff\xff\x02\x00a\x00\x04\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := readModel(bytes.NewReader(data), int64(len(data)), "model.bin")
		if err != nil {
			return
		}
		for _, v := range w.variables {
			if v.offset < 0 || v.bytes < 0 || v.offset+v.bytes > int64(len(data)) {
				t.Fatalf("%q lies outside the file: %d bytes from %d of %d", v.name, v.bytes, v.offset, len(data))
			}
		}
		if size, err := measure(w); err == nil {
			_, _ = layout(w, size)
		}
	})
}

// FuzzTokens feeds damaged vocabularies.
func FuzzTokens(f *testing.F) {
	f.Add([]byte(`{"model":{"vocab":{"a":0,"b":-1,"c":9223372036854775807}},"added_tokens":[{"id":1,"content":"x"}]}`))
	f.Add([]byte(`["a","Ġb"]`))
	f.Add([]byte("a\nb\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func([]byte) (map[int]string, error){parseTokenizer, parseVocabularyList, parseVocabularyLines} {
			if table, err := parse(data); err == nil {
				_, _ = tokenBytes(table)
			}
		}
	})
}
