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
}

// nativeFormats names what is decoded without ffmpeg.
const nativeFormats = "WAV, FLAC, MP3, Ogg Vorbis, Ogg Opus and WebM with Opus work without it"

// errForFFmpeg marks audio that is in order but not decoded in Go; the rest of the message names it.
var errForFFmpeg = errors.New("left to ffmpeg")

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
	info, err := Probe(r, size)
	if err != nil {
		return nil, info, err
	}
	if o.SecondsMax > 0 && !info.Estimated && info.Seconds > o.SecondsMax+limitSlack {
		return nil, info, tooLong(o.SecondsMax)
	}
	s := newDecodeSource(ctx, r, size)
	k := newSink(ctx, o.SecondsMax, info.Seconds)
	err = guard(func() error { return decodeNative(s, k, info.Format) })
	if errors.Is(err, errForFFmpeg) {
		k = newSink(ctx, o.SecondsMax, info.Seconds)
		err = decodeFFmpeg(s, k, info, o, err)
	}
	switch {
	case ctx.Err() != nil:
		return nil, info, ctx.Err()
	case s.err != nil:
		return nil, info, fmt.Errorf("reading the upload: %w", s.err)
	case errors.Is(err, errPanic):
		return nil, info, fmt.Errorf("%w: this %s file makes no sense", ErrCorrupt, info.Format)
	case err != nil:
		return nil, info, err
	}
	samples := k.samples()
	if len(samples) == 0 {
		return nil, info, fmt.Errorf("%w: nothing in this %s file can be decoded", ErrCorrupt, info.Format)
	}
	if k.bad > k.good {
		return nil, info, fmt.Errorf("%w: most of this %s file can't be decoded", ErrCorrupt, info.Format)
	}
	info.Seconds, info.Estimated = float64(len(samples))/SampleRate, false
	return samples, info, nil
}

func decodeNative(s *source, k *sink, f Format) error {
	switch f {
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
