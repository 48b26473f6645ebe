package audio

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"strings"
	"testing"
	"time"
)

// decodeSafely decodes what may be anything; it must come back soon and with one of our errors.
func decodeSafely(t *testing.T, name string, b []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	info, err := probeBytes(b)
	checkKind(t, name, err)
	if err == nil && (math.IsNaN(info.Seconds) || info.Seconds < 0 || info.Channels < 0 || info.SampleRate < 0) {
		t.Errorf("%s: Probe says %+v", name, info)
	}
	x, info, err := Decode(ctx, bytes.NewReader(b), int64(len(b)), Options{SecondsMax: 60})
	checkKind(t, name, err)
	if err == nil && len(x) == 0 {
		t.Errorf("%s: no samples and no error", name)
	}
	for _, v := range x {
		if !(v >= -1 && v <= 1) {
			t.Errorf("%s: a sample is %v; %+v", name, v, info)
			break
		}
	}
}

func checkKind(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, kind := range []error{ErrEmpty, ErrNotAudio, ErrCorrupt, ErrUnsupported, ErrTooLong} {
		if errors.Is(err, kind) {
			return
		}
	}
	t.Errorf("%s: an error of no kind: %v", name, err)
}

// damageCases are real files where ffmpeg is there, else those made by hand.
func damageCases(t *testing.T) map[string][]byte {
	files := seeds()
	if FindFFmpeg() == "" {
		t.Log("ffmpeg is not installed: damaging files made by hand only")
		return files
	}
	wav := wav16(1, 16000, speech(0.25, 16000))
	for name, c := range map[string][2]string{
		"real flac": {"x.flac", "-ar 16000"}, "real vorbis": {"x.ogg", "-c:a libvorbis"}, "real opus": {"x.opus", "-c:a libopus -b:a 24k"},
		"real celt": {"x.opus", "-c:a libopus -b:a 96k -ac 2"}, "real mp3": {"x.mp3", "-b:a 32k"}, "real mp3 44k": {"x.mp3", "-q:a 5 -ar 44100 -ac 2"},
		"real webm": {"-", "-f webm -c:a libopus"}, "real mp4": {"x.m4a", "-c:a aac"}, "real fragments": {"-", "-f mp4 -c:a aac -movflags frag_keyframe+empty_moov"},
		"real adts": {"x.aac", "-c:a aac"},
	} {
		files[name] = encode(t, wav, c[0], args(c[1])...)
	}
	return files
}

func TestCutAtAnyPlace(t *testing.T) {
	for name, b := range damageCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewSource(1))
			for n := range min(len(b), 40) {
				decodeSafely(t, fmt.Sprintf("%s cut at %d", name, n), b[:n])
			}
			for range 12 {
				n := rng.Intn(len(b) + 1)
				decodeSafely(t, fmt.Sprintf("%s cut at %d", name, n), b[:n])
			}
		})
	}
}

func TestDamagedAnywhere(t *testing.T) {
	for name, b := range damageCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewSource(2))
			for i := range 25 {
				decodeSafely(t, fmt.Sprintf("%s damaged, %d", name, i), damage(rng, b))
			}
		})
	}
}

// damage changes some bytes, mostly in the front, where the headers are; now and then it cuts a piece
// out or doubles one.
func damage(rng *rand.Rand, b []byte) []byte {
	b = append([]byte(nil), b...)
	for range 1 + rng.Intn(8) {
		at := rng.Intn(len(b))
		if rng.Intn(2) == 0 {
			at = rng.Intn(min(len(b), 300))
		}
		switch rng.Intn(4) {
		case 0:
			b[at] = byte(rng.Int())
		case 1:
			b[at] ^= 1 << rng.Intn(8)
		case 2:
			b[at] = []byte{0, 0xFF, 0x7F, 0x80}[rng.Intn(4)]
		case 3:
			if n := rng.Intn(min(64, len(b)-at)); rng.Intn(2) == 0 && len(b)-n > 16 {
				b = append(b[:at], b[at+n:]...)
			} else {
				b = append(b[:at+n], b[at:]...)
			}
		}
	}
	return b
}

// Half a file gives about half the sound, with the sound in its place.
func TestCutShortFilesAreUsed(t *testing.T) {
	wav := clip()
	whole := resample(speech(clipSeconds, 48000), 48000)
	for name, c := range map[string][2]string{
		"flac": {"x.flac", ""}, "vorbis": {"x.ogg", "-c:a libvorbis -page_duration 100000"}, "opus": {"x.opus", "-c:a libopus -b:a 96k -vbr off -page_duration 100000"},
		"mp3": {"x.mp3", "-b:a 128k -ar 44100"}, "webm": {"x.webm", "-c:a libopus -b:a 96k -vbr off"},
	} {
		b := encode(t, wav, c[0], args(c[1])...)
		y, info, err := decodeBytes(b[:len(b)*6/10], Options{})
		if err != nil || info.Seconds < 0.4*clipSeconds || info.Seconds > 0.8*clipSeconds {
			t.Errorf("%s: %+v, %v", name, info, err)
			continue
		}
		if c := correlate(whole[:len(y)], y); c < 0.95 {
			t.Errorf("%s: correlation %.3f", name, c)
		}
	}
}

// Damage in the middle loses what it hits and nothing behind it.
func TestSoundBehindDamageIsKept(t *testing.T) {
	wav := clip()
	whole := resample(speech(clipSeconds, 48000), 48000)
	for name, c := range map[string][2]string{
		"flac": {"x.flac", ""}, "vorbis": {"x.ogg", "-c:a libvorbis -page_duration 100000"}, "opus": {"x.opus", "-c:a libopus -b:a 96k -page_duration 100000"},
		"mp3": {"x.mp3", "-b:a 128k -ar 44100"}, "webm": {"x.webm", "-c:a libopus -b:a 96k -cluster_time_limit 300"},
	} {
		b := append([]byte(nil), encode(t, wav, c[0], args(c[1])...)...)
		copy(b[len(b)/2:], randomBytes(3, 1500))
		y, info, err := decodeBytes(b, Options{})
		if err != nil || info.Seconds < 0.8*clipSeconds {
			t.Errorf("%s: %+v, %v", name, info, err)
			continue
		}
		if shift, like := align(whole[len(whole)-3000:], y[len(y)-3000:], 1500); like < 0.8 {
			t.Errorf("%s: correlation %.3f at %d behind the damage", name, like, shift)
		}
	}
}

// What unpacks to far more than it is ends at the limit.
func TestBombs(t *testing.T) {
	silence := []byte{11<<3 | 3, 2, 0xFF} // 120 ms of wide-band SILK in 3 bytes
	for name, b := range map[string][]byte{
		"flac of constants": flacSilence(0, 20000), // 320 kB that are 22 hours
		"opus in ogg":       oggOpusFile(silence, 400, 255),
		"opus in webm":      webmFile(0, 40000, 1),
	} {
		for _, limit := range []float64{1, 30} {
			start := time.Now()
			_, _, err := decodeBytes(b, Options{SecondsMax: limit})
			if !errors.Is(err, ErrTooLong) || !strings.Contains(fmt.Sprint(err), fmt.Sprint(limit)) {
				t.Errorf("%s with a limit of %g s: %v", name, limit, err)
			}
			t.Logf("%s, %g s: %v", name, limit, time.Since(start).Round(time.Millisecond))
		}
	}
	// A header that tells the truth is refused before anything is decoded.
	if _, _, err := decodeBytes(wav16(1, 8000, make([]float32, 80000)), Options{SecondsMax: 9.5}); !errors.Is(err, ErrTooLong) {
		t.Errorf("10 s with a limit of 9.5 s: %v", err)
	}
	if _, _, err := decodeBytes(wav16(1, 8000, make([]float32, 80000)), Options{SecondsMax: 10}); err != nil {
		t.Errorf("10 s with a limit of 10 s: %v", err)
	}
}

// Vorbis headers that would keep the decoder busy for ever or take all memory.
func TestVorbisHeadersThatAreTraps(t *testing.T) {
	zeros := func(w *bitWriter, n int) []byte { return append(w.b, make([]byte, n)...) }
	many := vorbisBook(1, 1<<13).put(0, 2)
	for range 1 << 13 {
		many.put(12, 5)
	}
	for name, setup := range map[string][]byte{
		"no entries":                   zeros(vorbisBook(1, 0), 100),
		"one entry":                    zeros(vorbisBook(1, 1), 100),
		"16 million entries":           zeros(vorbisBook(1, 1<<24-1).put(1, 1).put(0, 5), 100),
		"no dimensions":                zeros(vorbisBook(0, 16).put(0, 2), 100),
		"a trillion values":            zeros(vorbisBook(65535, 1<<13).put(1, 1).put(0, 5).put(1<<13, 14).put(2, 4), 100),
		"ordered, lengths run out":     vorbisBook(1, 1000).put(1, 1).put(0, 5).b,
		"ordered, only zero lengths":   zeros(vorbisBook(1, 1000).put(1, 1).put(0, 5), 5000),
		"ordered, more than there are": zeros(vorbisBook(1, 1000).put(1, 1).put(0, 5).put(1023, 10), 100),
		"sparse, none used":            zeros(vorbisBook(1, 64).put(0, 1).put(1, 1), 100),
		"large and flat":               zeros(many.put(0, 4), 100),
		"empty":                        []byte("\x05vorbis"),
	} {
		b := vorbisFile(setup)
		if _, err := probeBytes(b); err != nil {
			t.Errorf("%s: Probe says %v", name, err)
		}
		start := time.Now()
		_, _, err := decodeBytes(b, Options{})
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("%s took %v", name, d)
		}
	}
}

func TestDecodeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, b := range map[string][]byte{"wav": wav16(1, 8000, make([]float32, 8000)), "flac": flacSilence(0, 50), "webm": webmFile(0, 50, 9)} {
		if _, _, err := Decode(ctx, bytes.NewReader(b), int64(len(b)), Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Amid the work: the reader itself ends the context.
	b := flacSilence(0, 20000)
	ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	r := &cancelingReader{ReaderAt: bytes.NewReader(b), at: 200_000, cancel: cancel}
	if _, _, err := Decode(ctx, r, int64(len(b)), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("amid decoding: %v", err)
	}
}

type cancelingReader struct {
	io.ReaderAt
	at     int64
	cancel func()
}

func (r *cancelingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.at && len(p) >= 32<<10 && off < 2*r.at {
		r.cancel()
	}
	return r.ReaderAt.ReadAt(p, off)
}

// A failing disk is not the client's fault, and must not be told as a damaged file.
func TestReadErrorsArePassedOn(t *testing.T) {
	for name, b := range seeds() {
		if name == "text" {
			continue
		}
		for _, at := range []int64{0, 20, int64(len(b)) / 2} {
			r := &failingReader{ReaderAt: bytes.NewReader(b), at: at}
			_, err := Probe(r, int64(len(b)))
			if r.failed && !errors.Is(err, errDisk) {
				t.Errorf("%s failing at %d: Probe says %v", name, at, err)
			}
			r.failed = false
			_, _, err = Decode(context.Background(), r, int64(len(b)), Options{})
			if r.failed && !errors.Is(err, errDisk) {
				t.Errorf("%s failing at %d: Decode says %v", name, at, err)
			}
		}
	}
}

var errDisk = errors.New("disk failure")

type failingReader struct {
	io.ReaderAt
	at     int64
	failed bool
}

func (r *failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.at {
		r.failed = true
		return 0, errDisk
	}
	return r.ReaderAt.ReadAt(p, off)
}

// An endless reader repeats a pattern behind a head, up to any size.
type endlessReader struct{ head, pattern []byte }

func (r endlessReader) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		at := off + int64(i)
		if at < int64(len(r.head)) {
			p[i] = r.head[at]
		} else {
			p[i] = r.pattern[(at-int64(len(r.head)))%int64(len(r.pattern))]
		}
	}
	return len(p), nil
}

// Probe's work is bounded on a terabyte of anything.
func TestProbeIsBounded(t *testing.T) {
	webm := webmFile(0, 1, 1)
	block := ebml(mkvSimpleBlock, []byte{0x81, 0, 0, 0x80, 72, 1})
	for name, r := range map[string]endlessReader{
		"zeros":               {nil, make([]byte, 8)},
		"0xFF":                {nil, []byte{0xFF}},
		"mpeg syncs":          {nil, []byte{0xFF, 0xFB}},
		"mp3 frames":          {nil, mp3Frames(1, func(int) []byte { return nil })},
		"mp3 after a tag":     {[]byte("ID3\x03\x00\x00\x7F\x7F\x7F\x7F"), []byte{0xFF, 0xFB, 0x90}},
		"tags in a row":       {nil, []byte("ID3\x03\x00\x00\x00\x00\x00\x00")},
		"smallest adts":       {nil, []byte{0xFF, 0xF1, 0x50, 0x80, 0, 0xFF, 0xFC}},
		"wav chunks":          {[]byte("RIFF\xFF\xFF\xFF\xFFWAVE"), []byte("junk\x00\x00\x00\x00")},
		"free boxes":          {nil, []byte("\x00\x00\x00\x08free")},
		"moov in moov":        {[]byte("\x00\x00\x00\x08ftyp"), []byte("\x7F\xFF\xFF\xFFmoov")},
		"trak in trak":        {[]byte("\x00\x00\x00\x08ftyp\x7F\xFF\xFF\xFFmoov"), []byte("\x7F\xFF\xFF\xFFtrak")},
		"minf in minf":        {[]byte("\x00\x00\x00\x08ftyp\x7F\xFF\xFF\xFFmoov\x7F\xFF\xFF\xFEtrak"), []byte("\x7F\xFF\xFF\xFFminf")},
		"moofs":               {mp4Movie("mp4a", 44100, 0), []byte("\x00\x00\x00\x18moof\x00\x00\x00\x10traf\x00\x00\x00\x08tfhd")},
		"ebml voids":          {[]byte{0x1A, 0x45, 0xDF, 0xA3, 0x80}, []byte{0xEC, 0x80}},
		"segments":            {[]byte{0x1A, 0x45, 0xDF, 0xA3, 0x80}, []byte{0x18, 0x53, 0x80, 0x67, 0xFF}},
		"blocks":              {webm, block},
		"clusters":            {webm, []byte{0x1F, 0x43, 0xB6, 0x75, 0xFF}},
		"clusters of nothing": {webm, ebml(mkvCluster, nil)},
		"ogg pages":           {oggPageBytes(7, 0, 2, opusHead(1, 0)), oggPageBytes(7, -1, 0, []byte{1})},
		"ogg begins":          {nil, oggPageBytes(7, 0, 2, []byte("nothing"))},
		"ogg of another":      {oggPageBytes(7, 0, 2, opusHead(1, 0)), oggPageBytes(8, 100, 0, []byte{1})},
		"flac blocks":         {flacSilence(0, 0)[:4], []byte{1, 0, 0, 0}},
		"flac syncs":          {flacSilence(0, 1), []byte{0xFF, 0xF8, 0x70, 0x08}},
	} {
		c := &countingReader{ReaderAt: r}
		start := time.Now()
		info, err := Probe(c, 1<<40)
		d := time.Since(start)
		checkKind(t, name, err)
		if c.bytes > probeBudget || c.calls > probeBudget/readCost || d > 30*time.Second {
			t.Errorf("%s: %d bytes in %d calls and %v: %+v, %v", name, c.bytes, c.calls, d, info, err)
		}
	}
}

// A last cluster that begins long before the end: the start is stepped through and extended.
func TestProbeOfLongClusters(t *testing.T) {
	b := webmFile(0, 4500, 400)
	info, err := probeBytes(b)
	if err != nil || math.Abs(info.Seconds-90) > 1 || !info.Estimated {
		t.Errorf("%+v, %v", info, err)
	}
	if info, err := probeBytes(webmFile(77.5, 100, 400)); err != nil || info.Seconds != 77.5 || info.Estimated {
		t.Errorf("with a duration: %+v, %v", info, err)
	}
}

// A recording cut out of a stream that runs for days is as long as it is.
func TestOggThatBeginsLate(t *testing.T) {
	b := oggOpusFile(append([]byte{9 << 3}, randomBytes(2, 40)...), 20, 50)
	late := append([]byte(nil), b...)
	for at := bytes.Index(late[1:], []byte("OggS")) + 1; ; {
		if g := binary.LittleEndian.Uint64(late[at+6:]); g > 0 {
			binary.LittleEndian.PutUint64(late[at+6:], g+48000*3600*50)
		}
		next := bytes.Index(late[at+4:], []byte("OggS"))
		if next < 0 {
			break
		}
		at += 4 + next
	}
	for name, b := range map[string][]byte{"from 0": b, "late": late} {
		info, err := probeBytes(b)
		if err != nil || math.Abs(info.Seconds-20) > 0.2 {
			t.Errorf("%s: Probe says %+v, %v", name, info, err)
		}
	}
}

func FuzzProbe(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &countingReader{ReaderAt: bytes.NewReader(b)}
		info, err := Probe(c, int64(len(b)))
		checkKind(t, "fuzz", err)
		if math.IsNaN(info.Seconds) || math.IsInf(info.Seconds, 0) || info.Seconds < 0 || c.bytes > probeBudget {
			t.Errorf("%+v after %d bytes", info, c.bytes)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { decodeSafely(t, "fuzz", b) })
}
