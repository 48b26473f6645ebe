package audio

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Options bound and steer Decode.
type Options struct {
	SecondsMax float64 // longest audio that is taken, in seconds; 0 means no limit
	FFmpeg     string  // path of the ffmpeg program for what is not decoded in Go; "" means none
	TempDir    string  // where ffmpeg's input is kept while it runs; "" means the system's

	PCM bool // the upload is samples without a header, see the format PCM
	// SecondsKeep: nothing is decoded past so many seconds; the rest of the file is not looked at. 0: all.
	SecondsKeep float64
}

func (o Options) probe(r io.ReaderAt, size int64) (Info, error) {
	if o.PCM {
		return pcmInfo(size)
	}
	return Probe(r, size)
}

// nativeFormats names what is decoded without ffmpeg.
const nativeFormats = "WAV, FLAC, MP3, Ogg Vorbis, Ogg Opus and WebM with Opus work without it"

// errForFFmpeg marks audio that is in order but not decoded in Go; the rest of the message names it.
var errForFFmpeg = errors.New("left to ffmpeg")

// errEnough: all that was wanted is decoded.
var errEnough = errors.New("enough")

// believedSeconds is how much is set aside at once where a header may lie about the length. Of a WAV the
// bytes are there that it tells of; still, one of few samples a second becomes many times larger.
const believedSeconds = 600

// errPanic marks what was a panic of a decoder.
var errPanic = errors.New("the decoder failed")

// Decode turns an upload of size bytes into samples at SampleRate, mono, within -1..1. Channels are
// averaged. Of a file that is cut short or damaged in places it returns what can be decoded; the
// length in the Info is that of the samples.
//
// Errors wrap those of Probe, and ErrTooLong as soon as Options.SecondsMax is passed, ErrUnsupported
// where ffmpeg would be needed and is not there, and the context's when that ends. Any other error is a
// failure of this machine.
func Decode(ctx context.Context, r io.ReaderAt, size int64, o Options) ([]float32, Info, error) {
	info, err := o.probe(r, size)
	if err != nil {
		return nil, info, err
	}
	k, samples, err := decode(ctx, r, size, info, o, wanted{})
	if err != nil {
		return nil, info, err
	}
	info.Seconds, info.Estimated = float64(k.length())/SampleRate, false
	return samples, info, nil
}

// wanted is what is to become of the channels.
type wanted struct {
	side     side
	loudness bool // how loud it is, and not the samples
}

// decode decodes into a sink.
func decode(ctx context.Context, r io.ReaderAt, size int64, info Info, o Options, w wanted) (*sink, []float32, error) {
	if o.SecondsMax > 0 && !info.Estimated && info.Seconds > o.SecondsMax+limitSlack {
		return nil, nil, tooLong(o.SecondsMax)
	}
	anew := func() *sink {
		expected := info.Seconds
		switch {
		case w.loudness:
			expected = 0
		case o.SecondsKeep > 0:
			expected = min(expected, o.SecondsKeep)
		case info.Format != PCM && info.Format != WAV || info.Estimated || o.SecondsMax == 0:
			expected = min(expected, believedSeconds)
		}
		k := newSink(ctx, o.SecondsMax, expected)
		k.keep, k.side, k.summing = int(o.SecondsKeep*SampleRate), w.side, w.loudness
		return k
	}
	s, k := newDecodeSource(ctx, r, size), anew()
	err := guard(func() error { return decodeNative(s, k, info.Format) })
	if errors.Is(err, errForFFmpeg) {
		k = anew()
		err = decodeFFmpeg(s, k, info, o, err)
	}
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case s.err != nil:
		return nil, nil, fmt.Errorf("reading the upload: %w", s.err)
	case errors.Is(err, errPanic):
		return nil, nil, fmt.Errorf("%w: this %s file makes no sense", ErrCorrupt, info.Format)
	case err != nil && !errors.Is(err, errEnough):
		return nil, nil, err
	}
	samples := k.samples()
	if k.length() == 0 {
		return nil, nil, fmt.Errorf("%w: nothing in this %s file can be decoded", ErrCorrupt, info.Format)
	}
	if k.bad > k.good {
		return nil, nil, fmt.Errorf("%w: most of this %s file can't be decoded", ErrCorrupt, info.Format)
	}
	return k, samples, nil
}

func decodeNative(s *source, k *sink, f Format) error {
	switch f {
	case PCM:
		return pcmFile(s.size).decode(s, k)
	case WAV:
		return decodeWAV(s, k)
	case FLAC:
		_, off := sniff(s)
		return decodeFLAC(s, k, off)
	case MP3:
		_, off := sniff(s)
		return decodeMP3(s, k, off)
	case OggVorbis, OggOpus:
		return decodeOgg(s, k)
	case WebMOpus:
		return decodeWebM(s, k)
	case WebM:
		return fmt.Errorf("%w: WebM or Matroska with another codec than Opus", errForFFmpeg)
	case MP4:
		return fmt.Errorf("%w: MP4 or M4A", errForFFmpeg)
	case AAC:
		return fmt.Errorf("%w: AAC", errForFFmpeg)
	case OggFLAC:
		return fmt.Errorf("%w: FLAC in Ogg", errForFFmpeg)
	}
	return fmt.Errorf("%w: %s", errForFFmpeg, f)
}

// guard turns a panic of f into an error: decoders meet files that were made to break them.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return f()
}
