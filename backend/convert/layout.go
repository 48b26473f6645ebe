package convert

import (
	"fmt"
	"slices"
	"strings"
)

// tensor is one tensor of the ggml file and where its data come from.
type tensor struct {
	name   string
	shape  []int // outermost first, as written
	single bool  // written as float32, else float16
	source variable
	skip   int64 // bytes of the source before this tensor's part of it
	model  *weights
}

func (t tensor) elements() int {
	n := 1
	for _, length := range t.shape {
		n *= length
	}
	return n
}

func (t tensor) bytes() int64 {
	if t.single {
		return int64(t.elements()) * 4
	}
	return int64(t.elements()) * 2
}

// layout lists the tensors of the ggml file in the order of the files that
// whisper.cpp publishes, which is that of OpenAI's checkpoints. It fails where a
// variable is missing or has another shape than whisper.cpp expects, and where
// the model has weights that the ggml file has no place for.
func layout(w *weights, d dimensions) ([]tensor, error) {
	p := &plan{model: w, used: map[string]bool{}}
	state := d.textState
	p.add("decoder.positional_embedding", "decoder/position_encodings/encodings", d.textContext, state)
	p.add("encoder.positional_embedding", "encoder/position_encodings/encodings", d.audioContext, state)
	p.add("decoder.token_embedding.weight", "decoder/embeddings/weight", d.vocabulary, state)
	for i := range d.textLayers {
		p.block("decoder", i, state)
	}
	p.norm("decoder.ln", "decoder/layer_norm", state)
	p.convolution("conv1", d.mels, state)
	p.convolution("conv2", state, state)
	for i := range d.audioLayers {
		p.block("encoder", i, state)
	}
	p.norm("encoder.ln_post", "encoder/layer_norm", state)
	if p.err != nil {
		return nil, p.err
	}
	return p.tensors, p.leftover()
}

// plan collects tensors and keeps the first error.
type plan struct {
	model   *weights
	tensors []tensor
	used    map[string]bool
	err     error
}

// block lists one transformer layer. Side is encoder or decoder.
func (p *plan) block(side string, i, state int) {
	to := fmt.Sprintf("%s.blocks.%d.", side, i)
	from := fmt.Sprintf("%s/layer_%d/", side, i)
	p.norm(to+"mlp_ln", from+"ffn/layer_norm", state)
	p.linear(to+"mlp.0", from+"ffn/linear_0", 0, 1, 4*state, state)
	p.linear(to+"mlp.2", from+"ffn/linear_1", 0, 1, state, 4*state)
	p.norm(to+"attn_ln", from+"self_attention/layer_norm", state)
	p.linear(to+"attn.query", from+"self_attention/linear_0", 0, 3, state, state)
	p.keys(to+"attn.key", from+"self_attention/linear_0", 1, 3, state)
	p.linear(to+"attn.value", from+"self_attention/linear_0", 2, 3, state, state)
	p.linear(to+"attn.out", from+"self_attention/linear_1", 0, 1, state, state)
	if side == "encoder" {
		return
	}
	p.norm(to+"cross_attn_ln", from+"attention/layer_norm", state)
	p.linear(to+"cross_attn.query", from+"attention/linear_0", 0, 1, state, state)
	p.keys(to+"cross_attn.key", from+"attention/linear_1", 0, 2, state)
	p.linear(to+"cross_attn.value", from+"attention/linear_1", 1, 2, state, state)
	p.linear(to+"cross_attn.out", from+"attention/linear_2", 0, 1, state, state)
}

func (p *plan) norm(to, from string, state int) {
	p.add(to+".weight", from+"/gamma", state)
	p.add(to+".bias", from+"/beta", state)
}

// linear lists part of parts of a linear layer: CTranslate2 stacks query, key
// and value of one attention into one matrix.
func (p *plan) linear(to, from string, part, parts, rows, columns int) {
	p.part(to+".weight", from+"/weight", part, parts, rows, columns)
	p.part(to+".bias", from+"/bias", part, parts, rows)
}

// keys lists a part without its bias, for which the ggml file has no place:
// whisper's is zero, and any other would shift all scores of a query alike,
// which softmax undoes.
func (p *plan) keys(to, from string, part, parts, state int) {
	p.part(to+".weight", from+"/weight", part, parts, state, state)
}

// convolution lists a convolution of width 3. Its bias is a column, because
// whisper.cpp adds it to a matrix of frames.
func (p *plan) convolution(name string, in, out int) {
	p.add("encoder."+name+".weight", "encoder/"+name+"/weight", out, in, 3)
	p.add("encoder."+name+".bias", "encoder/"+name+"/bias", out, 1)
}

func (p *plan) add(to, from string, shape ...int) { p.part(to, from, 0, 1, shape...) }

// part lists a tensor that is one of equal parts of a variable, counted along
// the outermost dimension.
func (p *plan) part(to, from string, part, parts int, shape ...int) {
	if p.err != nil {
		return
	}
	v, ok := p.model.lookup(from)
	if !ok {
		p.err = p.model.lacks(from)
		return
	}
	want := slices.Clone(shape)
	want[0] *= parts
	if strings.HasPrefix(from, "encoder/conv") && shape[len(shape)-1] == 1 {
		want = want[:1] // a column there, a plain row in the source
	}
	if !slices.Equal(v.shape, want) {
		p.err = p.model.misshapen(v, fmt.Sprint(want, " that was expected"))
		return
	}
	if v.kind != float16Type && v.kind != float32Type {
		p.err = fmt.Errorf("%s holds %q as %s: export it again with `ct2-transformers-converter --quantization float16`", p.model.path, v.name, v.kind)
		return
	}
	p.used[v.name] = true
	t := tensor{name: to, shape: shape, source: v, model: p.model, skip: v.bytes / int64(parts) * int64(part)}
	// whisper.cpp reads vectors, the biases of the convolutions and both
	// positional embeddings in float32, whatever the file's type of weights.
	t.single = len(want) == 1 || strings.HasSuffix(to, ".positional_embedding")
	p.tensors = append(p.tensors, t)
}

// leftover refuses floating-point arrays that no tensor was made of, such as an
// output projection that differs from the token embedding: leaving them out
// would give a model that loads and speaks nonsense.
func (p *plan) leftover() error {
	for _, v := range p.model.variables {
		if floats := v.kind == float16Type || v.kind == float32Type; floats && len(v.shape) > 0 && !p.used[v.name] {
			return fmt.Errorf("%s has weights %q that whisper.cpp has no place for: it is a model of another design", p.model.path, v.name)
		}
	}
	return nil
}
