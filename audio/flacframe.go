package audio

import (
	"errors"
	"math/bits"
)

// FLAC's frames are decoded here and not by a module, because the one there is for Go logs a line for
// every frame of some common rates.

var (
	errFLACFrame = errors.New("damaged FLAC frame")
	errFLACEnd   = errors.New("no further FLAC frame")
)

const (
	// flacUnaryMax is the longest run of zero bits that is believed.
	flacUnaryMax = 1 << 22
	// flacFrameMax is more than the largest frame takes: 8 channels of 65535 samples as they are.
	flacFrameMax = 4 << 20
)

// fixedPredictors are the coefficients of FLAC's fixed predictors (RFC 9639, 9.2.5).
var fixedPredictors = [5][]int64{{}, {1}, {2, -1}, {3, -3, 1}, {4, -6, 4, -1}}

// A flacDecoder decodes frames one at a time.
type flacDecoder struct {
	s    *source
	bits int // of a sample, where the frame doesn't say
	in   flacBits
	pcm  [][]int64 // of each channel
}

// frame decodes the frame at off into pcm and returns its size in bytes and the bits of a sample. It
// fails with errFLACEnd where there is no more data, else with errFLACFrame.
func (d *flacDecoder) frame(off int64) (size int64, width int, err error) {
	if off >= d.s.size || d.s.err != nil {
		return 0, 0, errFLACEnd
	}
	h, ok := parseFLACFrame(d.s.peek(off, 16))
	if !ok || h.block > 65535 {
		return 0, 0, errFLACFrame
	}
	width = h.bits
	if width == 0 {
		width = d.bits
	}
	d.in = flacBits{s: d.s, off: off + int64(h.size), end: off + flacFrameMax}
	channels := int(h.channels) + 1
	if h.channels >= 8 {
		channels = 2
	}
	for len(d.pcm) < channels {
		d.pcm = append(d.pcm, nil)
	}
	d.pcm = d.pcm[:channels]
	for c := range d.pcm {
		if cap(d.pcm[c]) < int(h.block) {
			d.pcm[c] = make([]int64, h.block)
		}
		d.pcm[c] = d.pcm[c][:h.block]
		side := 0 // the difference of two channels needs a bit more
		if h.channels == 9 && c == 0 || (h.channels == 8 || h.channels == 10) && c == 1 {
			side = 1
		}
		if !d.subframe(d.pcm[c], width+side) {
			return 0, 0, errFLACFrame
		}
	}
	end := d.in.aligned()
	size = end + 2 - off
	b := d.s.peek(off, int(size))
	if d.in.short || int64(len(b)) < size || flacCRC16(b) != 0 {
		return 0, 0, errFLACFrame
	}
	d.decorrelate(h.channels)
	return size, width, nil
}

// decorrelate turns differences into channels (RFC 9639, 4.2).
func (d *flacDecoder) decorrelate(kind byte) {
	if kind < 8 {
		return
	}
	a, b := d.pcm[0], d.pcm[1]
	for i := range a {
		switch kind {
		case 8: // left, side
			b[i] = a[i] - b[i]
		case 9: // side, right
			a[i] += b[i]
		case 10: // mid, side
			m := a[i]<<1 | b[i]&1
			a[i], b[i] = (m+b[i])>>1, (m-b[i])>>1
		}
	}
}

// subframe decodes one channel (RFC 9639, 9.2).
func (d *flacDecoder) subframe(x []int64, width int) bool {
	r := &d.in
	if r.read(1) != 0 {
		return false
	}
	kind := int(r.read(6))
	wasted := 0
	if r.read(1) == 1 {
		wasted = r.unary() + 1
	}
	if width -= wasted; width < 1 || r.short {
		return false
	}
	ok := true
	switch {
	case kind == 0:
		v := r.signed(width)
		for i := range x {
			x[i] = v
		}
	case kind == 1:
		for i := range x {
			x[i] = r.signed(width)
		}
	case kind >= 8 && kind <= 12:
		order := kind - 8
		ok = d.warmUp(x, order, width) && d.residual(x, order)
		if ok {
			predict(x, fixedPredictors[order], 0)
		}
	case kind >= 32:
		ok = d.linear(x, kind-31, width)
	default:
		return false
	}
	for i := range x {
		x[i] <<= wasted
	}
	return ok && !r.short
}

// warmUp reads the samples that the predictor starts from.
func (d *flacDecoder) warmUp(x []int64, order, width int) bool {
	if order > len(x) {
		return false
	}
	for i := range order {
		x[i] = d.in.signed(width)
	}
	return true
}

// linear decodes a subframe with coefficients of its own.
func (d *flacDecoder) linear(x []int64, order, width int) bool {
	r := &d.in
	if !d.warmUp(x, order, width) {
		return false
	}
	precision := int(r.read(4)) + 1
	shift := r.signed(5)
	if precision == 16 || shift < 0 {
		return false
	}
	var coefficients [32]int64
	for i := range order {
		coefficients[i] = r.signed(precision)
	}
	if !d.residual(x, order) {
		return false
	}
	predict(x, coefficients[:order], uint(shift))
	return true
}

// predict adds to each residual what the samples before it foretell.
func predict(x, coefficients []int64, shift uint) {
	n := len(coefficients)
	for i := n; i < len(x); i++ {
		var sum int64
		past := x[i-n : i]
		for j, c := range coefficients {
			sum += c * past[n-1-j]
		}
		x[i] += sum >> shift
	}
}

// residual decodes the partitioned Rice codes behind the warm-up samples (RFC 9639, 9.2.7).
func (d *flacDecoder) residual(x []int64, order int) bool {
	r := &d.in
	method := r.read(2)
	if method > 1 {
		return false
	}
	width := 4 + int(method)
	escape := uint64(1)<<width - 1
	parts := 1 << r.read(4)
	each := len(x) / parts
	if each*parts != len(x) || each < order {
		return false
	}
	at := order
	for p := range parts {
		end := (p + 1) * each
		k := r.read(width)
		if k == escape {
			raw := int(r.read(5))
			for ; at < end; at++ {
				x[at] = r.signed(raw)
			}
			continue
		}
		for ; at < end; at++ {
			v := uint64(r.unary())<<k | r.read(int(k))
			x[at] = int64(v>>1) ^ -int64(v&1)
		}
		if r.short {
			return false
		}
	}
	return true
}

// flacBits reads bits from the most significant one on.
type flacBits struct {
	s     *source
	off   int64  // of the next byte to load
	end   int64  // what lies beyond isn't loaded
	win   []byte // loaded from the source, and next to go into acc
	acc   uint64 // bits at hand, the next one on top
	n     int    // how many
	short bool   // more was read than there is
}

// fill makes at least 57 bits available if there are that many left.
func (r *flacBits) fill() {
	for r.n <= 56 {
		if len(r.win) == 0 {
			if r.win = r.s.peek(r.off, int(min(4096, r.end-r.off))); len(r.win) == 0 {
				return
			}
			r.off += int64(len(r.win))
		}
		r.acc |= uint64(r.win[0]) << (56 - r.n)
		r.win = r.win[1:]
		r.n += 8
	}
}

// read returns the next n bits, at most 57; 0 and short past the end.
func (r *flacBits) read(n int) uint64 {
	if r.n < n {
		if r.fill(); r.n < n {
			r.short, r.acc, r.n = true, 0, 0
			return 0
		}
	}
	v := r.acc >> (64 - n)
	r.acc <<= n
	r.n -= n
	return v
}

// signed returns the next n bits in two's complement.
func (r *flacBits) signed(n int) int64 {
	if n == 0 {
		return 0
	}
	return int64(r.read(n)<<(64-n)) >> (64 - n)
}

// unary returns how many zeros come before the next one.
func (r *flacBits) unary() int {
	for count := 0; count < flacUnaryMax; {
		if r.n == 0 {
			if r.fill(); r.n == 0 {
				break
			}
		}
		if z := bits.LeadingZeros64(r.acc); z < r.n {
			r.acc <<= z + 1
			r.n -= z + 1
			return count + z
		}
		count += r.n
		r.acc, r.n = 0, 0
	}
	r.short = true
	return 0
}

// aligned is the offset of the next whole byte.
func (r *flacBits) aligned() int64 { return r.off - int64(len(r.win)) - int64(r.n/8) }

var flacCRCTable = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i) << 8
		for range 8 {
			c = c<<1 ^ c>>15*0x8005
		}
		t[i] = c
	}
	return t
}()

// flacCRC16 is the checksum of FLAC's frames: polynomial x^16+x^15+x^2+1. Over a frame with its
// checksum it is 0.
func flacCRC16(b []byte) (c uint16) {
	for _, v := range b {
		c = c<<8 ^ flacCRCTable[byte(c>>8)^v]
	}
	return c
}
