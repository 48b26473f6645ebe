package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestWAVCodecs(t *testing.T) {
	le := binary.LittleEndian
	x := speech(1.5, SampleRate)
	for _, c := range []struct {
		name        string
		codec, bits int
		encode      func(b []byte, v float32) []byte
		snr         float64
	}{
		{"8 bits", wavPCM, 8, func(b []byte, v float32) []byte { return append(b, byte(math.Round(float64(v)*127)+128)) }, 25},
		{"16 bits", wavPCM, 16, pcm16, 70},
		{"24 bits", wavPCM, 24, func(b []byte, v float32) []byte {
			u := uint32(int32(float64(v) * (1<<23 - 1)))
			return append(b, byte(u), byte(u>>8), byte(u>>16))
		}, 100},
		{"32 bits", wavPCM, 32, func(b []byte, v float32) []byte {
			return le.AppendUint32(b, uint32(int32(float64(v)*(1<<31-1))))
		}, 120},
		{"float", wavFloat, 32, func(b []byte, v float32) []byte { return le.AppendUint32(b, math.Float32bits(v)) }, 200},
		{"double", wavFloat, 64, func(b []byte, v float32) []byte { return le.AppendUint64(b, math.Float64bits(float64(v))) }, 200},
		{"A-law", wavALaw, 8, func(b []byte, v float32) []byte { return append(b, nearestLaw(aLaw, v)) }, 30},
		{"mu-law", wavMuLaw, 8, func(b []byte, v float32) []byte { return append(b, nearestLaw(muLaw, v)) }, 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := wavBytes(c.codec, 1, SampleRate, c.bits, x, c.encode)
			info, err := probeBytes(b)
			if want := (Info{Format: WAV, Seconds: 1.5, SampleRate: SampleRate, Channels: 1}); err != nil || info != want {
				t.Errorf("Probe says %+v, %v; want %+v", info, err, want)
			}
			y, info, err := decodeBytes(b, Options{})
			if err != nil || len(y) != len(x) || info.Seconds != 1.5 {
				t.Fatalf("%d samples, %+v, %v", len(y), info, err)
			}
			if snr := signalToNoise(x, y); snr < c.snr {
				t.Errorf("%.1f dB, want %g", snr, c.snr)
			}
		})
	}
}

// nearestLaw finds the byte whose expansion is nearest: slow, and independent of any table.
func nearestLaw(expand func(byte) float32, v float32) byte {
	best, distance := byte(0), math.Inf(1)
	for i := range 256 {
		if d := math.Abs(float64(expand(byte(i)) - v)); d < distance {
			best, distance = byte(i), d
		}
	}
	return best
}

// The ends and the smallest steps of both laws as ITU-T G.711 tabulates them, of 4096 and of 8192.
func TestLawsAgreeWithG711(t *testing.T) {
	for _, c := range []struct {
		expand func(byte) float32
		b      byte
		want   float32
	}{
		{aLaw, 0xD5, 1. / 4096}, {aLaw, 0x55, -1. / 4096}, {aLaw, 0xAA, 4032. / 4096}, {aLaw, 0x2A, -4032. / 4096},
		{muLaw, 0xFF, 0}, {muLaw, 0x7F, 0}, {muLaw, 0x80, 8031. / 8192}, {muLaw, 0x00, -8031. / 8192}, {muLaw, 0xFE, 2. / 8192},
	} {
		if got := c.expand(c.b); got != c.want {
			t.Errorf("byte %#x expands to %v, want %v", c.b, got, c.want)
		}
	}
}

func TestWAVAgreesWithFFmpeg(t *testing.T) {
	wav := wav16(1, SampleRate, speech(2, SampleRate))
	for _, codec := range []string{"pcm_u8", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw"} {
		b := encode(t, wav, "x.wav", "-c:a", codec)
		y, _, err := decodeBytes(b, Options{})
		if err != nil {
			t.Errorf("%s: %v", codec, err)
			continue
		}
		if snr := signalToNoise(reference(t, b), y); snr < 55 {
			t.Errorf("%s: %.1f dB to ffmpeg's decoding", codec, snr)
		}
	}
	// WAVE_FORMAT_EXTENSIBLE, RF64 and sizes left open by a pipe, as ffmpeg makes them.
	for name, b := range map[string][]byte{
		"extensible": encode(t, wav, "x.wav", "-ac", "6", "-ar", "48000", "-c:a", "pcm_s24le"),
		"RF64":       encode(t, wav, "x.wav", "-rf64", "always"),
		"piped":      encode(t, wav, "-", "-f", "wav"),
	} {
		info, err := probeBytes(b)
		if err != nil || math.Abs(info.Seconds-2) > 0.001 {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
		y, _, err := decodeBytes(b, Options{})
		if err != nil || len(y) != 2*SampleRate {
			t.Errorf("%s: %d samples, %v", name, len(y), err)
		}
	}
}

func TestWAVAveragesChannels(t *testing.T) {
	left, right := tone(500, 1, 48000), tone(900, 1, 48000)
	both := make([]float32, 0, 2*len(left))
	mean := make([]float32, len(left))
	for i := range left {
		both = append(both, left[i], right[i])
		mean[i] = (left[i] + right[i]) / 2
	}
	y, info, err := decodeBytes(wav16(2, 48000, both), Options{})
	if err != nil || info.Channels != 2 || info.SampleRate != 48000 {
		t.Fatalf("%+v, %v", info, err)
	}
	if snr := signalToNoise(resample(mean, 48000), y); snr < 70 {
		t.Errorf("%.1f dB", snr)
	}
}

func TestWAVSizesThatLie(t *testing.T) {
	x := speech(1, SampleRate)
	good := wav16(1, SampleRate, x)
	size := func(riff, data uint32) []byte {
		b := append([]byte(nil), good...)
		binary.LittleEndian.PutUint32(b[4:], riff)
		binary.LittleEndian.PutUint32(b[40:], data)
		return b
	}
	for name, c := range map[string]struct {
		b       []byte
		samples int
	}{
		"data 0":             {size(0, 0), len(x)},
		"data unknown":       {size(math.MaxUint32, math.MaxUint32), len(x)},
		"data past the end":  {size(1<<30, 1<<30), len(x)},
		"data less":          {size(36+1000, 1000), 500},
		"cut short":          {good[:len(good)/2], (len(good)/2 - 44) / 2},
		"cut within sample":  {good[:44+7], 3},
		"one sample":         {good[:46], 1},
		"trailing LIST":      {append(append([]byte(nil), good...), "LIST\x04\x00\x00\x00INFO"...), len(x)},
		"odd chunk in front": {withChunk(good, "bext", []byte("abc")), len(x)},
		"big LIST in front":  {withChunk(good, "LIST", make([]byte, 100_000)), len(x)},
		"ds64":               {rf64(good, int64(len(x)*2)), len(x)},
		"ds64 lies":          {rf64(good, 1<<50), len(x)},
		"ds64 negative":      {rf64(good, -5), len(x)},
		"BW64":               {append([]byte("BW64"), rf64(good, int64(len(x)*2))[4:]...), len(x)},
	} {
		info, err := probeBytes(c.b)
		if want := float64(c.samples) / SampleRate; err != nil || math.Abs(info.Seconds-want) > 1e-9 {
			t.Errorf("%s: Probe says %+v, %v; want %g s", name, info, err, want)
		}
		y, _, err := decodeBytes(c.b, Options{})
		if err != nil || len(y) != c.samples {
			t.Errorf("%s: %d samples, %v; want %d", name, len(y), err, c.samples)
		}
	}
}

// withChunk puts a chunk in front of the format.
func withChunk(wav []byte, id string, body []byte) []byte {
	b := append([]byte(nil), wav[:12]...)
	b = append(b, id...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	if len(body)%2 == 1 {
		b = append(b, 0)
	}
	return append(b, wav[12:]...)
}

func rf64(wav []byte, data int64) []byte {
	le := binary.LittleEndian
	ds64 := le.AppendUint64(nil, uint64(data+36))
	ds64 = le.AppendUint64(ds64, uint64(data))
	b := withChunk(wav, "ds64", append(ds64, make([]byte, 12)...))
	copy(b, "RF64\xFF\xFF\xFF\xFF")
	le.PutUint32(b[36+40:], math.MaxUint32)
	return b
}

func TestWAVThatIsDamaged(t *testing.T) {
	good := wav16(1, SampleRate, speech(0.1, SampleRate))
	change := func(at int, v ...byte) []byte {
		b := append([]byte(nil), good...)
		copy(b[at:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"header only":        good[:44],
		"ends before data":   good[:36],
		"ends within format": good[:30],
		"RIFF WAVE only":     good[:12],
		"no channels":        change(22, 0, 0),
		"9000 channels":      change(22, 0x28, 0x23),
		"rate 0":             change(24, 0, 0, 0, 0),
		"rate 4 GHz":         change(24, 255, 255, 255, 255),
		"13 bits":            change(32, 5, 0, 40, 0),
		"chunks without end": append(append([]byte(nil), good[:12]...), strings.Repeat("junk\x00\x00\x00\x00", 10000)...),
		"data before format": append(append([]byte(nil), good[:12]...), good[36:]...),
	} {
		if _, err := probeBytes(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: Probe says %v", name, err)
		}
		if _, _, err := decodeBytes(b, Options{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: Decode says %v", name, err)
		}
	}
}

func TestWAVWithACodecForFFmpeg(t *testing.T) {
	b := encode(t, wav16(1, SampleRate, speech(3, SampleRate)), "x.wav", "-c:a", "adpcm_ima_wav")
	info, err := probeBytes(b)
	if err != nil || math.Abs(info.Seconds-3) > 0.1 || !info.Estimated {
		t.Errorf("Probe says %+v, %v", info, err)
	}
	if _, _, err := decodeBytes(b, Options{}); !errors.Is(err, ErrUnsupported) || !strings.Contains(fmt.Sprint(err), "0x0011") {
		t.Errorf("without ffmpeg: %v", err)
	}
	y, _, err := decodeBytes(b, Options{FFmpeg: ffmpegPath(t)})
	if err != nil || signalToNoise(reference(t, b), y) < 60 {
		t.Errorf("%d samples, %v", len(y), err)
	}
}
