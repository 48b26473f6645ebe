package convert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// parsed is a ggml file read back.
type parsed struct {
	header  [11]int32
	filters []float32
	tokens  []string
	names   []string
	tensors map[string]parsedTensor
}

type parsedTensor struct {
	shape   []int32 // innermost first, as in the file
	kind    int32
	numbers []float32
}

// parse reads a ggml file and fails on anything odd, trailing bytes included.
func parse(t *testing.T, path string) parsed {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in := bytes.NewReader(data)
	read := func(to any) {
		t.Helper()
		if err := binary.Read(in, binary.LittleEndian, to); err != nil {
			t.Fatalf("%s after %d bytes: %v", path, len(data)-in.Len(), err)
		}
	}
	number := func() int32 { var n int32; read(&n); return n }
	text := func(n int32) string { s := make([]byte, n); read(s); return string(s) }

	p := parsed{tensors: map[string]parsedTensor{}}
	if magic := number(); magic != 0x67676d6c {
		t.Fatalf("magic %#x", magic)
	}
	read(&p.header)
	p.filters = make([]float32, number()*number())
	read(p.filters)
	for range number() {
		p.tokens = append(p.tokens, text(number()))
	}
	for in.Len() > 0 {
		rank, length, kind := number(), number(), number()
		tensor := parsedTensor{shape: make([]int32, rank), kind: kind}
		read(tensor.shape)
		name := text(length)
		elements := int32(1)
		for _, n := range tensor.shape {
			elements *= n
		}
		if kind == tensorFloat {
			tensor.numbers = make([]float32, elements)
			read(tensor.numbers)
		} else {
			halves := make([]uint16, elements)
			read(halves)
			for _, half := range halves {
				tensor.numbers = append(tensor.numbers, singleOf(half))
			}
		}
		p.names = append(p.names, name)
		p.tensors[name] = tensor
	}
	return p
}

func TestConvert(t *testing.T) {
	for _, c := range []struct {
		vocabulary, mels int
		kind             dataType
	}{
		{vocabularyEnglish, 80, float16Type},
		{vocabularyMultilingual, 80, float32Type},
		{vocabularyLargeV3, 128, float16Type},
	} {
		t.Run(fmt.Sprint(c.vocabulary, c.kind), func(t *testing.T) {
			const state = 8
			f := newFixture(c.vocabulary, c.mels, state, c.kind)
			out := filepath.Join(t.TempDir(), "ggml.bin")
			var last, total int64
			err := Convert(f.save(t), out, func(done, all int64) {
				if done < last || done > all {
					t.Errorf("progress went from %d to %d of %d", last, done, all)
				}
				last, total = done, all
			})
			if err != nil {
				t.Fatal(err)
			}
			if info, _ := os.Stat(out); last != total || info.Size() != total {
				t.Errorf("progress ended at %d of %d, the file has %d bytes", last, total, info.Size())
			}
			p := parse(t, out)
			want := [11]int32{int32(c.vocabulary),
				fixtureAudioContext, state, fixtureHeads, fixtureAudioLayers,
				fixtureTextContext, state, fixtureHeads, fixtureTextLayers, int32(c.mels), 1}
			if p.header != want {
				t.Errorf("header %v, want %v", p.header, want)
			}
			if !slices.Equal(p.filters, melFilters(c.mels)) {
				t.Error("the filters are not those of melFilters")
			}
			if len(p.tokens) != 50257 || !slices.Equal(p.tokens[:len(fixtureTokens)], fixtureTokens) {
				t.Errorf("%d tokens, the first %q", len(p.tokens), p.tokens[:len(fixtureTokens)])
			}
			checkTensors(t, f, p, state)
		})
	}
}

// checkTensors compares every tensor with the numbers that the fixture put into
// the variable, or the part of it, that models.md's table names.
func checkTensors(t *testing.T, f *fixture, p parsed, state int) {
	t.Helper()
	vectors := 0
	seen := 0
	check := func(name, source string, part, parts int) {
		t.Helper()
		seen++
		tensor, ok := p.tensors[name]
		if !ok {
			t.Errorf("there is no %s", name)
			return
		}
		a := f.array(t, source)
		shape := slices.Clone(a.shape)
		shape[0] /= parts
		slices.Reverse(shape)
		column := source == "encoder/conv1/bias" || source == "encoder/conv2/bias"
		if column {
			shape = []int{1, state}
		}
		if fmt.Sprint(tensor.shape) != fmt.Sprint(shape) {
			t.Errorf("%s has the shape %v, want %v", name, tensor.shape, shape)
		}
		kind := int32(tensorHalf)
		if len(shape) == 1 || column || strings.HasSuffix(name, "positional_embedding") {
			kind = tensorFloat
		}
		if len(shape) == 1 {
			vectors++
		}
		if tensor.kind != kind {
			t.Errorf("%s has type %d, want %d", name, tensor.kind, kind)
		}
		for i, got := range tensor.numbers {
			if want := a.number(part*len(tensor.numbers) + i); got != want {
				t.Errorf("%s[%d] is %v, want %v of %s", name, i, got, want, source)
				return
			}
		}
	}
	both := func(name, source string, part, parts int) {
		t.Helper()
		check(name+".weight", source+"/weight", part, parts)
		check(name+".bias", source+"/bias", part, parts)
	}
	norm := func(name, source string) {
		t.Helper()
		check(name+".weight", source+"/gamma", 0, 1)
		check(name+".bias", source+"/beta", 0, 1)
	}
	check("decoder.positional_embedding", "decoder/position_encodings/encodings", 0, 1)
	check("encoder.positional_embedding", "encoder/position_encodings/encodings", 0, 1)
	check("decoder.token_embedding.weight", "decoder/embeddings/weight", 0, 1)
	both("encoder.conv1", "encoder/conv1", 0, 1)
	both("encoder.conv2", "encoder/conv2", 0, 1)
	norm("encoder.ln_post", "encoder/layer_norm")
	norm("decoder.ln", "decoder/layer_norm")
	for _, side := range []string{"encoder", "decoder"} {
		layers := fixtureAudioLayers
		if side == "decoder" {
			layers = fixtureTextLayers
		}
		for i := range layers {
			to, from := fmt.Sprintf("%s.blocks.%d.", side, i), fmt.Sprintf("%s/layer_%d/", side, i)
			norm(to+"attn_ln", from+"self_attention/layer_norm")
			both(to+"attn.query", from+"self_attention/linear_0", 0, 3)
			check(to+"attn.key.weight", from+"self_attention/linear_0/weight", 1, 3)
			both(to+"attn.value", from+"self_attention/linear_0", 2, 3)
			both(to+"attn.out", from+"self_attention/linear_1", 0, 1)
			norm(to+"mlp_ln", from+"ffn/layer_norm")
			both(to+"mlp.0", from+"ffn/linear_0", 0, 1)
			both(to+"mlp.2", from+"ffn/linear_1", 0, 1)
			if side == "decoder" {
				norm(to+"cross_attn_ln", from+"attention/layer_norm")
				both(to+"cross_attn.query", from+"attention/linear_0", 0, 1)
				check(to+"cross_attn.key.weight", from+"attention/linear_1/weight", 0, 2)
				both(to+"cross_attn.value", from+"attention/linear_1", 1, 2)
				both(to+"cross_attn.out", from+"attention/linear_2", 0, 1)
			}
		}
	}
	if seen != len(p.tensors) || seen != len(p.names) || vectors == 0 {
		t.Errorf("the file has %d tensors under %d names, want %d", len(p.names), len(p.tensors), seen)
	}
}

// The order of the published files; with it the converted base and tiny.en are
// the published files to the last byte, which scripts/model.sh checks.
func TestConvertKeepsThePublishedOrder(t *testing.T) {
	f := newFixture(vocabularyEnglish, 80, 8, float16Type)
	out := filepath.Join(t.TempDir(), "ggml.bin")
	if err := Convert(f.save(t), out, nil); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(parse(t, out).names, " ")
	for _, run := range []string{
		"decoder.positional_embedding encoder.positional_embedding decoder.token_embedding.weight decoder.blocks.0.mlp_ln.weight decoder.blocks.0.mlp_ln.bias decoder.blocks.0.mlp.0.weight",
		"decoder.blocks.0.mlp.2.bias decoder.blocks.0.attn_ln.weight decoder.blocks.0.attn_ln.bias decoder.blocks.0.attn.query.weight decoder.blocks.0.attn.query.bias decoder.blocks.0.attn.key.weight decoder.blocks.0.attn.value.weight",
		"decoder.blocks.0.attn.out.bias decoder.blocks.0.cross_attn_ln.weight",
		"decoder.blocks.0.cross_attn.out.bias decoder.blocks.1.mlp_ln.weight",
		"decoder.blocks.1.cross_attn.out.bias decoder.ln.weight decoder.ln.bias encoder.conv1.weight encoder.conv1.bias encoder.conv2.weight encoder.conv2.bias encoder.blocks.0.mlp_ln.weight",
		"encoder.blocks.0.attn.out.bias encoder.ln_post.weight encoder.ln_post.bias",
	} {
		if !strings.Contains(got, run) {
			t.Errorf("the tensors are not in the order\n%s\nbut\n%s", run, got)
		}
	}
}

// CTranslate2 writes equal arrays once and aliases the others.
func TestConvertFollowsAliases(t *testing.T) {
	f := newFixture(vocabularyEnglish, 80, 8, float16Type)
	f.remove(t, "encoder/layer_norm/beta")
	f.aliases = append(f.aliases, [2]string{"encoder/layer_norm/beta", "decoder/layer_norm/beta"})
	out := filepath.Join(t.TempDir(), "ggml.bin")
	if err := Convert(f.save(t), out, nil); err != nil {
		t.Fatal(err)
	}
	p := parse(t, out)
	if !slices.Equal(p.tensors["encoder.ln_post.bias"].numbers, p.tensors["decoder.ln.bias"].numbers) {
		t.Error("the alias has other numbers than what it stands for")
	}
}

// Exports without num_heads have 64 numbers a head.
func TestConvertCountsHeadsByWidth(t *testing.T) {
	f := newFixture(vocabularyEnglish, 80, 128, float16Type)
	f.remove(t, "encoder/num_heads")
	f.remove(t, "decoder/num_heads")
	out := filepath.Join(t.TempDir(), "ggml.bin")
	if err := Convert(f.save(t), out, nil); err != nil {
		t.Fatal(err)
	}
	if p := parse(t, out); p.header[3] != 2 || p.header[7] != 2 {
		t.Errorf("%d and %d heads, want 2 and 2", p.header[3], p.header[7])
	}
}

// Memory must not grow with the model: the second is 13 MB larger.
func TestConvertStreams(t *testing.T) {
	allocated := func(state int) uint64 {
		dir := newFixture(vocabularyEnglish, 80, state, float16Type).save(t)
		out := filepath.Join(t.TempDir(), "ggml.bin")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := Convert(dir, out, nil); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := allocated(16), allocated(144)
	if large > small+4*chunkBytes {
		t.Errorf("a small model took %d bytes of memory in all, a large one %d", small, large)
	}
}

func TestConvertReadsEveryVocabularyFile(t *testing.T) {
	spellings := fixtureSpellings()
	for _, name := range []string{"vocabulary.json", "vocabulary.txt"} {
		dir := newFixture(vocabularyMultilingual, 80, 8, float16Type).save(t)
		saveVocabulary(t, dir, name, append(slices.Clone(spellings), "<|endoftext|>", "<|en|>"))
		out := filepath.Join(t.TempDir(), "ggml.bin")
		if err := Convert(dir, out, nil); err != nil {
			t.Fatal(err)
		}
		p := parse(t, out)
		if len(p.tokens) != tokenCount || !slices.Equal(p.tokens[:len(fixtureTokens)], fixtureTokens) {
			t.Errorf("%s: %d tokens, the first %q", name, len(p.tokens), p.tokens[:len(fixtureTokens)])
		}
	}
}

// An English vocabulary may list its end of text as an added token only.
func TestTokensFromAdded(t *testing.T) {
	vocab, _ := fixtureTokenizer()
	delete(vocab, "") // the last of them
	f := newFixture(vocabularyEnglish, 80, 8, float16Type)
	f.tokenizer = tokenizerJSON(vocab, []map[string]any{{"id": tokenCount - 1, "content": "<|endoftext|>"}})
	out := filepath.Join(t.TempDir(), "ggml.bin")
	if err := Convert(f.save(t), out, nil); err != nil {
		t.Fatal(err)
	}
	if last := parse(t, out).tokens[tokenCount-1]; last != "<|endoftext|>" {
		t.Errorf("the last token is %q", last)
	}
}
