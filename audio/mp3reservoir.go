package audio

// go-mp3 v0.3.4 takes padded frames of MPEG-2 for one byte shorter than they are at some bit rates,
// and what follows becomes noise. Only 22.05 kHz is concerned, since the other rates of MPEG-2 need no
// padding. As one frame's data may lie in those before it (the bit reservoir, ISO 11172-3 2.4.3.4), a
// byte can't simply be left out: all frames are packed anew into the largest ones, without padding.

const (
	reservoirMax     = 255 // how far back a frame of MPEG-2 may point, in bytes
	reservoirBitRate = 14  // index of 160 kbit/s, the highest
	reservoirFrame   = 144 * 160000 / 22050 / 2
)

// An mp3Reservoir packs frames of MPEG-2 layer 3 anew.
type mp3Reservoir struct {
	data    []byte // main data of the frames before
	pending []byte // frame that is packed, but for what the next one may put at its end
	free    int    // bytes at its end
	lost    int    // frames whose data weren't there: they became silence
	tooBig  int    // frames that don't fit: likewise
}

// affects reports that a stream needs it.
func (*mp3Reservoir) affects(f codedFrame) bool {
	return f.layer == 3 && !f.mpeg1 && !f.mpeg25 && f.rate == 22050
}

// pack takes a frame and appends the one before it to out, packed anew.
func (m *mp3Reservoir) pack(out, frame []byte, f codedFrame) []byte {
	side := 17
	if f.channels == 1 {
		side = 9
	}
	head := 4
	if frame[1]&1 == 0 {
		head += 2 // a checksum, which go-mp3 doesn't check
	}
	packed := make([]byte, reservoirFrame)
	copy(packed, []byte{0xFF, frame[1] | 1, reservoirBitRate<<4 | frame[2]&0x0D, frame[3]})
	room := packed[4+side:]
	borrowed := 0
	own, ok := m.own(frame, head, side, f.channels)
	switch reach := min(m.free, reservoirMax, len(own)); {
	case !ok:
		m.lost++ // side information of zeros is silence
		own = nil
	case len(own)-len(room) > reach:
		m.tooBig++
		own = nil
	default:
		borrowed = reach // as early as may be, to leave room for what comes
		copy(packed[4:], frame[head:head+side])
		packed[4] = byte(borrowed)
		copy(m.pending[len(m.pending)-borrowed:], own[:borrowed])
		copy(room, own[borrowed:])
	}
	out = append(out, m.pending...)
	m.pending, m.free = packed, len(room)-(len(own)-borrowed)
	m.data = append(m.data[:0], m.data[max(0, len(m.data)-reservoirMax):]...)
	return out
}

// own returns the frame's own data, wherever they lie; ok is false where they are missing.
func (m *mp3Reservoir) own(frame []byte, head, side, channels int) (own []byte, ok bool) {
	if len(frame) < head+side {
		return nil, false
	}
	info, main := frame[head:head+side], frame[head+side:]
	bits := 0
	for c := range channels {
		// part2_3_length leads the 63 bits of each channel, behind 8 of pointer and the private ones.
		bits += bitsAt(info, 8+channels+63*c, 12)
	}
	start := len(m.data) - int(info[0])
	m.data = append(m.data, main...)
	end := start + (bits+7)/8
	if start < 0 || end > len(m.data) {
		return nil, false
	}
	return m.data[start:end], true
}

// flush returns the last frame.
func (m *mp3Reservoir) flush() []byte {
	last := m.pending
	m.pending, m.free = nil, 0
	return last
}

// bitsAt reads n bits of b from bit at on.
func bitsAt(b []byte, at, n int) (v int) {
	for i := at; i < at+n; i++ {
		v = v<<1 | int(b[i/8]>>(7-i%8)&1)
	}
	return v
}
