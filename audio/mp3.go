package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hajimehoshi/go-mp3"
)

// mp3DecoderDelay is how many samples every decoder of layer 3 adds at the start, less what the
// encoder's own figure covers (LAME's technical FAQ).
const mp3DecoderDelay = 528 + 1

// An mp3File is a stream of MPEG audio frames.
type mp3File struct {
	codedFrame       // the first frame of sound, or the tag in its place
	off, end   int64 // of the frames
	tag        mp3Tag
}

// An mp3Tag is what an encoder wrote in place of the first frame (Xing, Info or VBRI).
type mp3Tag struct {
	found          bool
	frames, bytes  int64 // 0 when not told
	gapless        bool  // delay and padding are told
	delay, padding int   // samples that are not part of the recording
}

// readMP3 finds the frames from off on, which is past any ID3v2 tag.
func readMP3(s *source, off int64) (mp3File, error) {
	var m mp3File
	m.off = mpegFrames.sync(s, off, syncWindow, 3)
	if m.off < 0 {
		return m, fmt.Errorf("%w: this MP3 file has no frames", ErrCorrupt)
	}
	m.codedFrame, _ = mpegFrames.at(s, m.off)
	m.end = s.size
	if t := s.peek(s.size-128, 3); string(t) == "TAG" { // ID3v1
		m.end -= 128
	}
	if m.layer == 3 {
		m.tag = readMP3Tag(s.peek(m.off, 192), m.codedFrame)
	}
	if m.tag.found {
		m.off += int64(m.size)
	}
	if m.tag.bytes == 0 && m.tag.frames > (m.end-m.off)/mpegFrameMin {
		m.tag.frames = 0 // more than there is room for
	}
	return m, nil
}

// readMP3Tag looks for a tag in a stream's first frame.
func readMP3Tag(b []byte, f codedFrame) (t mp3Tag) {
	be := binary.BigEndian
	if len(b) >= 36+18 && string(b[36:40]) == "VBRI" {
		return mp3Tag{found: true, bytes: int64(be.Uint32(b[46:])), frames: int64(be.Uint32(b[50:]))}
	}
	at := 4 + 32 // past the side information
	switch {
	case f.mpeg1 && f.channels == 1, !f.mpeg1 && f.channels == 2:
		at = 4 + 17
	case !f.mpeg1:
		at = 4 + 9
	}
	if len(b) < at+8 || string(b[at:at+4]) != "Xing" && string(b[at:at+4]) != "Info" {
		return t
	}
	t.found = true
	flags := be.Uint32(b[at+4:])
	at += 8
	field := func(bit uint32, width int) (v int64) {
		if flags&bit == 0 {
			return 0
		}
		if at+4 <= len(b) {
			v = int64(be.Uint32(b[at:]))
		}
		at += width
		return v
	}
	t.frames = field(1, 4)
	t.bytes = field(2, 4)
	field(4, 100) // seek table
	field(8, 4)   // quality
	// LAME's extension: 9 bytes of name, 12 more, then delay and padding of 12 bits each.
	if len(b) >= at+24 && (string(b[at:at+3]) == "LAM" || string(b[at:at+3]) == "Lav") {
		t.gapless = true
		t.delay = int(b[at+21])<<4 | int(b[at+22]>>4)
		t.padding = int(b[at+22]&15)<<8 | int(b[at+23])
	}
	return t
}

func (m mp3File) info(s *source) Info {
	i := Info{Format: MP3, SampleRate: m.rate, Channels: m.channels}
	if m.tag.frames > 0 {
		i.Seconds = max(0, float64(m.tag.frames*int64(m.samples)-int64(m.tag.delay+m.tag.padding))/float64(m.rate))
		if present := max(0, m.end-m.off); m.tag.bytes > 0 && present < m.tag.bytes*95/100 {
			// Cut short: the tag tells of what should be there.
			i.Seconds *= float64(present) / float64(m.tag.bytes)
			i.Estimated = true
		}
		return i
	}
	i.Seconds, i.Estimated = mpegFrames.length(s, m.off, m.end, m.rate)
	return i
}

// decodeMP3 decodes layer 3 of MPEG-1 and MPEG-2; the others are ffmpeg's.
func decodeMP3(s *source, k *sink, off int64) error {
	m, err := readMP3(s, off)
	if err != nil {
		return err
	}
	if m.layer != 3 || m.mpeg25 {
		return fmt.Errorf("%w: MPEG audio of layer 1 or 2, or of version 2.5", errForFFmpeg)
	}
	if err := k.start(m.rate); err != nil {
		return err
	}
	feed := &mp3Feed{s: s, off: m.off, end: m.end, key: m.key}
	feed.anew = feed.reservoir.affects(m.codedFrame)
	d := mp3Sound{k: k, left: -1}
	if m.tag.gapless {
		d.skip = m.tag.delay + mp3DecoderDelay
		if m.tag.frames > 0 {
			d.left = m.tag.frames*int64(m.samples) - int64(m.tag.delay+m.tag.padding)
		}
	}
	// go-mp3 gives up at the first frame that it can't decode. It is begun anew at the next one then.
	for feed.more() {
		fed := feed.frames
		err := d.decode(feed)
		if err != nil && !errors.Is(err, errMP3) {
			return err
		}
		if err != nil {
			k.bad++
		}
		feed.rest = nil
		if feed.frames == fed {
			feed.off++
		}
	}
	if feed.reservoir.tooBig > 0 {
		return fmt.Errorf("%w: MP3 of 22.05 kHz at 160 kbit/s", errForFFmpeg)
	}
	if k.bad += feed.reservoir.lost; k.bad > k.good {
		return fmt.Errorf("%w: MP3 frames that the decoder here refuses", errForFFmpeg)
	}
	return nil
}

// errMP3 marks what go-mp3 says, as against what the sink says.
var errMP3 = errors.New("mp3")

// An mp3Sound moves decoded sound to the sink, less the encoder's delay and padding.
type mp3Sound struct {
	k    *sink
	skip int   // samples still to be left out
	left int64 // samples of the recording still to come; -1 when not told
	pcm  [4 * 1152]byte
	mix  [1152]float32
}

// decode runs one decoder until its input or its patience ends.
func (d *mp3Sound) decode(in io.Reader) error {
	var dec *mp3.Decoder
	fail := func(err error) error {
		if err == nil || err == io.EOF {
			return err
		}
		return fmt.Errorf("%w: %w", errMP3, err)
	}
	if err := guard(func() (err error) { dec, err = mp3.NewDecoder(in); return err }); err != nil {
		return ignoreEOF(fail(err))
	}
	for {
		n := 0
		err := guard(func() (err error) { n, err = io.ReadFull(dec, d.pcm[:]); return err })
		if werr := d.write(d.pcm[:n]); werr != nil {
			return werr
		}
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		if err != nil {
			return ignoreEOF(fail(err))
		}
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// write takes 16-bit stereo, which is what go-mp3 makes of everything.
func (d *mp3Sound) write(pcm []byte) error {
	mix := d.mix[:0]
	for ; len(pcm) >= 4; pcm = pcm[4:] {
		l, r := int16(binary.LittleEndian.Uint16(pcm)), int16(binary.LittleEndian.Uint16(pcm[2:]))
		switch d.k.side {
		case left:
			r = l
		case right:
			l = r
		}
		mix = append(mix, (float32(l)+float32(r))/(1<<16))
	}
	if len(mix) > 0 {
		d.k.good++
	}
	n := min(d.skip, len(mix))
	d.skip -= n
	mix = mix[n:]
	if d.left >= 0 {
		mix = mix[:min(d.left, int64(len(mix)))]
		d.left -= int64(len(mix))
	}
	return d.k.mono(mix)
}

// An mp3Feed is the frames of one stream without what lies between them: tags, junk, frames of
// another kind.
type mp3Feed struct {
	s        *source
	off, end int64
	key      uint32
	frames   int
	buf      []byte
	rest     []byte // of the frame that is being handed out

	anew      bool // frames are packed anew
	reservoir mp3Reservoir
}

// more reports that another frame may follow.
func (f *mp3Feed) more() bool { return f.off < f.end && f.s.err == nil }

func (f *mp3Feed) Read(p []byte) (int, error) {
	if len(f.rest) == 0 && !f.next() {
		if f.s.err != nil {
			return 0, f.s.err
		}
		return 0, io.EOF
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// next takes up the next frame; the search for it ends with the file.
func (f *mp3Feed) next() bool {
	for count := 1; f.more(); count = 2 {
		h, ok := mpegFrames.at(f.s, f.off)
		// After junk, one header alone may be chance.
		if ok && h.key == f.key && mpegFrames.chain(f.s, f.off, count) {
			b := f.s.peek(f.off, h.size)
			f.off += int64(len(b))
			f.frames++
			if len(b) < h.size {
				break // go-mp3 can't use a part of one
			}
			if f.buf = f.buf[:0]; f.anew {
				f.buf = f.reservoir.pack(f.buf, b, h)
			} else {
				f.buf = append(f.buf, b...)
			}
			if f.rest = f.buf; len(f.rest) > 0 {
				return true
			}
			continue
		}
		at := f.s.find([]byte{0xFF}, f.off+1, f.end)
		if at < 0 {
			at = f.end
		}
		f.off = at
	}
	f.rest = f.reservoir.flush()
	return len(f.rest) > 0
}
