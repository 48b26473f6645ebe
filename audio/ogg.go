package audio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Bounds of the work on Ogg files (RFC 3533).
const (
	oggPageMax    = 27 + 255 + 255*255
	oggTail       = 2 * oggPageMax // searched for the last page
	oggHopsMax    = 1000           // pages stepped over where the last one is not to be found
	oggBeginsMax  = 16             // streams that are told apart at the start
	oggPacketMax  = 1 << 20
	oggNoPosition = -1 // granule position of a page on which no packet ends
)

// An oggPage is one page; its slices are good until the source is read again.
type oggPage struct {
	serial   uint32
	granule  int64
	first    bool // begins a stream
	last     bool // ends a stream
	cont     bool // begins with the rest of a packet
	segments []byte
	body     []byte
	size     int64
}

// readOggPage reads the page at off; ok is false where there is none or it is cut off.
func readOggPage(s *source, off int64) (p oggPage, ok bool) {
	h := s.peek(off, 27+255)
	if len(h) < 27 || string(h[:5]) != "OggS\x00" {
		return p, false
	}
	n := int(h[26])
	if len(h) < 27+n {
		return p, false
	}
	body := 0
	for _, v := range h[27 : 27+n] {
		body += int(v)
	}
	b := s.peek(off, 27+n+body)
	if len(b) < 27+n+body {
		return p, false
	}
	flags := b[5]
	return oggPage{
		serial: binary.LittleEndian.Uint32(b[14:]), granule: int64(binary.LittleEndian.Uint64(b[6:])),
		cont: flags&1 != 0, first: flags&2 != 0, last: flags&4 != 0,
		segments: b[27 : 27+n], body: b[27+n:], size: int64(len(b)),
	}, true
}

// An oggStream is the stream of an Ogg file that is listened to.
type oggStream struct {
	format   Format
	serial   uint32
	rate     int // of the granule position
	channels int
	skip     int64 // Opus's pre-skip
	streams  int   // within one of Opus: more than one where there are more than two channels
	data     int64 // offset of the first page that begins no stream
}

// readOgg picks the first audio stream among those that begin at the top of the file.
func readOgg(s *source) (o oggStream, err error) {
	off := int64(0)
	var others []string
	for range oggBeginsMax {
		p, ok := readOggPage(s, off)
		if !ok || !p.first {
			break
		}
		if o.format == "" && !o.identify(p.body) {
			others = append(others, oggName(p.body))
		} else if o.serial == 0 {
			o.serial = p.serial
		}
		off += p.size
	}
	o.data = off
	switch {
	case o.format != "":
		return o, nil
	case len(others) > 0:
		return o, notAudio("an Ogg file without Vorbis, Opus or FLAC in it, but " + strings.Join(others, " and "))
	}
	return o, fmt.Errorf("%w: this Ogg file has no whole page", ErrCorrupt)
}

// identify reads the first packet of a stream.
func (o *oggStream) identify(b []byte) bool {
	le := binary.LittleEndian
	switch {
	case len(b) >= 19 && bytes.HasPrefix(b, []byte("OpusHead")):
		o.format, o.rate, o.channels = OggOpus, 48000, int(b[9])
		o.skip, o.streams = int64(le.Uint16(b[10:])), 1
		if b[18] != 0 { // a mapping family other than mono and stereo
			o.streams = 255
			if len(b) >= 21 {
				o.streams = int(b[19])
			}
		}
	case len(b) >= 30 && bytes.HasPrefix(b, []byte("\x01vorbis")):
		o.format, o.rate, o.channels = OggVorbis, int(le.Uint32(b[12:])), int(b[11])
	case len(b) >= 13+4+18 && bytes.HasPrefix(b, []byte("\x7fFLAC")):
		x := binary.BigEndian.Uint64(b[13+4+10:])
		o.format, o.rate, o.channels = OggFLAC, int(x>>44), int(x>>41&7)+1
	}
	return o.format != ""
}

// oggName says what the first packet of a stream seems to be.
func oggName(b []byte) string {
	for prefix, name := range map[string]string{"Speex": "Speex", "\x80theora": "Theora", "fishead": "a skeleton", "BBCD": "Dirac", "\x80kate": "Kate"} {
		if bytes.HasPrefix(b, []byte(prefix)) {
			return name
		}
	}
	return "an unknown stream"
}

func (o oggStream) info(s *source) (Info, error) {
	i := Info{Format: o.format, SampleRate: o.rate, Channels: o.channels}
	if o.rate < rateMin || o.rate > rateMax || o.channels < 1 {
		return i, fmt.Errorf("%w: this Ogg file claims %d channels of %d samples a second", ErrCorrupt, o.channels, o.rate)
	}
	end, whole := o.lastGranule(s)
	if !whole {
		i.Estimated = true
	}
	i.Seconds = max(0, float64(end-o.firstGranule(s)-o.skip)/float64(o.rate))
	return i, nil
}

// lastGranule finds the stream's last page. In a chain of streams there may be another at the end; the
// length is then that of the pages looked at, extended to the whole file.
func (o oggStream) lastGranule(s *source) (granule int64, whole bool) {
	from := max(0, s.size-oggTail)
	b := append([]byte(nil), s.peek(from, oggTail)...)
	for at := bytes.LastIndex(b, []byte("OggS\x00")); at >= 0; at = bytes.LastIndex(b[:at], []byte("OggS\x00")) {
		if len(b)-at < 27 {
			continue
		}
		g := int64(binary.LittleEndian.Uint64(b[at+6:]))
		if binary.LittleEndian.Uint32(b[at+14:]) == o.serial && g > 0 {
			return g, true
		}
	}
	off, seen := o.data, int64(0)
	for range oggHopsMax {
		p, ok := readOggHeader(s, off)
		if !ok || p.first {
			break
		}
		off += p.size
		if p.serial == o.serial && p.granule > 0 {
			granule, seen = p.granule, off
		}
	}
	if seen == 0 {
		return 0, false
	}
	return int64(float64(granule) * float64(s.size) / float64(seen)), false
}

// readOggHeader is readOggPage without the body.
func readOggHeader(s *source, off int64) (p oggPage, ok bool) {
	h := s.peek(off, 27+255)
	if len(h) < 27 || string(h[:5]) != "OggS\x00" || len(h) < 27+int(h[26]) {
		return p, false
	}
	p = oggPage{serial: binary.LittleEndian.Uint32(h[14:]), granule: int64(binary.LittleEndian.Uint64(h[6:])), first: h[5]&2 != 0}
	p.size = 27 + int64(h[26])
	for _, v := range h[27 : 27+int(h[26])] {
		p.size += int64(v)
	}
	return p, true
}

// firstGranule is the position at which the recording begins: 0 but for what was cut out of a longer
// stream, such as a radio's. It is told from the first page with sound on it.
func (o oggStream) firstGranule(s *source) int64 {
	off := o.data
	for range 64 {
		p, ok := readOggPage(s, off)
		if !ok {
			return 0
		}
		off += p.size
		if p.serial != o.serial || p.granule <= 0 {
			continue
		}
		if o.format != OggOpus {
			if p.granule > 30*int64(o.rate) { // no encoder puts so much on a page
				return p.granule
			}
			return 0
		}
		page := int64(opusFrameMax) // of a packet that began on the page before
		eachPacket(p, func(b []byte) { page += opusSamples(b) })
		return max(0, p.granule-page)
	}
	return 0
}

// eachPacket calls f with every packet that begins and ends on the page.
func eachPacket(p oggPage, f func(b []byte)) {
	start, end, skip := 0, 0, p.cont
	for _, v := range p.segments {
		end += int(v)
		if v < 255 {
			if !skip {
				f(p.body[start:end])
			}
			start, skip = end, false
		}
	}
}

// isOgg reports that a file begins as Ogg does.
func isOgg(head []byte) bool { return bytes.HasPrefix(head, []byte("OggS\x00")) }
