package calibrate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/whisperpool/whisperpool/audio"
)

// pause is what is put between recordings, in seconds.
const pause = 0.25

// Recordings decodes files, and what is audio in folders, and joins them. ffmpeg may be "".
func Recordings(ctx context.Context, paths []string, ffmpeg string) (samples []float32, err error) {
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			some, err := decode(ctx, name, ffmpeg)
			if errors.Is(err, audio.ErrNotAudio) && name != path {
				return nil // a text beside recordings
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			samples = append(append(samples, some...), make([]float32, pause*audio.SampleRate)...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return samples, nil
}

func decode(ctx context.Context, name, ffmpeg string) ([]float32, error) {
	f, err := os.Open(name) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	const longest = 3600 // seconds; more than any clip needs
	samples, _, err := audio.Decode(ctx, f, info.Size(), audio.Options{SecondsKeep: longest, FFmpeg: ffmpeg})
	return samples, err
}

// cut is a piece of the speech that begins anywhere and starts over at the end; silence without speech.
func cut(speech []float32, seconds float64, rng *rand.Rand) []float32 {
	n := int(seconds * audio.SampleRate)
	if len(speech) == 0 {
		return make([]float32, n)
	}
	out := make([]float32, 0, n)
	for at := rng.IntN(len(speech)); len(out) < n; at = 0 {
		out = append(out, speech[at:min(len(speech), at+n-len(out))]...)
	}
	return out
}

// wav is a file of 16 bits, mono.
func wav(samples []float32) []byte {
	le, data := binary.LittleEndian, uint32(2*len(samples)) //nolint:gosec // minutes of audio
	b := make([]byte, 0, 44+2*len(samples))
	b = le.AppendUint32(append(b, "RIFF"...), 36+data)
	b = le.AppendUint32(append(b, "WAVEfmt "...), 16)
	b = le.AppendUint16(le.AppendUint16(b, 1), 1)
	b = le.AppendUint32(le.AppendUint32(b, audio.SampleRate), 2*audio.SampleRate)
	b = le.AppendUint16(le.AppendUint16(b, 2), 16)
	b = le.AppendUint32(append(b, "data"...), data)
	for _, v := range samples {
		b = le.AppendUint16(b, uint16(int16(math.Round(float64(max(-1, min(1, v)))*math.MaxInt16)))) //nolint:gosec // two's complement is meant
	}
	return b
}
