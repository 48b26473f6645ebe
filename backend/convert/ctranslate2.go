package convert

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// binaryVersion is the only layout of model.bin that is read: CTranslate2 has
// written it since version 3, so every folder made for faster-whisper has it.
const binaryVersion = 6

// rankMax bounds the dimensions of a variable. Whisper's convolutions have
// three.
const rankMax = 4

// dataType is CTranslate2's number for the type of a variable's elements.
type dataType uint8

const (
	float32Type  dataType = 0
	int8Type     dataType = 1
	int16Type    dataType = 2
	int32Type    dataType = 3
	float16Type  dataType = 4
	bfloat16Type dataType = 5
)

// width is the size of an element in bytes, 0 for a type that is not known.
func (t dataType) width() uint64 {
	switch t {
	case int8Type:
		return 1
	case int16Type, float16Type, bfloat16Type:
		return 2
	case float32Type, int32Type:
		return 4
	}
	return 0
}

func (t dataType) String() string {
	switch t {
	case float32Type:
		return "float32"
	case int8Type:
		return "int8"
	case int16Type:
		return "int16"
	case int32Type:
		return "int32"
	case float16Type:
		return "float16"
	case bfloat16Type:
		return "bfloat16"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// variable is one named array of model.bin; its data stay in the file.
//
// Invariant: the data lie inside the file and are as long as shape and kind ask.
type variable struct {
	name   string
	shape  []int // outermost first; empty for a scalar
	kind   dataType
	offset int64
	bytes  int64
}

// weights is the table of contents of a model.bin.
type weights struct {
	path      string
	file      io.ReaderAt
	variables []variable // in the file's order
	byName    map[string]int
	aliases   map[string]string // name to the name of the variable that holds its data
}

// lookup finds a variable by its name or by an alias: CTranslate2 writes equal
// arrays once and lists the other names.
func (w *weights) lookup(name string) (variable, bool) {
	if to, ok := w.aliases[name]; ok {
		name = to
	}
	at, ok := w.byName[name]
	if !ok {
		return variable{}, false
	}
	return w.variables[at], true
}

// scalar reads an integer variable without dimensions, such as num_heads.
func (w *weights) scalar(name string) (int, bool) {
	v, ok := w.lookup(name)
	if !ok || len(v.shape) != 0 {
		return 0, false
	}
	data := make([]byte, v.bytes)
	if _, err := w.file.ReadAt(data, v.offset); err != nil {
		return 0, false
	}
	switch v.kind {
	case int8Type:
		return int(int8(data[0])), true
	case int16Type:
		return int(int16(binary.LittleEndian.Uint16(data))), true
	case int32Type:
		return int(int32(binary.LittleEndian.Uint32(data))), true
	}
	return 0, false
}

// readModel reads the table of contents of a CTranslate2 model.bin of size bytes
// and refuses what is no whisper model, is quantised or is damaged. No length
// that the file claims is believed before it was compared with its size. path is
// for the errors.
func readModel(file io.ReaderAt, size int64, path string) (*weights, error) {
	if err := refuseForeign(file, path); err != nil {
		return nil, err
	}
	c := &cursor{file: file, size: size, path: path}
	c.seek(0)
	if version := c.uint32("its version"); c.err == nil && version != binaryVersion {
		return nil, fmt.Errorf("%s has binary version %d, where only CTranslate2's version %d is known: export the model again with a current ctranslate2", path, version, binaryVersion)
	}
	if spec := c.text("its kind of model"); c.err == nil && spec != "WhisperSpec" {
		return nil, fmt.Errorf("%s is no whisper model but a %q of CTranslate2", path, spec)
	}
	c.uint32("its revision") // of the specification; nothing that is read here changed with it
	w := &weights{path: path, file: file, byName: map[string]int{}, aliases: map[string]string{}}
	count := c.uint32("its count of variables")
	for i := uint32(0); i < count && c.err == nil; i++ {
		w.add(c, c.variable())
	}
	count = c.uint32("its count of aliases")
	for i := uint32(0); i < count && c.err == nil; i++ {
		alias, to := c.text("an alias"), c.text("an alias")
		w.aliases[alias] = to
	}
	if c.err == nil && c.offset != c.size {
		return nil, fmt.Errorf("%s goes on for %d bytes after its end: the file is damaged, fetch it again", path, c.size-c.offset)
	}
	if c.err != nil {
		return nil, c.err
	}
	return w, w.refuseQuantised()
}

func (w *weights) add(c *cursor, v variable) {
	if _, twice := w.byName[v.name]; twice && c.err == nil {
		c.err = fmt.Errorf("%s has the variable %q twice: the file is damaged, fetch it again", w.path, v.name)
	}
	w.byName[v.name] = len(w.variables)
	w.variables = append(w.variables, v)
}

// refuseQuantised tells of weights that are not floating point. Integers
// without dimensions are settings and are fine.
func (w *weights) refuseQuantised() error {
	for _, v := range w.variables {
		scaled := strings.HasSuffix(v.name, "/weight_scale")
		integers := len(v.shape) > 0 && strings.HasSuffix(v.name, "/weight") && v.kind != float32Type && v.kind != float16Type
		if !scaled && !integers {
			continue
		}
		kind := v.kind
		if quantised, ok := w.lookup(strings.TrimSuffix(v.name, "_scale")); ok {
			kind = quantised.kind
		}
		return fmt.Errorf("%s is quantised to %s, and only float16 and float32 can be converted: export it again with `ct2-transformers-converter --quantization float16`", w.path, kind)
	}
	return nil
}

// cursor reads the file from front to back and keeps the first error; after an
// error every read returns zero values.
type cursor struct {
	file   io.ReaderAt
	size   int64
	path   string
	offset int64
	buffer *bufio.Reader
	err    error
}

// seek goes on reading at the offset. Data are skipped, not read: that makes the
// table of a file of 3 GB readable in milliseconds.
func (c *cursor) seek(offset int64) {
	c.offset = offset
	rest := io.NewSectionReader(c.file, offset, c.size-offset)
	if c.buffer == nil {
		c.buffer = bufio.NewReaderSize(rest, 512)
		return
	}
	c.buffer.Reset(rest)
}

// read returns the next n bytes, n <= 65535 in all calls; what names them in
// the error.
func (c *cursor) read(n int, what string) []byte {
	data := make([]byte, n)
	if c.err != nil {
		return data
	}
	if _, err := io.ReadFull(c.buffer, data); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			c.truncated(what)
		} else {
			c.err = plain(err)
		}
	}
	c.offset += int64(n)
	return data
}

func (c *cursor) truncated(what string) {
	c.err = fmt.Errorf("%s is cut short: it ends after %d bytes, in the middle of %s, so fetch it again", c.path, c.size, what)
}

func (c *cursor) uint32(what string) uint32 { return binary.LittleEndian.Uint32(c.read(4, what)) }

// text reads a string: its length with the closing zero byte, then its bytes.
func (c *cursor) text(what string) string {
	length := binary.LittleEndian.Uint16(c.read(2, what))
	return strings.TrimSuffix(string(c.read(int(length), what)), "\x00")
}

// variable reads a variable's description and steps over its data.
func (c *cursor) variable() variable {
	v := variable{name: c.text("the name of a variable")}
	what := fmt.Sprintf("the variable %q", v.name)
	rank := c.read(1, what)[0]
	if rank > rankMax && c.err == nil {
		c.err = fmt.Errorf("%s gives %s %d dimensions: the file is damaged, fetch it again", c.path, what, rank)
		return v
	}
	elements := uint64(1)
	for range rank {
		length := uint64(c.uint32(what))
		elements *= length // below 2^64: both are below 2^32
		if c.err == nil && (elements == 0 || elements > math.MaxUint32) {
			c.err = fmt.Errorf("%s gives %s an impossible size: the file is damaged, fetch it again", c.path, what)
			return v
		}
		v.shape = append(v.shape, int(length))
	}
	v.kind = dataType(c.read(1, what)[0])
	v.bytes = int64(c.uint32(what))
	if c.err != nil {
		return v
	}
	if width := v.kind.width(); width == 0 || elements*width != uint64(v.bytes) {
		c.err = fmt.Errorf("%s gives %s %d bytes for %d elements of %s: the file is damaged, fetch it again", c.path, what, v.bytes, elements, v.kind)
		return v
	}
	v.offset = c.offset
	if v.bytes > c.size-c.offset {
		c.truncated(what)
		return v
	}
	c.seek(c.offset + v.bytes)
	return v
}
