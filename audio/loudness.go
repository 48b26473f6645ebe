package audio

import (
	"context"
	"io"
)

// A side says which channels of a recording go into what is decoded.
type side uint8

const (
	both  side = iota // their average
	left              // the first one alone
	right             // the second one alone
)

// of is what one moment of all channels counts.
func (s side) of(channels []float32) float32 {
	if s != both {
		return channels[min(int(s)-1, len(channels)-1)]
	}
	var sum float32
	for _, v := range channels {
		sum += v
	}
	return sum / float32(len(channels))
}

// LoudnessRate is how many values a second [Loudness] gives: one each 10 ms, the unit of whisper.cpp's
// times.
const LoudnessRate = 100

const loudnessFrame = SampleRate / LoudnessRate

// Loudness tells how loud the first and the second channel of a recording are over time: for each 10 ms
// the sum of the samples' absolute values at [SampleRate], by which whisper.cpp's server tells the two
// speakers of a telephone call apart. Recordings of one channel have none: nil. It decodes the upload
// anew for each side, since that holds no more memory than a few kilobytes a minute. Errors are those of
// Decode.
func Loudness(ctx context.Context, r io.ReaderAt, size int64, o Options) (first, second []float32, err error) {
	info, err := o.probe(r, size)
	if err != nil {
		return nil, nil, err
	}
	if info.Channels == 1 {
		return nil, nil, nil
	}
	sums := [2][]float32{}
	for i, side := range [2]side{left, right} {
		k, _, err := decode(ctx, r, size, info, o, wanted{side: side, loudness: true})
		if err != nil {
			return nil, nil, err
		}
		sums[i] = k.sums
	}
	return sums[0], sums[1], nil
}

// sum adds up the frames that are whole, with last also what is left.
func (k *sink) sum(last bool) {
	x := k.out
	for len(x) >= loudnessFrame || last && len(x) > 0 {
		frame := x[:min(loudnessFrame, len(x))]
		total := 0.0
		for _, v := range frame {
			total += float64(max(v, -v))
		}
		k.sums = append(k.sums, float32(total))
		k.summed += len(frame)
		x = x[len(frame):]
	}
	k.out = k.out[:copy(k.out, x)]
}
