package audio

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// speech is a sound like a voice: harmonics of a gliding pitch below 5 kHz, in syllables with gaps.
func speech(seconds float64, rate int) []float32 {
	x := make([]float32, int(seconds*float64(rate)))
	phase := 0.0
	for i := range x {
		t := float64(i) / float64(rate)
		pitch := 130 + 30*math.Sin(2*math.Pi*0.7*t) + 8*math.Sin(2*math.Pi*5*t)
		phase += pitch / float64(rate)
		envelope := math.Pow(math.Abs(math.Sin(2*math.Pi*1.6*t)), 0.6)
		formant := 500 + 400*math.Sin(2*math.Pi*0.9*t)
		v := 0.0
		for h := 1.0; h*pitch < 5000; h++ {
			d := (h*pitch - formant) / 350
			d2 := (h*pitch - 2400) / 900
			v += (math.Exp(-d*d) + 0.25*math.Exp(-d2*d2) + 0.01) * math.Sin(2*math.Pi*h*phase)
		}
		x[i] = float32(0.12 * envelope * v)
	}
	return x
}

func tone(hz, seconds float64, rate int) []float32 {
	x := make([]float32, int(seconds*float64(rate)))
	for i := range x {
		x[i] = float32(0.5 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
	}
	return x
}

// wavBytes is a WAV of interleaved samples; encode appends one sample.
func wavBytes(codec, channels, rate, bits int, x []float32, encode func(b []byte, v float32) []byte) []byte {
	var data []byte
	for _, v := range x {
		data = encode(data, v)
	}
	return wavWith(codec, channels, rate, bits, data)
}

func wavWith(codec, channels, rate, bits int, data []byte) []byte {
	le := binary.LittleEndian
	b := append([]byte("RIFF"), 0, 0, 0, 0)
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint32(b, 16)
	b = le.AppendUint16(b, uint16(codec))
	b = le.AppendUint16(b, uint16(channels))
	b = le.AppendUint32(b, uint32(rate))
	b = le.AppendUint32(b, uint32(rate*channels*bits/8))
	b = le.AppendUint16(b, uint16(channels*bits/8))
	b = le.AppendUint16(b, uint16(bits))
	b = append(b, "data"...)
	b = le.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	le.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

func pcm16(b []byte, v float32) []byte {
	return binary.LittleEndian.AppendUint16(b, uint16(int16(math.Round(float64(max(-1, min(1, v)))*32767))))
}

func wav16(channels, rate int, x []float32) []byte {
	return wavBytes(wavPCM, channels, rate, 16, x, pcm16)
}

// decodeBytes decodes with no ffmpeg unless o says so.
func decodeBytes(b []byte, o Options) ([]float32, Info, error) {
	return Decode(context.Background(), bytes.NewReader(b), int64(len(b)), o)
}

func probeBytes(b []byte) (Info, error) { return Probe(bytes.NewReader(b), int64(len(b))) }

// ffmpegPath skips the test where there is no ffmpeg to make its input with.
func ffmpegPath(t testing.TB) string {
	t.Helper()
	path := FindFFmpeg()
	if path == "" {
		t.Skip("ffmpeg is not installed, and this test's input is made with it: apt-get install ffmpeg")
	}
	return path
}

// encoded holds what ffmpeg made, by how it was made.
var encoded sync.Map

// encode makes a file with ffmpeg from a WAV: to a file, so that headers can be completed, or to a pipe
// if the name is "-". What was made before is not made again.
func encode(t testing.TB, wav []byte, name string, args ...string) []byte {
	t.Helper()
	ffmpeg := ffmpegPath(t)
	key := fmt.Sprint(len(wav), crc32.ChecksumIEEE(wav), name, args)
	dir := t.TempDir()
	made, _ := encoded.LoadOrStore(key, sync.OnceValues(func() ([]byte, error) {
		return runFFmpeg(ffmpeg, dir, wav, name, args)
	}))
	b, err := made.(func() ([]byte, error))()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func runFFmpeg(ffmpeg, dir string, wav []byte, name string, args []string) ([]byte, error) {
	in, out := filepath.Join(dir, "in.wav"), "-"
	if name != "-" {
		out = filepath.Join(dir, name)
	}
	if err := os.WriteFile(in, wav, 0o600); err != nil {
		return nil, err
	}
	line := append([]string{"-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-f", "wav", "-i", in}, args...)
	cmd := exec.Command(ffmpeg, append(line, out)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("ffmpeg %v: %w: %s", args, err, stderr.Bytes())
	}
	if name != "-" {
		return os.ReadFile(out)
	}
	return stdout.Bytes(), nil
}

// reference is ffmpeg's own decoding of a file to mono at SampleRate.
func reference(t testing.TB, file []byte) []float32 {
	t.Helper()
	in := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(in, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(ffmpegPath(t), "-nostdin", "-loglevel", "error", "-i", in, "-ac", "1", "-ar", "16000", "-f", "s16le", "-").Output()
	if err != nil {
		t.Fatalf("ffmpeg: %v", err)
	}
	x := make([]float32, len(out)/2)
	wavSamples(wavPCM, 16)(x, out)
	return x
}

// align returns the shift of b against a, within most samples, at which they are most alike, and their
// correlation there.
func align(a, b []float32, most int) (shift int, correlation float64) {
	correlation = -2
	for s := -most; s <= most; s++ {
		x, y := a, b
		if s > 0 {
			y = y[min(s, len(y)):]
		} else {
			x = x[min(-s, len(x)):]
		}
		if c := correlate(x, y); c > correlation {
			shift, correlation = s, c
		}
	}
	return shift, correlation
}

func correlate(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range min(len(a), len(b)) {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}

// signalToNoise is how far b is from a, in dB.
func signalToNoise(a, b []float32) float64 {
	var signal, noise float64
	for i := range min(len(a), len(b)) {
		d := float64(a[i]) - float64(b[i])
		signal, noise = signal+float64(a[i])*float64(a[i]), noise+d*d
	}
	return 10 * math.Log10(signal/math.Max(noise, 1e-30))
}

func rms(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(max(1, len(x))))
}

// A countingReader counts what is read of it.
type countingReader struct {
	io.ReaderAt
	bytes, calls int64
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.bytes += int64(n)
	c.calls++
	return n, err
}

// randomBytes is noise that is the same each time.
func randomBytes(seed int64, n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}
