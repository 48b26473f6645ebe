package audio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// Elements of Matroska and WebM (RFC 9559), ids with their length marks.
const (
	ebmlHead       = 0x1A45DFA3
	ebmlDocType    = 0x4282
	mkvSegment     = 0x18538067
	mkvInfo        = 0x1549A966
	mkvScale       = 0x2AD7B1
	mkvDuration    = 0x4489
	mkvTracks      = 0x1654AE6B
	mkvTrack       = 0xAE
	mkvNumber      = 0xD7
	mkvType        = 0x83
	mkvCodec       = 0x86
	mkvPrivate     = 0x63A2
	mkvEncodings   = 0x6D80
	mkvAudio       = 0xE1
	mkvRate        = 0xB5
	mkvChannels    = 0x9F
	mkvCluster     = 0x1F43B675
	mkvTimestamp   = 0xE7
	mkvSimpleBlock = 0xA3
	mkvGroup       = 0xA0
	mkvBlock       = 0xA1
	mkvDiscard     = 0x75A2
)

// Bounds of Probe's work on Matroska.
const (
	mkvHeadMax  = 128 << 10 // of Info or Tracks
	mkvTail     = 192 << 10 // searched for the last cluster
	mkvHopsMax  = 1500      // elements stepped over
	mkvSizeNone = -1        // size of an element whose writer didn't know it
)

// An mkvElement is the header of an element.
type mkvElement struct {
	id   uint32
	size int64 // of the body, or mkvSizeNone
	body int64 // offset
}

// readElement reads an element's header at off.
func readElement(s *source, off int64) (e mkvElement, ok bool) {
	b := s.peek(off, 12)
	id, n := vint(b, 4, true)
	if n == 0 {
		return e, false
	}
	size, m := vint(b[n:], 8, false)
	if m == 0 {
		return e, false
	}
	e = mkvElement{id: uint32(id), size: size, body: off + int64(n+m)}
	if size == 1<<(7*m)-1 {
		e.size = mkvSizeNone
	}
	return e, true
}

// vint reads EBML's number of variable length, of at most most bytes; n is 0 where there is none.
func vint(b []byte, most int, keepMark bool) (v int64, n int) {
	if len(b) == 0 || b[0] == 0 {
		return 0, 0
	}
	for n = 1; b[0]&(0x80>>(n-1)) == 0; n++ {
	}
	if n > most || len(b) < n {
		return 0, 0
	}
	v = int64(b[0])
	if !keepMark {
		v &= 0x80>>(n-1) - 1
	}
	for _, c := range b[1:n] {
		v = v<<8 | int64(c)
	}
	return v, n
}

// children calls f with each element inside b.
func children(b []byte, f func(id uint32, body []byte)) {
	for len(b) > 0 {
		id, n := vint(b, 4, true)
		if n == 0 {
			return
		}
		size, m := vint(b[n:], 8, false)
		if m == 0 || size > int64(len(b)-n-m) {
			return
		}
		b = b[n+m:]
		f(uint32(id), b[:size])
		b = b[size:]
	}
}

func mkvUint(b []byte) (v int64) {
	for _, c := range b[:min(len(b), 8)] {
		v = v<<8 | int64(c)
	}
	return v
}

func mkvFloat(b []byte) float64 {
	switch len(b) {
	case 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
	case 8:
		return math.Float64frombits(binary.BigEndian.Uint64(b))
	}
	return 0
}

// An mkvFile is a file's first audio track and where the sound begins.
type mkvFile struct {
	mkvTrackEntry
	scale    int64   // nanoseconds of a timestamp's unit
	duration float64 // in units of scale; 0 when not told
	clusters int64   // offset of the first cluster
}

type mkvTrackEntry struct {
	number   int64
	codec    string
	private  []byte
	encoded  bool // compressed or encrypted on top of the codec
	rate     float64
	channels int64
}

// readMKV reads the headers up to the first cluster.
func readMKV(s *source) (m mkvFile, err error) {
	m.scale, m.clusters = 1e6, -1
	kinds := 0
	off := int64(0)
	for range mkvHopsMax {
		e, ok := readElement(s, off)
		if !ok || m.clusters >= 0 {
			break
		}
		off = e.body
		switch e.id {
		case mkvSegment:
			continue // step inside
		case mkvCluster:
			m.clusters = e.body
			continue
		case mkvInfo:
			m.readInfo(s.peek(e.body, int(min(max(e.size, 0), mkvHeadMax))))
		case mkvTracks:
			kinds = m.readTracks(s.peek(e.body, int(min(max(e.size, 0), mkvHeadMax))))
		}
		if e.size == mkvSizeNone {
			break
		}
		off += e.size
	}
	switch {
	case m.codec == "" && kinds > 0:
		return m, notAudio("a WebM or Matroska file without a sound track")
	case m.codec == "" || m.clusters < 0:
		return m, fmt.Errorf("%w: this WebM or Matroska file ends before its sound begins", ErrCorrupt)
	}
	return m, nil
}

func (m *mkvFile) readInfo(b []byte) {
	children(b, func(id uint32, body []byte) {
		switch id {
		case mkvScale:
			if v := mkvUint(body); v > 0 && v <= 1e9 {
				m.scale = v
			}
		case mkvDuration:
			if v := mkvFloat(body); v > 0 && v < 1e15 {
				m.duration = v
			}
		}
	})
}

// readTracks keeps the first track of sound and returns how many tracks of any kind there are.
func (m *mkvFile) readTracks(b []byte) (kinds int) {
	children(b, func(id uint32, body []byte) {
		if id != mkvTrack {
			return
		}
		kinds++
		t := mkvTrackEntry{rate: 8000, channels: 1} // RFC 9559's defaults
		sound := false
		children(body, func(id uint32, body []byte) {
			switch id {
			case mkvNumber:
				t.number = mkvUint(body)
			case mkvType:
				sound = mkvUint(body) == 2
			case mkvCodec:
				t.codec = string(bytes.TrimRight(body, "\x00"))
			case mkvPrivate:
				t.private = append([]byte(nil), body...)
			case mkvEncodings:
				t.encoded = true
			case mkvAudio:
				children(body, func(id uint32, body []byte) {
					switch id {
					case mkvRate:
						t.rate = mkvFloat(body)
					case mkvChannels:
						t.channels = mkvUint(body)
					}
				})
			}
		})
		if sound && m.codec == "" && t.codec != "" {
			m.mkvTrackEntry = t
		}
	})
	return kinds
}

func (m mkvFile) info(s *source) Info {
	i := Info{Format: WebM, Channels: int(min(m.channels, channelsMax))}
	if m.rate >= rateMin && m.rate <= rateMax {
		i.SampleRate = int(m.rate)
	}
	if m.codec == "A_OPUS" {
		i.Format = WebMOpus
	}
	unit := float64(m.scale) / 1e9
	if m.duration > 0 {
		i.Seconds = m.duration * unit
		return i
	}
	last, whole := m.lastTime(s)
	i.Seconds, i.Estimated = last*unit, !whole
	return i
}

// lastTime is the time at the end of the last block, in units of scale. Browsers' recorders write no
// duration. Where the last cluster is not near the end, the elements at the start are stepped over and
// their time is extended to the whole file.
func (m mkvFile) lastTime(s *source) (t float64, whole bool) {
	from := max(m.clusters, s.size-mkvTail)
	b := append([]byte(nil), s.peek(from, mkvTail)...)
	mark := []byte{0x1F, 0x43, 0xB6, 0x75}
	w := mkvWalk{s: newDecodeSource(s.ctx, bytes.NewReader(b), int64(len(b))), hops: mkvTail / 8}
	for at := bytes.LastIndex(b, mark); at >= 0 && w.hops > 0; at = bytes.LastIndex(b[:at], mark) {
		w.off = int64(at)
		if end, ok := m.blocksEnd(&w); ok {
			return end, true
		}
	}
	w = mkvWalk{s: s, off: m.clusters, hops: mkvHopsMax}
	end, ok := m.blocksEnd(&w)
	if w.off >= s.size || !ok {
		return end, ok
	}
	return end * float64(s.size-m.clusters) / float64(max(1, w.off-m.clusters)), false
}

// blocksEnd walks on and returns when the last block of the track ends.
func (m mkvFile) blocksEnd(w *mkvWalk) (end float64, ok bool) {
	for {
		e, found := w.next()
		if !found {
			break
		}
		if e.id != mkvSimpleBlock && e.id != mkvBlock {
			continue
		}
		b := w.s.peek(e.body, 16)
		number, n := vint(b, 8, false)
		if n == 0 || number != m.number || len(b) < n+3 {
			continue
		}
		ms := 0.0
		if m.codec == "A_OPUS" && b[n+2]&6 == 0 {
			ms = float64(opusSamples(b[n+3:])) / 48
		}
		t := float64(w.cluster+int64(int16(binary.BigEndian.Uint16(b[n:])))) + ms*1e6/float64(m.scale)
		end, ok = max(end, t), true
	}
	return end, ok
}

// An mkvWalk steps through clusters and block groups as if they were flat.
type mkvWalk struct {
	s       *source
	off     int64
	hops    int   // elements that may still be looked at
	cluster int64 // timestamp of the cluster
}

// next returns the next element that isn't stepped into.
func (w *mkvWalk) next() (e mkvElement, ok bool) {
	for ; w.hops > 0; w.hops-- {
		e, ok = readElement(w.s, w.off)
		if !ok {
			return e, false
		}
		switch e.id {
		case mkvCluster, mkvGroup, mkvSegment:
			w.off = e.body
			continue
		case mkvTimestamp:
			w.cluster = mkvUint(w.s.peek(e.body, int(min(max(e.size, 0), 8))))
		}
		if e.size == mkvSizeNone {
			return e, false
		}
		w.off = e.body + e.size
		w.hops--
		return e, true
	}
	return e, false
}

// isMKV reports that a file begins as Matroska and WebM do.
func isMKV(head []byte) bool {
	return len(head) >= 4 && binary.BigEndian.Uint32(head) == ebmlHead
}
