package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/jfreymuth/vorbis"
)

// What is believed of a Vorbis header. Real encoders stay far below; beyond, the decoder's tables
// would take gigabytes or its loops for ever, neither of which can be recovered from.
const (
	vorbisChannelsMax   = 8
	vorbisDimensionsMax = 256
	vorbisEntriesMax    = 1 << 13 // of one codebook; the decoder's time grows with their square
	vorbisEntriesSum    = 1 << 16 // of all codebooks of a stream
	vorbisValuesSum     = 1 << 20
)

// A vorbisDecoder averages the channels of a Vorbis stream, or takes one of them.
type vorbisDecoder struct {
	side    side
	dec     vorbis.Decoder
	headers int
	pcm     []float32
}

func (d *vorbisDecoder) rate() int { return d.dec.SampleRate() }

// header takes the three header packets. The comments are left out: nobody reads them, and they are
// counted by numbers that may be anything.
func (d *vorbisDecoder) header(b []byte) (more bool, err error) {
	d.headers++
	switch d.headers {
	case 1:
		err = checkVorbisStart(b)
	case 2:
		return true, nil
	case 3:
		err = checkVorbisSetup(b)
	}
	if err == nil {
		err = d.dec.ReadHeader(b)
	}
	if err == nil && d.headers == 3 {
		d.pcm = make([]float32, d.dec.BufferSize())
	}
	return d.headers < 3, err
}

func (d *vorbisDecoder) decode(out []float32, b []byte) ([]float32, int64, error) {
	if len(b) == 0 {
		return out, 0, nil // a packet without a frame is legal (Vorbis I, 4.3.1)
	}
	pcm, err := d.dec.DecodeInto(b, d.pcm)
	if err != nil {
		return out, 0, err
	}
	ch := d.dec.Channels()
	n := int64(len(pcm) / ch)
	for ; len(pcm) >= ch; pcm = pcm[ch:] {
		out = append(out, d.side.of(pcm[:ch]))
	}
	return out, n, nil
}

var errVorbisHeader = errors.New("damaged Vorbis header")

// checkVorbisStart checks the identification header (Vorbis I, 4.2.2).
func checkVorbisStart(b []byte) error {
	if len(b) < 30 {
		return errVorbisHeader
	}
	if b[11] > vorbisChannelsMax {
		return fmt.Errorf("%w: Vorbis of %d channels", errForFFmpeg, b[11])
	}
	rate := binary.LittleEndian.Uint32(b[12:])
	short, long := b[28]&15, b[28]>>4
	if b[11] == 0 || rate < rateMin || rate > rateMax || short < 6 || short > long || long > 13 {
		return errVorbisHeader
	}
	return nil
}

// checkVorbisSetup walks the codebooks of the setup header (Vorbis I, 3.2.1) and refuses those that
// the decoder would not come back from.
func checkVorbisSetup(b []byte) error {
	if len(b) < 8 || string(b[:7]) != "\x05vorbis" {
		return errVorbisHeader
	}
	r := &bitReader{data: b[7:]}
	sum, values := 0, 0
	for range int(r.read(8)) + 1 {
		if r.read(24) != 0x564342 { // "BCV"
			return errVorbisHeader
		}
		dims, entries := int(r.read(16)), int(r.read(24))
		sum += entries
		if dims == 0 || dims > vorbisDimensionsMax || entries == 0 || entries > vorbisEntriesMax || sum > vorbisEntriesSum {
			return errVorbisHeader
		}
		// A codebook of one entry is legal, and more than the decoder can do.
		if entries == 1 {
			return fmt.Errorf("%w: Vorbis with a codebook of one entry", errForFFmpeg)
		}
		if !checkVorbisLengths(r, entries) {
			return errVorbisHeader
		}
		lookup := r.read(4)
		if lookup > 0 {
			values += dims * entries
		}
		if lookup > 2 || values > vorbisValuesSum {
			return errVorbisHeader
		}
		if lookup > 0 {
			r.skip(32 + 32)
			width := int(r.read(4)) + 1
			r.skip(1 + width*vorbisLookupValues(int(lookup), entries, dims))
		}
		if r.short {
			return errVorbisHeader
		}
	}
	return nil
}

// checkVorbisLengths reads the codeword lengths of a codebook; there must be at least one codeword, or
// the decoder would look for it for ever.
func checkVorbisLengths(r *bitReader, entries int) bool {
	if ordered := r.read(1) == 1; ordered {
		r.skip(5)
		for at := 0; at < entries; {
			n := int(r.read(bits.Len(uint(entries - at))))
			if n > entries-at || r.short {
				return false
			}
			at += n
		}
		return true
	}
	sparse := r.read(1) == 1
	used := 0
	for range entries {
		if !sparse || r.read(1) == 1 {
			r.skip(5)
			used++
		}
		if r.short {
			return false
		}
	}
	return used > 0
}

// vorbisLookupValues is how many multiplicands a codebook stores: for lookup type 1 the largest n with
// n^dims <= entries (Vorbis I, 9.2.3).
func vorbisLookupValues(lookup, entries, dims int) int {
	if lookup == 2 {
		return entries * dims
	}
	n := 1
	for power(n+1, dims, entries) <= entries {
		n++
	}
	return n
}

// power is base^exp, or some number above limit where it would be more than that.
func power(base, exp, limit int) int {
	p := 1
	for range exp {
		if p *= base; p > limit {
			break
		}
	}
	return p
}

// A bitReader reads Vorbis's bit packing: from the least significant bit of each byte on.
type bitReader struct {
	data  []byte
	bit   int
	short bool // more was read than there is
}

func (r *bitReader) read(n int) (v uint32) {
	for i := range n {
		if r.bit>>3 >= len(r.data) {
			r.short = true
			return v
		}
		v |= uint32(r.data[r.bit>>3]>>(r.bit&7)&1) << i
		r.bit++
	}
	return v
}

func (r *bitReader) skip(n int) {
	r.bit += n
	if r.bit > len(r.data)*8 {
		r.short = true
	}
}
