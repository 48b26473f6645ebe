package whispercpp

import (
	"fmt"
	"io"
	"strings"
)

// ggmlTypes gives the elements and the bytes of a block for each way that ggml stores weights, by
// ggml's number for it.
var ggmlTypes = map[int]struct{ elements, bytes int64 }{
	0: {1, 4}, 1: {1, 2}, // f32, f16
	2: {32, 18}, 3: {32, 20}, 6: {32, 22}, 7: {32, 24}, 8: {32, 34}, // q4_0, q4_1, q5_0, q5_1, q8_0
	10: {256, 84}, 11: {256, 110}, 12: {256, 144}, 13: {256, 176}, 14: {256, 210}, // q2_k to q6_k
}

// tensorShapes lists every weight that whisper.cpp will want of the model, with its dimensions.
func tensorShapes(m Model) map[string][3]int64 {
	state := int64(m.AudioState)
	shapes := map[string][3]int64{
		"encoder.positional_embedding":   {state, int64(m.AudioCtx), 1},
		"encoder.conv1.weight":           {3, int64(m.Mels), state},
		"encoder.conv1.bias":             {1, state, 1},
		"encoder.conv2.weight":           {3, state, state},
		"encoder.conv2.bias":             {1, state, 1},
		"encoder.ln_post.weight":         {state, 1, 1},
		"encoder.ln_post.bias":           {state, 1, 1},
		"decoder.positional_embedding":   {state, int64(m.TextCtx), 1},
		"decoder.token_embedding.weight": {state, int64(m.Vocab), 1},
		"decoder.ln.weight":              {state, 1, 1},
		"decoder.ln.bias":                {state, 1, 1},
	}
	vector, square := [3]int64{state, 1, 1}, [3]int64{state, state, 1}
	block := func(prefix string, attentions ...string) {
		for _, attention := range attentions {
			shapes[prefix+attention+"_ln.weight"] = vector
			shapes[prefix+attention+"_ln.bias"] = vector
			for _, part := range []string{"query", "key", "value", "out"} {
				shapes[prefix+attention+"."+part+".weight"] = square
				if part != "key" { // whisper's keys have no bias
					shapes[prefix+attention+"."+part+".bias"] = vector
				}
			}
		}
		shapes[prefix+"mlp_ln.weight"] = vector
		shapes[prefix+"mlp_ln.bias"] = vector
		shapes[prefix+"mlp.0.weight"] = [3]int64{state, 4 * state, 1}
		shapes[prefix+"mlp.0.bias"] = [3]int64{4 * state, 1, 1}
		shapes[prefix+"mlp.2.weight"] = [3]int64{4 * state, state, 1}
		shapes[prefix+"mlp.2.bias"] = vector
	}
	for i := range m.AudioLayers {
		block(fmt.Sprintf("encoder.blocks.%d.", i), "attn")
	}
	for i := range m.TextLayers {
		block(fmt.Sprintf("decoder.blocks.%d.", i), "attn", "cross_attn")
	}
	return shapes
}

// tensors checks that every weight is there once, in its shape and to its last byte.
func (r *modelReader) tensors(m Model) error {
	wanted := tensorShapes(m)
	total := len(wanted)
	if r.at == r.size {
		return fmt.Errorf("it has no weights; it is a stub made for tests")
	}
	for r.at < r.size {
		name, shape, bytes, err := r.tensorHeader()
		if err != nil {
			return err
		}
		want, known := wanted[name]
		switch {
		case !known:
			return fmt.Errorf("it has a weight %q, which whisper does not know or which is there twice", strings.ToValidUTF8(name, "?"))
		case shape != want:
			return fmt.Errorf("its weight %s is %v, but its header makes it %v", name, shape, want)
		}
		delete(wanted, name)
		if err := r.skip(bytes); err != nil {
			return err
		}
	}
	if len(wanted) > 0 {
		return fmt.Errorf("%w: %d of %d weights are missing", io.ErrUnexpectedEOF, len(wanted), total)
	}
	return nil
}

// tensorHeader reads one weight's name and shape and tells how many bytes it takes.
func (r *modelReader) tensorHeader() (name string, shape [3]int64, bytes int64, err error) {
	var rank, length, kind int
	if err = r.int32s(&rank, &length, &kind); err != nil {
		return
	}
	block, known := ggmlTypes[kind]
	if rank < 1 || rank > 3 || length < 1 || length > 256 || !known {
		err = fmt.Errorf("a weight has rank %d, a name of %d bytes and type %d; the file is damaged", rank, length, kind)
		return
	}
	shape = [3]int64{1, 1, 1}
	elements := int64(1)
	for i := range rank {
		dimension := 0
		if err = r.int32s(&dimension); err != nil {
			return
		}
		if dimension < 1 || dimension > 1<<20 {
			err = fmt.Errorf("a weight has a dimension of %d; the file is damaged", dimension)
			return
		}
		shape[i] = int64(dimension)
		elements *= int64(dimension)
	}
	if elements%block.elements != 0 {
		err = fmt.Errorf("a weight of %d elements is stored in blocks of %d; the file is damaged", elements, block.elements)
		return
	}
	raw := make([]byte, length)
	if err = r.bytes(raw); err != nil {
		return
	}
	return string(raw), shape, elements / block.elements * block.bytes, nil
}
