package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync"
)

// Clip is what a job uploads as its file.
type Clip struct {
	Name string
	Size int64
	Open func() io.Reader // from its beginning; may be called again
}

// Encoding is how generated speech is stored.
type Encoding int

// The encodings, both WAV at 16 kHz, mono.
const (
	PCM   Encoding = iota // 16 bits, 32 kB a second: what most programs make
	MuLaw                 // 8 bits, 16 kB a second
)

const speechRate = 16000 // Hz

// Speech is generated audio that sounds like speech but says nothing: voiced syllables of gliding
// pitch with pauses between them. It has the size, the format and, for whoever looks for silence,
// the shape of speech. A real model makes some words of it or none, and may take longer than it does
// over speech; a server whose answers matter is measured with recordings.
type Speech struct {
	lengths  Lengths
	encoding Encoding
	samples  []byte // of one minute, repeated as often as a clip needs
}

// NewSpeech makes speech of such lengths.
func NewSpeech(lengths Lengths, encoding Encoding) *Speech {
	return &Speech{lengths: lengths, encoding: encoding, samples: minutes[encoding]()}
}

// minutes are the samples by encoding, made when they are first wanted.
var minutes = map[Encoding]func() []byte{
	PCM:   sync.OnceValue(func() []byte { return encode(babble(60*speechRate), PCM) }),
	MuLaw: sync.OnceValue(func() []byte { return encode(babble(60*speechRate), MuLaw) }),
}

func (s *Speech) String() string { return "generated speech of " + s.lengths.String() }

// Pick draws a length, and where in the minute the clip begins, so that no two are alike.
func (s *Speech) Pick(rng *rand.Rand) (seconds float64, clip int) {
	seconds = s.lengths.next(rng)
	return seconds, rng.IntN(60 * speechRate)
}

// Clip is a WAV of the job's length.
func (s *Speech) Clip(job Job) Clip {
	width := len(s.samples) / (60 * speechRate)
	frames := int64(math.Round(job.Seconds * speechRate))
	data := frames * int64(width)
	header := wavHeader(s.encoding, data)
	return Clip{
		Name: fmt.Sprintf("speech-%d.wav", job.Index),
		Size: int64(len(header)) + data + data&1,
		Open: func() io.Reader {
			body := &loop{samples: s.samples, at: job.Clip * width, left: data}
			return io.MultiReader(bytes.NewReader(header), body, bytes.NewReader(make([]byte, data&1)))
		},
	}
}

// wavHeader is the header of a WAV with so many bytes of samples (the format chunk of RFC 2361).
func wavHeader(e Encoding, data int64) []byte {
	codec, bytesPerFrame := uint16(1), uint16(2)
	if e == MuLaw {
		codec, bytesPerFrame = 7, 1
	}
	le := binary.LittleEndian
	h := append([]byte("RIFF"), 0, 0, 0, 0)
	h = append(h, "WAVEfmt "...)
	h = le.AppendUint32(h, 16)
	h = le.AppendUint16(h, codec)
	h = le.AppendUint16(h, 1)
	h = le.AppendUint32(h, speechRate)
	h = le.AppendUint32(h, speechRate*uint32(bytesPerFrame))
	h = le.AppendUint16(h, bytesPerFrame)
	h = le.AppendUint16(h, 8*bytesPerFrame)
	h = append(h, "data"...)
	h = le.AppendUint32(h, uint32(data))
	le.PutUint32(h[4:], uint32(int64(len(h)-8)+data+data&1))
	return h
}

// babble is speech-like sound: a pulse train that glides in pitch, through two resonators that move
// from syllable to syllable as formants do, at four or five syllables a second, with a pause after a
// few.
func babble(n int) []float64 {
	rng := rand.New(rand.NewPCG(1, 1))
	x := make([]float64, n)
	var low, high resonator
	phase := 0.0
	for at := 0; at < n; {
		length := min(n-at, int((0.16+0.1*rng.Float64())*speechRate))
		if rng.IntN(6) == 0 { // a pause
			at += length
			continue
		}
		low.tune(300+500*rng.Float64(), 80)
		high.tune(900+1500*rng.Float64(), 120)
		pitch, glide := 100+60*rng.Float64(), 40*(rng.Float64()-0.5)
		for i := range length {
			share := float64(i) / float64(length)
			phase += (pitch + glide*share) / speechRate
			pulse := 0.02 * rng.NormFloat64() // breath
			if phase >= 1 {
				phase--
				pulse++
			}
			x[at+i] = math.Sin(math.Pi*share) * (low.step(pulse) + 0.5*high.step(pulse))
		}
		at += length
	}
	loudest := 0.0
	for _, v := range x {
		loudest = max(loudest, math.Abs(v))
	}
	for i := range x {
		x[i] *= 0.5 / loudest
	}
	return x
}

// resonator is a filter with one peak: two poles at its frequency.
type resonator struct{ a, b, y1, y2 float64 }

// tune sets the peak and its width, in Hz.
func (r *resonator) tune(hz, width float64) {
	radius := math.Exp(-math.Pi * width / speechRate)
	r.a, r.b = 2*radius*math.Cos(2*math.Pi*hz/speechRate), -radius*radius
}

func (r *resonator) step(x float64) float64 {
	y := x + r.a*r.y1 + r.b*r.y2
	r.y1, r.y2 = y, r.y1
	return y
}

func encode(x []float64, e Encoding) []byte {
	var out []byte
	for _, v := range x {
		if e == MuLaw {
			out = append(out, muLaw(v))
			continue
		}
		out = binary.LittleEndian.AppendUint16(out, uint16(int16(math.Round(v*math.MaxInt16))))
	}
	return out
}

// muLaw encodes a sample as ITU-T G.711 has it: sign, the place of the highest bit, four bits
// below it, all inverted.
func muLaw(v float64) byte {
	const bias, clip = 33, 8158 // in units of 14 bits
	magnitude := int(math.Round(math.Abs(v) * 8192))
	magnitude = min(magnitude, clip) + bias
	exponent := 7
	for exponent > 0 && magnitude < 1<<(exponent+5) {
		exponent--
	}
	code := byte(exponent<<4 | magnitude>>(exponent+1)&0x0f)
	if v < 0 {
		code |= 0x80
	}
	return ^code
}

// loop reads left bytes of samples, beginning somewhere and starting over at the end.
type loop struct {
	samples []byte
	at      int
	left    int64
}

// next is the longest piece that can be had at once, at most so many bytes.
func (l *loop) next(most int) []byte {
	if l.at == len(l.samples) {
		l.at = 0
	}
	piece := l.samples[l.at:min(len(l.samples), l.at+most)]
	return piece[:min(int64(len(piece)), l.left)]
}

func (l *loop) advance(n int) {
	l.at += n
	l.left -= int64(n)
}

func (l *loop) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.next(len(p)))
	l.advance(n)
	return n, nil
}

// WriteTo saves the copy that Read makes: a minute of samples is written as it lies.
func (l *loop) WriteTo(w io.Writer) (written int64, err error) {
	for l.left > 0 {
		n, err := w.Write(l.next(len(l.samples)))
		l.advance(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
