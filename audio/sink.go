package audio

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Rates that are believed; beyond them a header is damaged.
const (
	rateMin     = 1000
	rateMax     = 768000
	channelsMax = 64
)

// limitSlack is how far past Options.SecondsMax decoded audio may go: codecs pad their ends.
const limitSlack = 0.1

// A sink collects decoded audio as mono at SampleRate: the average of the channels, or one of them. Its methods fail when the limit is passed or
// the context ends, and a decoder that fails so is done.
type sink struct {
	ctx   context.Context
	out   []float32
	max   float64 // Options.SecondsMax
	rate  int     // of what is written
	res   *resampler
	mixed []float32

	good, bad int // frames or packets that could be decoded, and that could not

	side    side
	keep    int  // samples that are wanted; 0: all
	summing bool // only the loudness is wanted, see Loudness
	sums    []float32
	summed  int // samples in sums
}

// length is how many samples have come out.
func (k *sink) length() int { return k.summed + len(k.out) }

// newSink expects about this many seconds.
func newSink(ctx context.Context, max, seconds float64) *sink {
	return &sink{ctx: ctx, max: max, out: make([]float32, 0, int(seconds*SampleRate)+SampleRate)}
}

// start says the rate of what is written from here on.
func (k *sink) start(rate int) error {
	if rate < rateMin || rate > rateMax {
		return fmt.Errorf("%w: it claims %d samples a second", ErrCorrupt, rate)
	}
	if rate == k.rate {
		return nil
	}
	k.end()
	k.rate = rate
	if rate != SampleRate {
		k.res = newResampler(rate)
	}
	return nil
}

// end lets out what the resampler holds back.
func (k *sink) end() {
	if k.res != nil {
		k.out = k.res.flush(k.out)
		k.res = nil
	}
	k.rate = 0
}

// interleaved takes frames of channels samples each.
func (k *sink) interleaved(x []float32, channels int) error {
	if channels == 1 {
		return k.mono(x)
	}
	k.mixed = k.mixed[:0]
	for ; len(x) >= channels; x = x[channels:] {
		k.mixed = append(k.mixed, k.side.of(x[:channels]))
	}
	return k.mono(k.mixed)
}

// mono takes samples of one channel. It may change x.
func (k *sink) mono(x []float32) error {
	if err := k.ctx.Err(); err != nil {
		return err
	}
	// Files of floats may hold anything; one infinity would silence all around it when filtered.
	for i, v := range x {
		if !(v >= -16 && v <= 16) {
			x[i] = 0
		}
	}
	if k.res != nil {
		k.out = k.res.write(k.out, x)
	} else {
		k.out = append(k.out, x...)
	}
	if k.summing {
		k.sum(false)
	}
	if k.max > 0 && float64(k.length()) > (k.max+limitSlack)*SampleRate {
		return tooLong(k.max)
	}
	if k.keep > 0 && k.length() >= k.keep {
		return errEnough
	}
	return nil
}

// samples ends the sink and returns what it holds, within -1..1.
func (k *sink) samples() []float32 {
	k.end()
	if k.summing {
		k.sum(true)
	}
	if k.keep > 0 {
		k.out = k.out[:min(k.keep, len(k.out))]
	}
	for i, v := range k.out {
		k.out[i] = max(-1, min(1, v))
	}
	return k.out
}

func tooLong(max float64) error {
	limit := strconv.FormatFloat(max, 'f', -1, 64) + " seconds"
	if max >= 120 {
		limit += " (" + time.Duration(max*float64(time.Second)).Round(time.Second).String() + ")"
	}
	return fmt.Errorf("%w: at most %s are taken; cut it into shorter files", ErrTooLong, limit)
}
