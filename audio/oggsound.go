package audio

import (
	"errors"
	"fmt"
)

// A packetDecoder turns the packets of one Ogg stream into sound.
type packetDecoder interface {
	// header takes a packet that comes before those with sound; more says that another one follows.
	header(b []byte) (more bool, err error)
	// decode appends a packet's sound as mono and says how far it moves the granule position.
	decode(out []float32, b []byte) ([]float32, int64, error)
	// rate is that of decode's samples.
	rate() int
}

// An oggLink is one stream of a chain while it is decoded.
type oggLink struct {
	oggStream
	k       *sink
	dec     packetDecoder
	headers bool // still to come
	begun   bool // a page with sound has ended
	end     bool // the stream has said its end, or can't be decoded
	packet  []byte
	partial bool

	page     []float32 // sound of the page at hand
	position int64     // granule position so far, by counting
	drop     int64     // granules still to be left out at the start
}

// decodeOgg decodes the first audio stream and those that are chained to it.
func decodeOgg(s *source, k *sink) error {
	var link *oggLink
	for off := int64(0); off >= 0 && off < s.size; {
		p, ok := readOggPage(s, off)
		if !ok {
			off = s.find([]byte("OggS"), off+1, s.size)
			if link != nil {
				link.packet, link.partial = nil, false
			}
			continue
		}
		off += p.size
		if p.first && (link == nil || link.begun) {
			o := oggStream{serial: p.serial}
			if !o.identify(p.body) {
				continue
			}
			next, err := newOggLink(o, k)
			if err != nil {
				return err
			}
			link = next
		}
		if link == nil || link.serial != p.serial || link.end {
			continue
		}
		if err := link.takePage(p); err != nil {
			return err
		}
	}
	return s.err
}

func newOggLink(o oggStream, k *sink) (*oggLink, error) {
	l := &oggLink{oggStream: o, k: k, headers: true}
	switch o.format {
	case OggOpus:
		if o.streams != 1 || o.channels > 2 {
			return nil, fmt.Errorf("%w: Opus of more than two channels", errForFFmpeg)
		}
		dec, err := newOpusDecoder(k.side)
		if err != nil {
			return nil, err
		}
		l.dec, l.drop = dec, o.skip
	case OggVorbis:
		l.dec = &vorbisDecoder{side: k.side}
	default:
		return nil, fmt.Errorf("%w: FLAC in Ogg", errForFFmpeg)
	}
	return l, nil
}

// takePage decodes the packets that end on the page.
func (l *oggLink) takePage(p oggPage) error {
	if !p.cont {
		l.packet, l.partial = nil, false
	}
	skip := p.cont && !l.partial // the rest of a packet whose start was lost
	at, sound := 0, false
	for at < len(p.segments) {
		n, whole := 0, false
		for at < len(p.segments) && !whole {
			n += int(p.segments[at])
			whole = p.segments[at] < 255
			at++
		}
		if !skip && len(l.packet)+n <= oggPacketMax {
			l.packet = append(l.packet, p.body[:n]...)
		}
		p.body = p.body[n:]
		l.partial = !whole
		if !whole {
			break
		}
		if !skip {
			decoded, err := l.takePacket(l.packet)
			if err != nil {
				return err
			}
			sound = sound || decoded
		}
		l.packet, skip = l.packet[:0], false
	}
	if !sound {
		return nil
	}
	return l.endPage(p)
}

// takePacket feeds the decoder; sound says that the packet was not a header.
func (l *oggLink) takePacket(b []byte) (sound bool, err error) {
	if l.headers {
		err := guard(func() (err error) { l.headers, err = l.dec.header(b); return err })
		if errors.Is(err, errForFFmpeg) {
			return false, err
		}
		if err != nil {
			l.k.bad++
			l.end, l.begun = true, true
			return false, nil //nolint:nilerr // a damaged stream ends here; what was decoded before it counts
		}
		if !l.headers {
			return false, l.k.start(l.dec.rate())
		}
		return false, nil
	}
	var n int64
	err = guard(func() (err error) { l.page, n, err = l.dec.decode(l.page, b); return err })
	l.position += n
	if err != nil {
		l.k.bad++
	} else {
		l.k.good++
	}
	return true, nil
}

// endPage lets out the page's sound, less what the granule position says is not part of the
// recording: the start of Vorbis (Vorbis I, A.2) and the end of both.
func (l *oggLink) endPage(p oggPage) error {
	first := !l.begun
	l.begun = true
	unit := int64(l.rate / l.dec.rate()) // granules per sample of ours: 3 for Opus, else 1
	x := l.page
	if p.granule != oggNoPosition {
		over := (l.position - p.granule) / unit
		switch {
		case over > 0 && p.last:
			x = x[:max(0, int64(len(x))-over)]
		case over > 0 && first && l.format == OggVorbis:
			x = x[min(over, int64(len(x))):]
		}
		l.position = p.granule
	}
	n := min(l.drop/unit, int64(len(x)))
	l.drop -= n * unit
	x = x[n:]
	l.end = p.last
	err := l.k.mono(x)
	l.page = l.page[:0]
	return err
}
