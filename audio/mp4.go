package audio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// Bounds of Probe's work on MP4 (ISO 14496-12).
const (
	mp4BoxesMax    = 1500      // boxes stepped over at one level
	mp4FragmentMax = 16 << 10  // read of one moof
	mp4Tail        = 192 << 10 // searched for the last moof
)

// An mp4Box is the header of a box.
type mp4Box struct {
	kind      string
	body, end int64
}

// readBox reads the header of the box at off, which lies within [off, limit).
func readBox(s *source, off, limit int64) (b mp4Box, ok bool) {
	h := s.peek(off, 16)
	if len(h) < 8 || off+8 > limit {
		return b, false
	}
	size := int64(binary.BigEndian.Uint32(h))
	b = mp4Box{kind: string(h[4:8]), body: off + 8}
	switch size {
	case 0: // to the end
		size = limit - off
	case 1:
		if len(h) < 16 {
			return b, false
		}
		size = int64(binary.BigEndian.Uint64(h[8:]))
		b.body += 8
	}
	if size < b.body-off || size > math.MaxInt64-off {
		return b, false
	}
	b.end = off + size
	return b, true
}

// boxes calls f with each box in [off, limit) until f says stop, and returns where it stopped.
func boxes(s *source, off, limit int64, f func(b mp4Box) (more bool)) int64 {
	for range mp4BoxesMax {
		b, ok := readBox(s, off, limit)
		if !ok || !f(b) {
			break
		}
		off = b.end
	}
	return off
}

// An mp4File is what the movie header says about the first audio track.
type mp4File struct {
	track    uint32
	codec    string
	rate     int
	channels int
	scale    uint32 // of the track's time
	seconds  float64
	movie    bool   // there is a movie header
	tracks   int    // of any kind
	each     uint32 // duration of a sample in fragments, where they don't say
}

// readMP4 reads the movie header, wherever it is, and adds up the fragments where it tells no length.
func readMP4(s *source) (m mp4File, i Info, err error) {
	var mehd float64
	boxes(s, 0, s.size, func(b mp4Box) bool {
		if b.kind != "moov" {
			return true
		}
		m.movie = true
		mehd = m.readMovie(s, b)
		return false
	})
	i = Info{Format: MP4}
	switch {
	case !m.movie:
		return m, i, fmt.Errorf("%w: this MP4 file has no movie header (moov); the recording was not finished", ErrCorrupt)
	case m.codec == "" && m.tracks > 0:
		return m, i, notAudio("an MP4 file without a sound track")
	case m.codec == "":
		return m, i, fmt.Errorf("%w: this MP4 file's movie header tells of no tracks", ErrCorrupt)
	case m.codec == "enca":
		return m, i, fmt.Errorf("%w: this MP4 file is encrypted", ErrUnsupported)
	}
	if m.rate >= rateMin && m.rate <= rateMax {
		i.SampleRate = m.rate
	}
	i.Channels = min(m.channels, channelsMax)
	i.Seconds = m.seconds
	if i.Seconds == 0 {
		i.Seconds = mehd
	}
	if i.Seconds == 0 {
		i.Seconds, i.Estimated = m.fragments(s)
	}
	return m, i, nil
}

// readMovie reads the moov box and returns the length in seconds that it claims for the fragments.
func (m *mp4File) readMovie(s *source, moov mp4Box) (fragments float64) {
	scale := uint32(1)
	boxes(s, moov.body, moov.end, func(b mp4Box) bool {
		switch b.kind {
		case "mvhd":
			scale, _ = mp4Time(s, b)
		case "trak":
			m.tracks++
			if m.codec == "" {
				m.readTrack(s, b)
			}
		case "mvex":
			boxes(s, b.body, b.end, func(b mp4Box) bool {
				h := s.peek(b.body, 16)
				switch {
				case b.kind == "mehd" && len(h) >= 12 && scale > 0:
					v := uint64(binary.BigEndian.Uint32(h[4:]))
					if h[0] == 1 {
						v = binary.BigEndian.Uint64(h[4:])
					}
					fragments = float64(v) / float64(scale)
				case b.kind == "trex" && len(h) >= 16 && binary.BigEndian.Uint32(h[4:]) == m.track:
					m.each = binary.BigEndian.Uint32(h[12:])
				}
				return true
			})
		}
		return true
	})
	return fragments
}

// mp4Time reads the time scale and the duration of mvhd and mdhd, which share their shape.
func mp4Time(s *source, b mp4Box) (scale uint32, duration uint64) {
	h := s.peek(b.body, 32)
	be := binary.BigEndian
	switch {
	case len(h) >= 20 && h[0] == 0:
		if d := be.Uint32(h[16:]); d != math.MaxUint32 {
			duration = uint64(d)
		}
		return be.Uint32(h[12:]), duration
	case len(h) >= 32 && h[0] == 1:
		if d := be.Uint64(h[24:]); d != math.MaxUint64 {
			duration = d
		}
		return be.Uint32(h[20:]), duration
	}
	return 0, 0
}

// readTrack takes over a track if it is one of sound.
func (m *mp4File) readTrack(s *source, trak mp4Box) {
	var t mp4File
	sound := false
	var visit func(b mp4Box) bool
	visit = func(b mp4Box) bool {
		switch b.kind {
		case "mdia", "minf", "stbl":
			boxes(s, b.body, b.end, visit)
		case "tkhd":
			h := s.peek(b.body, 24)
			at := 12
			if len(h) > 0 && h[0] == 1 {
				at = 20
			}
			if len(h) >= at+4 {
				t.track = binary.BigEndian.Uint32(h[at:])
			}
		case "mdhd":
			scale, duration := mp4Time(s, b)
			if t.scale = scale; scale > 0 {
				t.seconds = float64(duration) / float64(scale)
			}
		case "hdlr":
			// QuickTime has a second one, for where the data lie.
			h := s.peek(b.body, 12)
			sound = sound || len(h) >= 12 && string(h[8:12]) == "soun"
		case "stsd":
			// An entry: size, codec, 8 bytes, version 2, 6 bytes, channels, bits, 4 bytes, rate 16.16.
			h := s.peek(b.body+8, 36)
			if len(h) >= 36 {
				t.codec = strings.TrimRight(string(h[4:8]), " \x00")
				t.channels = int(binary.BigEndian.Uint16(h[24:]))
				if t.codec == "mp4a" {
					t.channels = 0 // always written as 2
				}
				t.rate = int(binary.BigEndian.Uint32(h[32:]) >> 16)
			}
		}
		return true
	}
	boxes(s, trak.body, trak.end, visit)
	if sound && t.codec != "" {
		m.track, m.codec, m.scale, m.seconds, m.rate, m.channels = t.track, t.codec, t.scale, t.seconds, t.rate, t.channels
	}
}

// fragments tells the length of a recording in fragments: from the time of the first and the last one,
// else by adding them up. Where there are too many to add up, the time of those that were read is
// extended to the whole file.
func (m mp4File) fragments(s *source) (seconds float64, estimated bool) {
	if m.scale == 0 {
		return 0, true
	}
	var begin, end uint64
	found, last := false, false
	stop := boxes(s, 0, s.size, func(b mp4Box) bool {
		if b.kind != "moof" {
			return true
		}
		start, length, timed, ok := m.fragment(s.peek(b.body, int(min(b.end-b.body, mp4FragmentMax))))
		if !ok {
			return !s.spent()
		}
		if !timed {
			start = end
		}
		if !found {
			begin, found = start, true
			if timed {
				if end, last = m.lastFragment(s, b.end); last {
					return false
				}
			}
		}
		end = max(end, start+length)
		return true
	})
	if !found || end < begin {
		return 0, true
	}
	seconds = float64(end-begin) / float64(m.scale)
	if last || stop >= s.size {
		return seconds, false
	}
	return seconds * float64(s.size) / float64(max(stop, 1)), true
}

// lastFragment searches the end of the file for the track's last fragment, and says when that ends.
func (m mp4File) lastFragment(s *source, from int64) (end uint64, ok bool) {
	from = max(from, s.size-mp4Tail)
	b := append([]byte(nil), s.peek(from, mp4Tail)...)
	for at := bytes.LastIndex(b, []byte("moof")); at >= 4; at = bytes.LastIndex(b[:at], []byte("moof")) {
		size := int64(binary.BigEndian.Uint32(b[at-4:]))
		if size < 16 || !bytes.HasPrefix(b[min(at+8, len(b)):], []byte("mfhd")) {
			continue
		}
		start, length, timed, ok := m.fragment(b[at+4 : min(int64(at)-4+size, int64(len(b)))])
		if ok && timed {
			return start + length, true
		}
	}
	return 0, false
}

// fragment reads the track's part of a moof: when it starts, where it says so, and how long it is.
func (m mp4File) fragment(moof []byte) (start, length uint64, timed, ok bool) {
	be := binary.BigEndian
	eachBox(moof, func(kind string, traf []byte) {
		if kind != "traf" {
			return
		}
		mine, each := false, m.each
		eachBox(traf, func(kind string, b []byte) {
			switch {
			case kind == "tfhd" && len(b) >= 8:
				mine = be.Uint32(b[4:]) == m.track
				at, flags := 8, b[3]
				if flags&1 != 0 {
					at += 8
				}
				if flags&2 != 0 {
					at += 4
				}
				if flags&8 != 0 && len(b) >= at+4 {
					each = be.Uint32(b[at:])
				}
			case kind == "tfdt" && mine && len(b) >= 8:
				start, timed = uint64(be.Uint32(b[4:])), true
				if b[0] == 1 && len(b) >= 12 {
					start = be.Uint64(b[4:])
				}
			case kind == "trun" && mine && len(b) >= 8:
				ok = true
				length += runLength(b, each)
			}
		})
	})
	return start, length, timed, ok
}

// runLength adds up a trun's samples.
func runLength(b []byte, each uint32) (sum uint64) {
	be := binary.BigEndian
	flags, count := be.Uint32(b)&0xFFFFFF, be.Uint32(b[4:])
	if flags&0x100 == 0 {
		return uint64(count) * uint64(each)
	}
	at, step := 8, 0
	for _, bit := range []uint32{0x1, 0x4} {
		if flags&bit != 0 {
			at += 4
		}
	}
	for _, bit := range []uint32{0x100, 0x200, 0x400, 0x800} {
		if flags&bit != 0 {
			step += 4
		}
	}
	for ; count > 0 && at+step <= len(b); count-- {
		sum += uint64(be.Uint32(b[at:]))
		at += step
	}
	return sum
}

// eachBox calls f with each box inside b; the last one may be cut off.
func eachBox(b []byte, f func(kind string, body []byte)) {
	for len(b) >= 8 {
		size := int64(binary.BigEndian.Uint32(b))
		if size < 8 {
			return
		}
		n := int(min(size, int64(len(b))))
		f(string(b[4:8]), b[8:n])
		b = b[n:]
	}
}

// isMP4 reports that a file begins as MP4 and QuickTime do: with a box of a known kind.
func isMP4(head []byte) bool {
	if len(head) < 8 {
		return false
	}
	switch string(head[4:8]) {
	case "ftyp", "styp":
		return true
	case "moov", "moof", "mdat", "free", "skip", "wide", "pnot":
		// Words of text may look so too, but then their size reads as text.
		return !isText(head[:4])
	}
	return false
}
