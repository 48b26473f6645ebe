package audio

import (
	"errors"

	"github.com/pion/opus"
)

// opusFrameMax is the longest packet of Opus in samples at 48 kHz: 120 ms (RFC 6716, 3.2).
const opusFrameMax = 5760

// opusSamples is how many samples at 48 kHz a packet holds by its first two bytes (RFC 6716, 3.1); 0
// where they make no sense.
func opusSamples(b []byte) int64 {
	if len(b) == 0 {
		return 0
	}
	var frame int64
	switch config := b[0] >> 3; {
	case config < 12:
		frame = [4]int64{480, 960, 1920, 2880}[config&3]
	case config < 16:
		frame = [2]int64{480, 960}[config&1]
	default:
		frame = [4]int64{120, 240, 480, 960}[config&3]
	}
	count := int64(2)
	switch b[0] & 3 {
	case 0:
		count = 1
	case 3:
		if len(b) < 2 {
			return 0
		}
		count = int64(b[1] & 0x3F)
	}
	if count*frame > opusFrameMax {
		return 0
	}
	return count * frame
}

// An opusDecoder decodes right to SampleRate and mono, which Opus can do by itself; to take one channel
// it has to decode two.
type opusDecoder struct {
	dec      opus.Decoder
	side     side
	channels int // that it decodes to
	pcm      [2 * opusFrameMax / 3]float32
	headers  int
}

func newOpusDecoder(s side) (*opusDecoder, error) {
	d := &opusDecoder{side: s, channels: 1}
	if s != both {
		d.channels = 2
	}
	var err error
	d.dec, err = opus.NewDecoderWithOutput(SampleRate, d.channels)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (d *opusDecoder) rate() int { return SampleRate }

// header steps over OpusHead, which the demuxer has read, and OpusTags.
func (d *opusDecoder) header([]byte) (bool, error) {
	d.headers++
	return d.headers < 2, nil
}

var errOpusPacket = errors.New("damaged Opus packet")

// decode puts silence in the place of a packet that can't be decoded, so that what follows stays where
// it belongs in time.
func (d *opusDecoder) decode(out []float32, b []byte) ([]float32, int64, error) {
	n := opusSamples(b)
	if n == 0 {
		return out, 0, errOpusPacket
	}
	got := 0
	pcm := d.pcm[:d.channels*opusFrameMax/3]
	err := guard(func() (err error) { got, err = d.dec.DecodeToFloat32(b, pcm); return err })
	if err != nil || int64(got) != n/3 {
		// What a failure leaves in the decoder's state is anybody's guess.
		if err := d.dec.Init(SampleRate, d.channels); err != nil {
			return out, 0, err
		}
		return append(out, make([]float32, n/3)...), n, errOpusPacket
	}
	for pcm = pcm[:got*d.channels]; len(pcm) > 0; pcm = pcm[d.channels:] {
		out = append(out, d.side.of(pcm[:d.channels]))
	}
	return out, n, nil
}
