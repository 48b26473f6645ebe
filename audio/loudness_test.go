package audio

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"
)

// call is a telephone call: one speaks on the left in the first second, the other, softly, on the right
// in the second one, and both, as loud, in the third.
func call(rate int) []float32 {
	x := make([]float32, 0, 6*rate)
	for i := range 3 * rate {
		v := float32(math.Sin(float64(i) * 2 * math.Pi * 500 / float64(rate)))
		l, r := 0.5*v, float32(0)
		switch i / rate {
		case 1:
			l, r = 0, 0.1*v
		case 2:
			l, r = 0.3*v, 0.3*v
		}
		x = append(x, l, r)
	}
	return x
}

func TestLoudness(t *testing.T) {
	files := map[string]func() []byte{
		"wav 16 kHz": func() []byte { return wav16(2, 16000, call(16000)) },
		"wav 8 kHz":  func() []byte { return wav16(2, 8000, call(8000)) },
		"flac":       func() []byte { return encode(t, wav16(2, 44100, call(44100)), "x.flac") },
		"mp3": func() []byte {
			return encode(t, wav16(2, 44100, call(44100)), "x.mp3", "-c:a", "libmp3lame", "-b:a", "128k", "-joint_stereo", "0")
		},
		"vorbis": func() []byte { return encode(t, wav16(2, 44100, call(44100)), "x.ogg", "-c:a", "libvorbis") },
		"opus": func() []byte {
			return encode(t, wav16(2, 48000, call(48000)), "x.opus", "-c:a", "libopus", "-b:a", "96k")
		},
		"webm": func() []byte {
			return encode(t, wav16(2, 48000, call(48000)), "x.webm", "-c:a", "libopus", "-b:a", "96k")
		},
		"aac": func() []byte { return encode(t, wav16(2, 44100, call(44100)), "x.m4a", "-c:a", "aac", "-b:a", "192k") },
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			b := file()
			l, r, err := Loudness(context.Background(), bytes.NewReader(b), int64(len(b)), Options{FFmpeg: FindFFmpeg()})
			if err != nil {
				t.Fatal(err)
			}
			if n := 3 * LoudnessRate; len(l) != len(r) || len(l) < n || len(l) > n+15 {
				t.Fatalf("%d and %d values for 3 s", len(l), len(r))
			}
			total := func(x []float32, second int) (sum float64) {
				for _, v := range x[second*100+10 : second*100+90] {
					sum += float64(v)
				}
				return sum / 80 / 160 / (2 / math.Pi) // amplitude of a sine
			}
			for i, want := range [3][2]float64{{0.5, 0}, {0, 0.1}, {0.3, 0.3}} {
				if gotL, gotR := total(l, i), total(r, i); math.Abs(gotL-want[0]) > 0.04 || math.Abs(gotR-want[1]) > 0.04 {
					t.Errorf("second %d: amplitudes %.3f and %.3f, want %v", i, gotL, gotR, want)
				}
			}
		})
	}
}

func TestLoudnessOfOneChannel(t *testing.T) {
	for name, o := range map[string]Options{"wav": {}, "pcm": {PCM: true}} {
		b := wav16(1, 16000, tone(440, 1, 16000))
		if l, r, err := Loudness(context.Background(), bytes.NewReader(b), int64(len(b)), o); l != nil || r != nil || err != nil {
			t.Errorf("%s: %d, %d, %v", name, len(l), len(r), err)
		}
	}
}

func TestLoudnessIsBounded(t *testing.T) {
	b := wav16(2, 16000, call(16000))
	if _, _, err := Loudness(context.Background(), bytes.NewReader(b), int64(len(b)), Options{SecondsMax: 2}); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
}

func TestPCM(t *testing.T) {
	x := speech(1, SampleRate)
	file := wav16(1, SampleRate, x)
	raw := file[44:]
	want, _, err := decodeBytes(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, info, err := decodeBytes(raw, Options{PCM: true})
	if err != nil || info != (Info{Format: PCM, Seconds: 1, SampleRate: SampleRate, Channels: 1}) {
		t.Fatalf("%+v, %v", info, err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d samples, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("sample %d is %v, want %v", i, got[i], want[i])
		}
	}
	if headed := append(PCMHeader(int64(len(raw))), raw...); !bytes.Equal(headed, file) {
		t.Errorf("with its header it is %x, want %x", headed[:44], file[:44])
	}
	if _, _, err := decodeBytes(raw[:1], Options{PCM: true}); !errors.Is(err, ErrEmpty) {
		t.Errorf("half a sample: %v", err)
	}
	if got, _, err := decodeBytes(raw[:2*100+1], Options{PCM: true}); len(got) != 100 || err != nil {
		t.Errorf("a hundred samples and a half: %d, %v", len(got), err)
	}
	if _, _, err := decodeBytes(raw, Options{PCM: true, SecondsMax: 0.5}); !errors.Is(err, ErrTooLong) {
		t.Errorf("twice too long: %v", err)
	}
}

func TestPCMHeaderOfALongRecording(t *testing.T) {
	const seconds = 60 * 3600 // 6.9 GB
	header := PCMHeader(seconds * 2 * SampleRate)
	info, err := Probe(longFile{header, seconds * 2 * SampleRate}, seconds*2*SampleRate+44)
	if err != nil || info.Seconds != seconds {
		t.Errorf("%+v, %v", info, err)
	}
}

// longFile is a header and silence.
type longFile struct {
	header []byte
	size   int64
}

func (f longFile) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(f.header)) {
		copy(p, f.header[off:])
	}
	return len(p), nil
}

func TestOnlyTheBeginningIsDecoded(t *testing.T) {
	x := speech(4, SampleRate)
	file := wav16(1, SampleRate, x)
	for name, b := range map[string][]byte{
		"wav": file, "opus": encode(t, file, "x.opus", "-c:a", "libopus", "-b:a", "32k"),
		"mp3": encode(t, file, "x.mp3", "-c:a", "libmp3lame"), "aac": encode(t, file, "x.m4a", "-c:a", "aac"),
	} {
		got, info, err := decodeBytes(b, Options{SecondsKeep: 3, FFmpeg: FindFFmpeg()})
		if err != nil || len(got) != 3*SampleRate || info.Seconds != 3 {
			t.Errorf("%s: %d samples, %+v, %v", name, len(got), info, err)
		}
	}
	if got, _, err := decodeBytes(file, Options{SecondsKeep: 5}); len(got) != 4*SampleRate || err != nil {
		t.Errorf("all of it: %d, %v", len(got), err)
	}
}
