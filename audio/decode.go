package audio

import (
	"context"
	"io"
)

// Options bound and steer Decode.
type Options struct {
	SecondsMax float64 // longest audio that is taken, in seconds; 0 means no limit
	FFmpeg     string  // path of the ffmpeg program for what is not decoded in Go; "" means none
}

// Decode turns an upload of size bytes into samples at SampleRate, mono, within -1..1.
func Decode(ctx context.Context, r io.ReaderAt, size int64, o Options) ([]float32, Info, error) {
	info, err := Probe(r, size)
	if err != nil {
		return nil, info, err
	}
	return nil, info, ErrUnsupported
}
