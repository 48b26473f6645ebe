package convert

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	ggmlMagic   = 0x67676d6c // "ggml"
	ggmlFloat16 = 1          // the file's type: matrices in float16
	tensorFloat = 0          // a tensor's type: float32
	tensorHalf  = 1          // float16
)

// chunkBytes is how much of a tensor is in memory at once. It is a multiple of
// every element's width.
const chunkBytes = 1 << 20

// ggmlFile is everything that goes into the file.
type ggmlFile struct {
	size    dimensions
	tokens  [][]byte
	tensors []tensor
}

// bytes is the length that the file will have.
func (f ggmlFile) bytes() int64 {
	n := int64(4 * (1 + 11)) // magic, dimensions
	n += 8 + int64(f.size.mels)*melBins*4
	n += 4
	for _, token := range f.tokens {
		n += 4 + int64(len(token))
	}
	for _, t := range f.tensors {
		n += 12 + 4*int64(len(t.shape)) + int64(len(t.name)) + t.bytes()
	}
	return n
}

// writeTo writes the file in the layout of whisper.cpp's models/: header, mel
// filters, vocabulary, tensors.
func (f ggmlFile) writeTo(to io.Writer) error {
	d := f.size
	head := integers(ggmlMagic, d.vocabulary,
		d.audioContext, d.audioState, d.audioHeads, d.audioLayers,
		d.textContext, d.textState, d.textHeads, d.textLayers,
		d.mels, ggmlFloat16,
		d.mels, melBins)
	head, err := binary.Append(head, binary.LittleEndian, melFilters(d.mels))
	if err != nil {
		return err
	}
	head = append(head, integers(len(f.tokens))...)
	for _, token := range f.tokens {
		head = append(head, integers(len(token))...)
		head = append(head, token...)
	}
	if _, err := to.Write(head); err != nil {
		return err
	}
	buffer := make([]byte, chunkBytes)
	for _, t := range f.tensors {
		if err := t.writeTo(to, buffer); err != nil {
			return err
		}
	}
	return nil
}

// writeTo writes the tensor's header and its data, one buffer at a time.
func (t tensor) writeTo(to io.Writer, buffer []byte) error {
	kind := tensorHalf
	if t.single {
		kind = tensorFloat
	}
	head := integers(len(t.shape), len(t.name), kind)
	for i := range t.shape {
		head = append(head, integers(t.shape[len(t.shape)-1-i])...) // innermost first
	}
	if _, err := to.Write(append(head, t.name...)); err != nil {
		return err
	}
	width := int64(t.source.kind.width())
	left := int64(t.elements()) * width
	offset := t.source.offset + t.skip
	var converted []byte
	for left > 0 {
		chunk := buffer[:min(left, int64(len(buffer)))]
		if _, err := t.model.file.ReadAt(chunk, offset); err != nil {
			return fmt.Errorf("%s: cannot read the variable %q: %w", t.model.path, t.source.name, err)
		}
		offset += int64(len(chunk))
		left -= int64(len(chunk))
		var err error
		if converted, err = t.convert(converted[:0], chunk); err != nil {
			return err
		}
		if _, err := to.Write(converted); err != nil {
			return err
		}
	}
	return nil
}

// convert appends the chunk to the buffer in the type that the tensor is
// written in.
func (t tensor) convert(to, chunk []byte) ([]byte, error) {
	switch {
	case t.source.kind == float32Type && !t.single:
		to, ok := appendHalves(to, chunk)
		if !ok {
			return nil, fmt.Errorf("%s has a number in %q that float16 cannot hold: whisper.cpp cannot run this model", t.model.path, t.source.name)
		}
		return to, nil
	case t.source.kind == float16Type && t.single:
		return appendSingles(to, chunk), nil
	}
	return append(to, chunk...), nil
}

// integers encodes numbers as ggml does, in 4 bytes each. All of them are
// lengths within a file whose variables have at most 4 GiB, or constants.
func integers(numbers ...int) []byte {
	data := make([]byte, 0, 4*len(numbers))
	for _, n := range numbers {
		data = binary.LittleEndian.AppendUint32(data, uint32(n))
	}
	return data
}

// progressWriter counts what goes through it.
type progressWriter struct {
	to          io.Writer
	done, total int64
	report      func(done, total int64)
}

func (w *progressWriter) Write(data []byte) (int, error) {
	n, err := w.to.Write(data)
	w.done += int64(n)
	if w.report != nil {
		w.report(w.done, w.total)
	}
	return n, err
}
