package audio

import (
	"fmt"
	"math"
)

// mkvBlockMax is the largest block that is read.
const mkvBlockMax = 1 << 20

// decodeWebM decodes the Opus track of a WebM or Matroska file.
func decodeWebM(s *source, k *sink) error {
	m, err := readMKV(s)
	if err != nil {
		return err
	}
	if m.codec != "A_OPUS" || m.encoded {
		return fmt.Errorf("%w: WebM or Matroska with the codec %.20q", errForFFmpeg, m.codec)
	}
	o := oggStream{channels: 2}
	if len(m.private) > 0 && (!o.identify(m.private) || o.streams != 1 || o.channels > 2) {
		return fmt.Errorf("%w: Opus of more than two channels", errForFFmpeg)
	}
	dec, err := newOpusDecoder(k.side)
	if err != nil {
		return err
	}
	if err := k.start(SampleRate); err != nil {
		return err
	}
	d := webmSound{k: k, dec: dec, skip: int(o.skip / 3)}
	w := mkvWalk{s: s, off: m.clusters, hops: math.MaxInt}
	for {
		at := w.off
		e, ok := w.next()
		if !ok {
			// Damage: go on at the next cluster.
			if w.off = s.find([]byte{0x1F, 0x43, 0xB6, 0x75}, at+1, s.size); w.off < 0 {
				return d.flush()
			}
			continue
		}
		switch e.id {
		case mkvSimpleBlock, mkvBlock:
			if e.size > mkvBlockMax {
				continue
			}
			if err := d.block(s.peek(e.body, int(e.size)), m.number); err != nil {
				return err
			}
		case mkvDiscard:
			d.discard(s.peek(e.body, int(min(e.size, 8))))
		}
	}
}

// A webmSound moves the sound of one track to the sink. It holds back a block, because what is to be
// left out of it is only told afterwards.
type webmSound struct {
	k    *sink
	dec  *opusDecoder
	skip int // samples still to be left out at the start
	held []float32
}

// block decodes the packets of a block, if it is one of the track.
func (d *webmSound) block(b []byte, track int64) error {
	number, n := vint(b, 8, false)
	if n == 0 || number != track || len(b) < n+3 {
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	for _, p := range unlace(b[n+3:], b[n+2]>>1&3) {
		out, _, err := d.dec.decode(d.held, p)
		d.held = out
		if err != nil {
			d.k.bad++
		} else {
			d.k.good++
		}
	}
	return nil
}

// flush passes on what is held. It is also called when the track is done.
func (d *webmSound) flush() error {
	n := min(d.skip, len(d.held))
	d.skip -= n
	err := d.k.mono(d.held[n:])
	d.held = d.held[:0]
	return err
}

// discard shortens what is held by nanoseconds, a signed number (DiscardPadding).
func (d *webmSound) discard(b []byte) {
	if len(b) > 0 && b[0] < 0x80 {
		cut := mkvUint(b) / 1000 * SampleRate / 1e6
		d.held = d.held[:max(0, int64(len(d.held))-cut)]
	}
}

// unlace splits the frames of a block (RFC 9559, 10.3): kind 0 is one frame, 1 Xiph's lacing, 2 equal
// sizes, 3 EBML's.
func unlace(b []byte, kind byte) [][]byte {
	if kind == 0 {
		return [][]byte{b}
	}
	if len(b) < 1 {
		return nil
	}
	count := int(b[0]) + 1
	b = b[1:]
	sizes := make([]int, 0, count)
	switch kind {
	case 1:
		for len(sizes) < count-1 {
			size := 0
			for len(b) > 0 && b[0] == 255 {
				size += 255
				b = b[1:]
			}
			if len(b) == 0 {
				return nil
			}
			sizes = append(sizes, size+int(b[0]))
			b = b[1:]
		}
	case 2:
		for range count - 1 {
			sizes = append(sizes, len(b)/count)
		}
	case 3:
		size := int64(0)
		for len(sizes) < count-1 {
			v, n := vint(b, 8, false)
			if n == 0 {
				return nil
			}
			if len(sizes) > 0 {
				v += size - (1<<(7*n-1) - 1) // a difference to the one before
			}
			if v < 0 || v > mkvBlockMax {
				return nil
			}
			size = v
			sizes = append(sizes, int(v))
			b = b[n:]
		}
	}
	frames := make([][]byte, 0, count)
	for _, n := range sizes {
		if n > len(b) {
			return frames
		}
		frames = append(frames, b[:n])
		b = b[n:]
	}
	return append(frames, b)
}
