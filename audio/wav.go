package audio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// Codecs of WAV, as the fmt chunk numbers them (RFC 2361).
const (
	wavPCM        = 0x0001
	wavFloat      = 0x0003
	wavALaw       = 0x0006
	wavMuLaw      = 0x0007
	wavExtensible = 0xFFFE
)

// wavChunksMax is how many chunks are looked at for the fmt and data chunks.
const wavChunksMax = 200

// A wavFile is where the samples of a WAV lie and how they are stored.
type wavFile struct {
	codec    int
	channels int
	rate     int
	bits     int   // of one sample as stored
	byteRate int   // as claimed; only used for codecs that aren't decoded in Go
	fact     int64 // samples of each channel as claimed; likewise
	off, len int64
}

// readWAV reads the header of a RIFF, RF64 or BW64 file up to its data chunk.
func readWAV(s *source) (wavFile, error) {
	var w wavFile
	var size64 int64 = -1 // data size of a ds64 chunk (EBU Tech 3306)
	off := int64(12)
	for range wavChunksMax {
		h := s.peek(off, 8)
		if len(h) < 8 {
			break
		}
		id, size := string(h[:4]), int64(binary.LittleEndian.Uint32(h[4:]))
		body := off + 8
		switch id {
		case "ds64":
			if b := s.peek(body, 16); len(b) == 16 {
				size64 = int64(binary.LittleEndian.Uint64(b[8:]))
			}
		case "fmt ":
			if err := w.readFormat(s.peek(body, int(min(size, 40)))); err != nil {
				return w, err
			}
		case "fact":
			if b := s.peek(body, 4); len(b) == 4 {
				w.fact = int64(binary.LittleEndian.Uint32(b))
			}
		case "data":
			if w.rate == 0 {
				return w, fmt.Errorf("%w: this WAV has its samples before its format", ErrCorrupt)
			}
			return w, w.setData(s, body, size, size64)
		}
		off = body + size + size&1
	}
	return w, fmt.Errorf("%w: this WAV ends before its data chunk", ErrCorrupt)
}

func (w *wavFile) readFormat(b []byte) error {
	if len(b) < 16 {
		return fmt.Errorf("%w: this WAV's format chunk is too short", ErrCorrupt)
	}
	le := binary.LittleEndian
	w.codec = int(le.Uint16(b))
	w.channels = int(le.Uint16(b[2:]))
	w.rate = int(le.Uint32(b[4:]))
	w.byteRate = int(le.Uint32(b[8:]))
	align := int(le.Uint16(b[12:]))
	w.bits = int(le.Uint16(b[14:]))
	if w.codec == wavExtensible && len(b) >= 26 {
		w.codec = int(le.Uint16(b[24:])) // the first two bytes of the subformat's GUID
	}
	if w.channels < 1 || w.channels > channelsMax {
		return fmt.Errorf("%w: this WAV claims %d channels", ErrCorrupt, w.channels)
	}
	if w.rate < rateMin || w.rate > rateMax {
		return fmt.Errorf("%w: this WAV claims %d samples a second", ErrCorrupt, w.rate)
	}
	// 20 bits are stored in 24, and 24 may be stored in 32: the block size decides.
	if (w.codec == wavPCM || w.codec == wavFloat) && align > 0 && align%w.channels == 0 && align/w.channels*8 >= w.bits {
		w.bits = align / w.channels * 8
	}
	if w.codec == wavALaw || w.codec == wavMuLaw {
		w.bits = 8
	}
	ok := true
	switch w.codec {
	case wavPCM:
		ok = w.bits == 8 || w.bits == 16 || w.bits == 24 || w.bits == 32
	case wavFloat:
		ok = w.bits == 32 || w.bits == 64
	}
	if !ok {
		return fmt.Errorf("%w: this WAV claims samples of %d bits", ErrCorrupt, w.bits)
	}
	return nil
}

// setData trusts the chunk's size only as far as the file goes: recorders that write to a pipe leave
// 0 or 0xFFFFFFFF there.
func (w *wavFile) setData(s *source, off, size, size64 int64) error {
	if size == 0 || size == math.MaxUint32 {
		size = size64
	}
	w.off, w.len = off, max(0, s.size-off)
	if size > 0 {
		w.len = min(w.len, size)
	}
	if w.len < int64(w.frameBytes()) {
		return fmt.Errorf("%w: this WAV has no samples", ErrCorrupt)
	}
	return nil
}

// native reports that the codec is decoded here.
func (w *wavFile) native() bool {
	return w.codec == wavPCM || w.codec == wavFloat || w.codec == wavALaw || w.codec == wavMuLaw
}

// frameBytes is the size of one sample of all channels; 1 where codec is not known here.
func (w *wavFile) frameBytes() int {
	if !w.native() {
		return 1
	}
	return w.channels * w.bits / 8
}

func (w *wavFile) info() Info {
	i := Info{Format: WAV, SampleRate: w.rate, Channels: w.channels}
	switch {
	case w.native():
		i.Seconds = float64(w.len/int64(w.frameBytes())) / float64(w.rate)
	case w.fact > 0 && w.fact < math.MaxUint32:
		i.Seconds, i.Estimated = float64(w.fact)/float64(w.rate), true
	case w.byteRate > 0:
		i.Seconds, i.Estimated = float64(w.len)/float64(w.byteRate), true
	}
	return i
}

// decodeWAV uses the samples that are present, so a recording that was cut short is not lost.
func decodeWAV(s *source, k *sink) error {
	w, err := readWAV(s)
	if err != nil {
		return err
	}
	if !w.native() {
		return fmt.Errorf("%w: the WAV codec 0x%04x", errForFFmpeg, w.codec)
	}
	return w.decode(s, k)
}

func (w wavFile) decode(s *source, k *sink) error {
	if err := k.start(w.rate); err != nil {
		return err
	}
	frame := w.frameBytes()
	convert := wavSamples(w.codec, w.bits)
	chunk := make([]float32, 4096*w.channels)
	for w.len >= int64(frame) {
		b := s.peek(w.off, int(min(int64(4096*frame), w.len)))
		b = b[:len(b)/frame*frame]
		if len(b) == 0 {
			break
		}
		x := chunk[:len(b)/frame*w.channels]
		convert(x, b)
		w.off += int64(len(b))
		w.len -= int64(len(b))
		k.good++
		if err := k.interleaved(x, w.channels); err != nil {
			return err
		}
	}
	return nil
}

// wavSamples returns the conversion of stored samples to -1..1.
func wavSamples(codec, bits int) func(x []float32, b []byte) {
	le := binary.LittleEndian
	each := func(width int, f func(b []byte) float32) func([]float32, []byte) {
		return func(x []float32, b []byte) {
			for i := range x {
				x[i] = f(b[i*width:])
			}
		}
	}
	switch {
	case codec == wavALaw:
		return each(1, func(b []byte) float32 { return aLaw(b[0]) })
	case codec == wavMuLaw:
		return each(1, func(b []byte) float32 { return muLaw(b[0]) })
	case codec == wavFloat && bits == 32:
		return each(4, func(b []byte) float32 { return math.Float32frombits(le.Uint32(b)) })
	case codec == wavFloat:
		return each(8, func(b []byte) float32 { return float32(math.Float64frombits(le.Uint64(b))) })
	case bits == 8: // the only unsigned one
		return each(1, func(b []byte) float32 { return (float32(b[0]) - 128) / 128 })
	case bits == 16:
		return each(2, func(b []byte) float32 { return float32(int16(le.Uint16(b))) / (1 << 15) })
	case bits == 24:
		return each(3, func(b []byte) float32 {
			return float32(int32(b[0])<<8|int32(b[1])<<16|int32(b[2])<<24) / (1 << 31)
		})
	default:
		return each(4, func(b []byte) float32 { return float32(int32(le.Uint32(b))) / (1 << 31) })
	}
}

// aLaw expands a byte of ITU-T G.711's A-law: sign, exponent of 3 bits, mantissa of 4, every other
// bit turned over; 13 bits wide.
func aLaw(b byte) float32 {
	b ^= 0x55
	exp, mant := int(b>>4&7), int(b&15)
	v := mant<<1 + 1
	if exp > 0 {
		v = (v + 32) << (exp - 1)
	}
	if b&0x80 == 0 {
		v = -v
	}
	return float32(v) / (1 << 12)
}

// muLaw expands a byte of ITU-T G.711's mu-law: all bits turned over, biased by 33; 14 bits wide.
func muLaw(b byte) float32 {
	b = ^b
	v := (int(b&15)<<1+33)<<(b>>4&7) - 33
	if b&0x80 != 0 {
		v = -v
	}
	return float32(v) / (1 << 13)
}

// isWAV reports that a file begins as a WAV does.
func isWAV(head []byte) bool {
	return len(head) >= 12 && string(head[8:12]) == "WAVE" &&
		(bytes.HasPrefix(head, []byte("RIFF")) || bytes.HasPrefix(head, []byte("RF64")) || bytes.HasPrefix(head, []byte("BW64")))
}
