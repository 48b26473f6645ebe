package audio

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// flacBlocksMax is how many metadata blocks are stepped over on the way to the first frame.
const flacBlocksMax = 128

// flacRetriesMax is how many wrong sync codes in a row are tried before the rest of a damaged file is
// given up: each may cost a whole frame's parsing.
const flacRetriesMax = 64

// A flacFile is what STREAMINFO says (RFC 9639, 8.2).
type flacFile struct {
	rate, channels, bits int
	total                int64 // samples of each channel; 0 when unknown
	frames               int64 // offset of the first frame
}

// readFLAC reads the metadata of the FLAC file that begins at off.
func readFLAC(s *source, off int64) (flacFile, error) {
	var f flacFile
	at := off + 4
	for i := range flacBlocksMax {
		h := s.peek(at, 4+34)
		if len(h) < 4 {
			break
		}
		kind, size := h[0], int64(binary.BigEndian.Uint32(h)&0xFFFFFF)
		if i == 0 {
			if kind&0x7F != 0 || len(h) < 4+18 {
				break
			}
			x := binary.BigEndian.Uint64(h[4+10:]) // 20 bits rate, 3 channels-1, 5 bits-1, 36 total
			f = flacFile{rate: int(x >> 44), channels: int(x>>41&7) + 1, bits: int(x>>36&31) + 1, total: int64(x & (1<<36 - 1))}
		}
		at += 4 + size
		if kind&0x80 != 0 {
			if f.rate < rateMin || f.rate > rateMax {
				return f, fmt.Errorf("%w: this FLAC file claims %d samples a second", ErrCorrupt, f.rate)
			}
			if at >= s.size {
				return f, fmt.Errorf("%w: this FLAC file ends before its first frame", ErrCorrupt)
			}
			f.frames = at
			return f, nil
		}
	}
	return f, fmt.Errorf("%w: this FLAC file has no usable header", ErrCorrupt)
}

// info tells the length from STREAMINFO, or from the last frame where an encoder that wrote to a pipe
// left the total unknown.
func (f flacFile) info(s *source) Info {
	i := Info{Format: FLAC, SampleRate: f.rate, Channels: f.channels}
	total := f.total
	if total == 0 {
		total = f.lastSample(s)
	}
	if total == 0 {
		// Speech compresses to about 55 %.
		i.Estimated = true
		total = int64(float64(s.size-f.frames) * 8 / (0.55 * float64(f.bits*f.channels)))
	}
	i.Seconds = float64(total) / float64(f.rate)
	return i
}

// lastSample searches the end of the file for the last frame header and returns the number of samples
// up to that frame's end, or 0.
func (f flacFile) lastSample(s *source) int64 {
	first, ok := parseFLACFrame(s.peek(f.frames, 16))
	if !ok {
		return 0
	}
	const tail = 128 << 10
	from := max(f.frames, s.size-tail)
	b := s.peek(from, tail)
	for i := len(b) - 6; i >= 0; i-- {
		if b[i] != 0xFF || b[i+1] != first.sync {
			continue
		}
		if h, ok := parseFLACFrame(b[i:]); ok && h.rateCode == first.rateCode && h.channels == first.channels {
			if h.sync&1 == 1 {
				return h.number + h.block
			}
			return h.number*first.block + h.block
		}
	}
	return 0
}

// A flacHeader is what a frame header (RFC 9639, 9.1) says about time.
type flacHeader struct {
	sync               byte // its lowest bit: number counts samples, not frames
	rateCode, channels byte
	bits               int // of a sample; 0 where STREAMINFO says
	block, number      int64
	size               int // of the header, checksum included
}

// flacWidths are the bits of a sample by the header's code; -1 is reserved.
var flacWidths = [8]int{0, 8, 12, -1, 16, 20, 24, 32}

func parseFLACFrame(b []byte) (h flacHeader, ok bool) {
	if len(b) < 6 || b[0] != 0xFF || b[1]&0xFE != 0xF8 {
		return h, false
	}
	h.sync, h.rateCode, h.channels = b[1], b[2]&15, b[3]>>4
	number, n := flacNumber(b[4:])
	h.bits = flacWidths[b[3]>>1&7]
	if n == 0 || h.bits < 0 || h.channels > 10 || h.rateCode == 15 || b[3]&1 != 0 {
		return h, false
	}
	h.number = number
	at := 4 + n
	extra := func(width int) int64 {
		var v int64
		for range width {
			if at < len(b) {
				v = v<<8 | int64(b[at])
			}
			at++
		}
		return v
	}
	switch code := b[2] >> 4; {
	case code == 1:
		h.block = 192
	case code >= 2 && code <= 5:
		h.block = 576 << (code - 2)
	case code == 6:
		h.block = extra(1) + 1
	case code == 7:
		h.block = extra(2) + 1
	case code >= 8:
		h.block = 256 << (code - 8)
	default:
		return h, false
	}
	switch h.rateCode {
	case 12:
		extra(1)
	case 13, 14:
		extra(2)
	}
	h.size = at + 1
	return h, at < len(b) && crc8(b[:at]) == b[at]
}

// flacNumber decodes a number in the manner of UTF-8, stretched to 36 bits, and returns its width.
func flacNumber(b []byte) (v int64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	lead := b[0]
	if lead < 0x80 {
		return int64(lead), 1
	}
	for n = 0; n < 8 && lead&(0x80>>n) != 0; n++ {
	}
	if n < 2 || n > 7 || len(b) < n {
		return 0, 0
	}
	v = int64(lead & (0x7F >> n))
	for _, c := range b[1:n] {
		if c&0xC0 != 0x80 {
			return 0, 0
		}
		v = v<<6 | int64(c&0x3F)
	}
	return v, n
}

// crc8 is the checksum of FLAC's frame headers: polynomial x^8+x^2+x+1.
func crc8(b []byte) byte {
	var c byte
	for _, v := range b {
		c ^= v
		for range 8 {
			c = c<<1 ^ c>>7*0x07
		}
	}
	return c
}

// decodeFLAC decodes frame by frame; after a damaged one it goes on at the next that is whole.
func decodeFLAC(s *source, k *sink, off int64) error {
	f, err := readFLAC(s, off)
	if err != nil {
		return err
	}
	if err := k.start(f.rate); err != nil {
		return err
	}
	d := flacDecoder{s: s, bits: f.bits}
	var mixed []float32
	for at, retries := f.frames, 0; ; {
		size, width, err := d.frame(at)
		if err == errFLACEnd {
			return nil
		}
		if err != nil {
			// A file that was cut short ends amid a frame: nothing follows, and that is no damage.
			at = nextFLACSync(s, at+1)
			if retries++; at < 0 || retries > flacRetriesMax {
				return nil
			}
			k.bad++
			continue
		}
		at += size
		retries = 0
		k.good++
		mixed = d.mix(mixed[:0], width, k.side)
		if err := k.mono(mixed); err != nil {
			return err
		}
	}
}

// nextFLACSync finds the next two bytes that may begin a frame, or -1.
func nextFLACSync(s *source, from int64) int64 {
	for from >= 0 && from < s.size {
		from = s.find([]byte{0xFF}, from, s.size)
		if from < 0 {
			return -1
		}
		if _, ok := parseFLACFrame(s.peek(from, 16)); ok {
			return from
		}
		from++
	}
	return -1
}

// mix appends the average of the frame's channels, or one of them, to mixed.
func (d *flacDecoder) mix(mixed []float32, width int, side side) []float32 {
	pcm := d.pcm
	if side != both {
		at := min(int(side)-1, len(pcm)-1)
		pcm = pcm[at : at+1]
	}
	scale := 1 / (float32(int64(1)<<(width-1)) * float32(len(pcm)))
	for i := range pcm[0] {
		var sum int64
		for _, x := range pcm {
			sum += x[i]
		}
		mixed = append(mixed, float32(sum)*scale)
	}
	return mixed
}

// isFLAC reports that a file begins as a FLAC stream does.
func isFLAC(head []byte) bool { return bytes.HasPrefix(head, []byte("fLaC")) }
