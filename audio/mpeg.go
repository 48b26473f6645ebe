package audio

import "fmt"

// How far Probe walks from frame to frame, and how it samples a file that is longer than that.
const (
	walkFramesMax = 1500
	spots         = 64
	spotFrames    = 12
	spotWindow    = 3 << 10 // searched for the next frame at a spot
	syncWindow    = 64 << 10
	mpegFrameMin  = 24 // bytes: 8 kbit/s at 24 kHz
)

// A codedFrame is one frame of MPEG audio or ADTS AAC by its header.
type codedFrame struct {
	size     int // bytes, header included
	samples  int
	rate     int
	channels int
	key      uint32 // what stays the same within a stream
	mpeg1    bool
	layer    int // of MPEG audio: 1, 2 or 3; 0 for AAC
	mpeg25   bool
}

// A frameParser reads a header; ok is false where there is none.
type frameParser struct {
	header int // bytes that parse needs
	parse  func(b []byte) (f codedFrame, ok bool)
}

var (
	mpegFrames = frameParser{4, parseMPEGFrame}
	adtsFrames = frameParser{7, parseADTSFrame}
)

// Bit rates in kbit/s by the header's index (ISO 11172-3 2.4.2.3, ISO 13818-3 2.4.2.3).
var (
	bitRates1 = [4][16]int{
		1: {0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},
		2: {0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
		3: {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
	}
	bitRates2 = [4][16]int{
		1: {0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},
		2: {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
		3: {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
	}
	mpegRates = [3]int{44100, 48000, 32000}
	aacRates  = [13]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}
)

func parseMPEGFrame(b []byte) (f codedFrame, ok bool) {
	if len(b) < 4 || b[0] != 0xFF || b[1]&0xE0 != 0xE0 {
		return f, false
	}
	version, layer, bitRate, rate := b[1]>>3&3, 4-int(b[1]>>1&3), b[2]>>4, b[2]>>2&3
	// Free format (bit rate 0) is left out: its frames have no length, and nobody makes them.
	if version == 1 || layer == 4 || bitRate == 0 || bitRate == 15 || rate == 3 || b[3]&3 == 2 {
		return f, false
	}
	f.layer, f.mpeg1, f.mpeg25 = layer, version == 3, version == 0
	f.rate = mpegRates[rate]
	rates := &bitRates1
	if !f.mpeg1 {
		rates = &bitRates2
		f.rate >>= 1
	}
	if f.mpeg25 {
		f.rate >>= 1
	}
	bits := rates[layer][bitRate] * 1000
	pad := int(b[2] >> 1 & 1)
	switch {
	case layer == 1:
		f.samples, f.size = 384, (12*bits/f.rate+pad)*4
	case layer == 3 && !f.mpeg1:
		f.samples, f.size = 576, 72*bits/f.rate+pad
	default:
		f.samples, f.size = 1152, 144*bits/f.rate+pad
	}
	f.channels = 2
	if b[3]>>6 == 3 {
		f.channels = 1
	}
	f.key = uint32(b[1]&0x1E)<<8 | uint32(rate)
	return f, true
}

// parseADTSFrame reads the header of ISO 13818-7 6.2.
func parseADTSFrame(b []byte) (f codedFrame, ok bool) {
	if len(b) < 7 || b[0] != 0xFF || b[1]&0xF6 != 0xF0 {
		return f, false
	}
	rate := int(b[2] >> 2 & 15)
	f.size = int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5]>>5)
	if rate >= len(aacRates) || f.size < 7 {
		return f, false
	}
	f.rate = aacRates[rate]
	f.samples = 1024 * (int(b[6]&3) + 1)
	f.channels = int(b[2]&1)<<2 | int(b[3]>>6)
	if f.channels == 7 {
		f.channels = 8
	}
	f.key = uint32(b[1]&8)<<8 | uint32(rate)
	return f, true
}

// at reads the frame header at off.
func (p frameParser) at(s *source, off int64) (codedFrame, bool) {
	return p.parse(s.peek(off, p.header))
}

// chain reports that count frames of one stream follow each other from off on, or that they end just
// where the file does.
func (p frameParser) chain(s *source, off int64, count int) bool {
	first, ok := p.at(s, off)
	for i := 1; ok && i < count; i++ {
		off += int64(first.size)
		if off >= s.size {
			return true
		}
		next, found := p.at(s, off)
		if !found || next.key != first.key {
			return false
		}
		first.size = next.size
	}
	return ok
}

// sync finds the first of count frames in a row within [from, from+window), or -1.
func (p frameParser) sync(s *source, from int64, window, count int) int64 {
	b := append([]byte(nil), s.peek(from, window)...)
	for i := 0; i+p.header <= len(b); i++ {
		if b[i] != 0xFF {
			continue
		}
		if _, ok := p.parse(b[i:]); ok && p.chain(s, from+int64(i), count) {
			return from + int64(i)
		}
	}
	return -1
}

// A frameCount is how much audio a stretch of frames holds.
type frameCount struct {
	bytes, samples int64
	equal          bool // all frames were of one size, give or take the padding byte
	next           int64
}

// walk counts up to most frames like the first one from off on; it stops at what is no frame.
func (p frameParser) walk(s *source, off, end int64, most int) frameCount {
	first, ok := p.at(s, off)
	c := frameCount{equal: true, next: off}
	for f := first; ok && f.key == first.key && most > 0 && c.next < end; most-- {
		c.bytes += int64(f.size)
		c.samples += int64(f.samples)
		c.next += int64(f.size)
		if d := f.size - first.size; d < -4 || d > 4 {
			c.equal = false
		}
		f, ok = p.at(s, c.next)
	}
	return c
}

// length tells the seconds of audio in the frames of [off, end): counted where they are few, else
// from the bit rate at spots all over the file, which is exact where it never changes.
func (p frameParser) length(s *source, off, end int64, rate int) (seconds float64, estimated bool) {
	c := p.walk(s, off, end, walkFramesMax)
	if c.samples == 0 {
		return 0, true
	}
	left := end - c.next
	if left <= 0 { // the last frame may be cut off; it counts
		return float64(c.samples) / float64(rate), false
	}
	// The spots are spread evenly over bytes, so it is samples per byte that may be averaged.
	perByte, found, equal := 0.0, 0, c.equal
	for i := range int64(spots) {
		at := p.sync(s, c.next+left*i/spots, spotWindow, 3)
		if at < 0 {
			continue
		}
		spot := p.walk(s, at, end, spotFrames)
		perByte += float64(spot.samples) / float64(spot.bytes)
		found++
		equal = equal && spot.equal && sameRate(spot, c)
	}
	if found == 0 || equal {
		perByte, found = float64(c.samples)/float64(c.bytes), 1
	}
	return (float64(c.samples) + float64(left)*perByte/float64(found)) / float64(rate), !equal
}

// sameRate reports that two stretches have the same bytes per sample within 1 %.
func sameRate(a, b frameCount) bool {
	x, y := float64(a.bytes)*float64(b.samples), float64(b.bytes)*float64(a.samples)
	return x < y*1.01 && y < x*1.01
}

// readADTS tells the length of a bare AAC stream that begins at off.
func readADTS(s *source, off int64) (Info, error) {
	f, ok := adtsFrames.at(s, off)
	if !ok {
		return Info{}, fmt.Errorf("%w: this AAC file has no frames", ErrCorrupt)
	}
	i := Info{Format: AAC, SampleRate: f.rate, Channels: f.channels}
	i.Seconds, i.Estimated = adtsFrames.length(s, off, s.size, f.rate)
	return i, nil
}
