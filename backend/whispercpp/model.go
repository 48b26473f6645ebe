package whispercpp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Model is what a model file's header says.
type Model struct {
	Vocab       int // tokens: 51864 is English only, 51865 has 99 languages, 51866 has 100
	AudioCtx    int // encoder positions, 50 a second
	AudioState  int // width
	AudioHeads  int
	AudioLayers int
	TextCtx     int // decoder positions
	TextHeads   int
	TextLayers  int
	Mels        int // mel bands: 80, large-v3 has 128
	Ftype       int // how the weights are stored, ggml's number; quantisation version included
}

// Multilingual tells whether the model knows languages other than English.
func (m Model) Multilingual() bool { return m.Vocab > englishVocab }

// Languages is how many languages the model knows.
func (m Model) Languages() int {
	if !m.Multilingual() {
		return 1
	}
	return m.Vocab - englishVocab + 98
}

// SlotBytes estimates what a slot takes for so many beams or candidates: the keys and values of the
// decoder's own attention, for each of them, and of the attention to the audio, at 16 bits however the
// weights are stored, and the buffers of the computation, which whisper.cpp's logs put at some 320 kB for
// each unit of the model's width.
func (m Model) SlotBytes(decoders int) int64 {
	const textCtx, audioCtx, bufferPerWidth = 512, 1536, 320 << 10 // contexts padded to 256
	perPosition := int64(2 * 2 * m.TextLayers * m.AudioState)
	return perPosition*(textCtx*int64(decoders+2)+audioCtx) + bufferPerWidth*int64(m.AudioState)
}

// Vocabulary sizes that whisper.cpp derives the special tokens' ids from; any other makes it read
// out of bounds.
const (
	englishVocab = 51864
	largestVocab = 51866
)

const ggmlMagic = 0x67676d6c // "ggml", little-endian

// CheckModel walks a ggml file from end to end, weights skipped, and returns its header. whisper.cpp
// itself takes lengths from the file on trust, ignores a missing end and builds a model without
// weights; so everything that loading relies on is checked here. The error is one sentence.
func CheckModel(path string) (Model, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Model{}, fmt.Errorf("there is no model file %s: get one with `make model`, or name another", path)
	case err != nil:
		return Model{}, fmt.Errorf("cannot read the model file: %w", err)
	case info.IsDir():
		return Model{}, fmt.Errorf("%s is a folder, not a ggml model file; a faster-whisper folder becomes one with `whisper-backend convert DIR OUT`", path)
	case !info.Mode().IsRegular():
		return Model{}, fmt.Errorf("%s is not a regular file, so no model can be read from it", path)
	case info.Size() == 0:
		return Model{}, fmt.Errorf("the model file %s is empty: fetch it again", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return Model{}, fmt.Errorf("cannot read the model file: %w", err)
	}
	defer file.Close()
	r := &modelReader{file: file, buffer: bufio.NewReaderSize(file, 1<<16), size: info.Size()}
	m, err := r.walk()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Model{}, fmt.Errorf("the model file %s is cut short: it ends within its %s, at %d bytes; fetch it again", path, r.part, info.Size())
	case err != nil:
		return Model{}, fmt.Errorf("%s is no model that whisper.cpp can load: %w", path, err)
	}
	return m, nil
}

// modelReader reads a ggml file piece by piece; part says in words where it is.
type modelReader struct {
	file   *os.File
	buffer *bufio.Reader
	size   int64
	at     int64
	part   string
}

func (r *modelReader) walk() (Model, error) {
	r.part = "header"
	if err := r.checkMagic(); err != nil {
		return Model{}, err
	}
	m, err := r.hyperparameters()
	if err != nil {
		return Model{}, err
	}
	r.part = "mel filters"
	if err := r.melFilters(m); err != nil {
		return Model{}, err
	}
	r.part = "vocabulary"
	if err := r.vocabulary(m); err != nil {
		return Model{}, err
	}
	r.part = "weights"
	return m, r.tensors(m)
}

func (r *modelReader) int32() (int32, error) {
	var raw [4]byte
	if err := r.bytes(raw[:]); err != nil {
		return 0, err
	}
	return int32(binary.LittleEndian.Uint32(raw[:])), nil
}

func (r *modelReader) int32s(into ...*int) error {
	for _, p := range into {
		v, err := r.int32()
		if err != nil {
			return err
		}
		*p = int(v)
	}
	return nil
}

func (r *modelReader) bytes(b []byte) error {
	n, err := io.ReadFull(r.buffer, b)
	r.at += int64(n)
	return err
}

// skip passes over n bytes, which must be there: a seek alone would not notice a missing end.
func (r *modelReader) skip(n int64) error {
	if n > r.size-r.at {
		return io.ErrUnexpectedEOF
	}
	r.at += n
	if n <= int64(r.buffer.Buffered()) {
		_, err := r.buffer.Discard(int(n))
		return err
	}
	if _, err := r.file.Seek(r.at, io.SeekStart); err != nil {
		return err
	}
	r.buffer.Reset(r.file)
	return nil
}

// checkMagic recognises what people have in a model's place and says what it is.
func (r *modelReader) checkMagic() error {
	head, _ := r.buffer.Peek(32)
	if len(head) >= 4 && binary.LittleEndian.Uint32(head) == ggmlMagic {
		return r.skip(4)
	}
	text := strings.ToLower(strings.TrimSpace(string(head)))
	switch {
	case strings.HasPrefix(string(head), "GGUF"):
		return errors.New("it is a GGUF file, the format of llama.cpp; whisper.cpp wants a ggml file such as ggml-base.bin")
	case strings.HasPrefix(string(head), "PK\x03\x04"):
		return errors.New("it is a zip file, as PyTorch's .pt files are; fetch the ggml file of the same model, such as ggml-base.bin")
	case strings.HasPrefix(text, "<"):
		return errors.New("it is a web page, probably an error that was saved instead of the download; fetch it again")
	case strings.HasPrefix(text, "version https://git-lfs"):
		return errors.New("it is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
	case len(head) > 8 && head[8] == '{' && binary.LittleEndian.Uint64(head) < 1<<32:
		return errors.New("it is a safetensors file; fetch the ggml file of the same model, such as ggml-base.bin")
	case strings.Contains(string(head), "WhisperSpec"):
		return errors.New("it is a faster-whisper (CTranslate2) model; turn its folder into a ggml file with `whisper-backend convert DIR OUT`")
	}
	return errors.New("it does not start as a ggml file does")
}

func (r *modelReader) hyperparameters() (Model, error) {
	var m Model
	textState := 0
	err := r.int32s(&m.Vocab, &m.AudioCtx, &m.AudioState, &m.AudioHeads, &m.AudioLayers,
		&m.TextCtx, &textState, &m.TextHeads, &m.TextLayers, &m.Mels, &m.Ftype)
	if err != nil {
		return m, err
	}
	within := func(v, low, high int) bool { return v >= low && v <= high }
	switch {
	case !within(m.Vocab, englishVocab, largestVocab):
		return m, fmt.Errorf("its vocabulary has %d tokens, whisper's have %d to %d; it may be a voice activity model", m.Vocab, englishVocab, largestVocab)
	case m.AudioCtx != 1500 || !within(m.TextCtx, 16, 448):
		return m, fmt.Errorf("its contexts are %d and %d positions, whisper's are 1500 and 448", m.AudioCtx, m.TextCtx)
	case !within(m.AudioState, 1, 8192) || textState != m.AudioState,
		!within(m.AudioHeads, 1, m.AudioState) || m.AudioState%m.AudioHeads != 0,
		!within(m.TextHeads, 1, m.AudioState) || m.AudioState%m.TextHeads != 0,
		!within(m.AudioLayers, 1, 128), !within(m.TextLayers, 1, 128):
		return m, errors.New("its layers have sizes that no whisper model has; the file is damaged")
	case m.Mels != 80 && m.Mels != 128:
		return m, fmt.Errorf("it wants %d mel bands, whisper's models have 80 or 128", m.Mels)
	}
	return m, nil
}

// spectrumSize is the bins of whisper's 400-point spectrum, which whisper.cpp counts on.
const spectrumSize = 201

func (r *modelReader) melFilters(m Model) error {
	var bands, bins int
	if err := r.int32s(&bands, &bins); err != nil {
		return err
	}
	if bands != m.Mels || bins != spectrumSize {
		return fmt.Errorf("its mel filters are %d by %d, it needs %d by %d", bands, bins, m.Mels, spectrumSize)
	}
	return r.skip(4 * int64(bands) * int64(bins))
}

// neededTokens are looked up by whisper.cpp without asking whether they are there.
var neededTokens = []string{" ", " -", " '"}

func (r *modelReader) vocabulary(m Model) error {
	count := 0
	if err := r.int32s(&count); err != nil {
		return err
	}
	if count < 256 || count > m.Vocab {
		return fmt.Errorf("it lists %d tokens, which does not go with a vocabulary of %d", count, m.Vocab)
	}
	missing := make(map[string]bool, len(neededTokens))
	for _, token := range neededTokens {
		missing[token] = true
	}
	text := make([]byte, 0, 256)
	for range count {
		length := 0
		if err := r.int32s(&length); err != nil {
			return err
		}
		if length < 0 || length > 1<<16 {
			return fmt.Errorf("one of its tokens is %d bytes long; the file is damaged", length)
		}
		text = append(text[:0], make([]byte, length)...)
		if err := r.bytes(text); err != nil {
			return err
		}
		delete(missing, string(text))
	}
	for _, token := range neededTokens {
		if missing[token] {
			return fmt.Errorf("its vocabulary lacks the token %q", token)
		}
	}
	return nil
}
