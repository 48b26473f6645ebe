package audio

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestEmpty(t *testing.T) {
	for _, size := range []int64{0, -1} {
		if _, err := Probe(bytes.NewReader(nil), size); !errors.Is(err, ErrEmpty) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if _, _, err := decodeBytes(nil, Options{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("Decode: %v", err)
	}
}

func TestWhatIsNoAudioIsNamed(t *testing.T) {
	pad := func(magic string) []byte { return append([]byte(magic), randomBytes(5, 3000)...) }
	for looks, b := range map[string][]byte{
		"an HTML page":             []byte("\n <!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>"),
		"JSON":                     []byte(`{"error": {"message": "no such file"}}`),
		"an XML document":          []byte("\uFEFF<?xml version=\"1.0\"?><a/>"),
		"an SVG picture":           []byte("<svg xmlns='http://www.w3.org/2000/svg'></svg>"),
		"text":                     []byte("Grüße, this is a transcript, not a recording. " + strings.Repeat("é", 400)),
		"text;":                    []byte("Get free stuff, and skip mdat. No moov here."),
		"a playlist":               []byte("#EXTM3U\n#EXT-X-TARGETDURATION:10\nfile:///etc/passwd\n"),
		"audio in base64":          []byte("UklGRiQAAABXQVZFZm10IBAAAAABAAEA"),
		"a PDF document":           pad("%PDF-1.7"),
		"a PNG picture":            pad("\x89PNG\r\n\x1A\n"),
		"a JPEG picture":           pad("\xFF\xD8\xFF\xE0"),
		"a zip archive":            pad("PK\x03\x04"),
		"gzip":                     pad("\x1F\x8B\x08"),
		"an AVI video":             pad("RIFF\x00\x10\x00\x00AVI "),
		"a WebP picture":           pad("RIFF\x00\x10\x00\x00WEBP"),
		"AIFF":                     pad("FORM\x00\x00\x10\x00AIFF"),
		"an AMR recording":         pad("#!AMR\n"),
		"a WMA, WMV or ASF file":   pad("\x30\x26\xB2\x75\x8E\x66\xCF\x11"),
		"a model file":             pad("lmgg"),
		"nothing but zeros":        make([]byte, 100_000),
		"no format that is known":  randomBytes(9, 100_000),
		"the first bytes":          []byte("RIFF\x00\x00"),
		"an Ogg file without":      oggPageBytes(1, 0, 2, []byte("Speex   1.2")),
		"but Speex and Theora":     join(oggPageBytes(1, 0, 2, []byte("Speex   1.2")), oggPageBytes(2, 0, 2, []byte("\x80theora"))),
		"an MPEG transport stream": append(append([]byte("G"), make([]byte, 187)...), append([]byte("G"), make([]byte, 400)...)...),
	} {
		_, err := probeBytes(b)
		if !errors.Is(err, ErrNotAudio) || !strings.Contains(fmt.Sprint(err), looks) {
			t.Errorf("%s: %v", looks, err)
		}
		if !strings.Contains(fmt.Sprint(err), takenFormats) {
			t.Errorf("%s: the message does not say what is taken: %v", looks, err)
		}
		if _, _, derr := decodeBytes(b, Options{FFmpeg: "/nonexistent"}); fmt.Sprint(derr) != fmt.Sprint(err) {
			t.Errorf("%s: Decode says %v", looks, derr)
		}
	}
}

// Noise must not be taken for MP3, whose frames begin with eleven bits only.
func TestNoiseIsNotAudio(t *testing.T) {
	for seed := range int64(60) {
		if info, err := probeBytes(randomBytes(seed, 80_000)); !errors.Is(err, ErrNotAudio) {
			t.Errorf("seed %d: %+v, %v", seed, info, err)
		}
	}
}

func TestFilesThatAreCutOff(t *testing.T) {
	all := seeds()
	for name, b := range map[string][]byte{
		"flac":             all["flac"][:30],
		"flac, no frames":  all["flac"][:42],
		"ogg":              all["opus"][:20],
		"mp4 without moov": all["mp4"][:200],
		"webm":             all["webm"][:60],
		"id3 only":         []byte("ID3\x04\x00\x00\x00\x00\x01\x00 and nothing behind it"),
	} {
		if _, err := probeBytes(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := decodeBytes(b, Options{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: Decode says %v", name, err)
		}
	}
}

// Headers that say too much or that nothing follows.
func TestHandmadeFiles(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want Info
	}{
		"flac":          {flacSilence(0, 3), Info{FLAC, 3 * 65535. / 16000, false, 16000, 1}},
		"flac, told":    {flacSilence(160000, 3), Info{FLAC, 10, false, 16000, 1}},
		"opus":          {oggOpusFile(append([]byte{9 << 3}, randomBytes(2, 40)...), 3, 50), Info{OggOpus, 3 - 312./48000, false, 48000, 1}},
		"webm":          {webmFile(0, 100, 40), Info{WebMOpus, 2, false, 48000, 1}},
		"mp3":           {mp3Frames(10, func(int) []byte { return nil }), Info{MP3, 11520. / 44100, false, 44100, 2}},
		"adts":          {adtsFramesBytes(6), Info{AAC, 6 * 1024. / 44100, false, 44100, 2}},
		"mp4":           {mp4Movie("mp4a", 44100, 88200), Info{MP4, 2, false, 44100, 0}},
		"mp4, 2^32 - 1": {mp4Movie("alac", 44100, 1<<32-1), Info{MP4, 0, true, 44100, 2}},
		"mp4, scale 0":  {mp4Movie("alac", 0, 1000), Info{MP4, 0, true, 44100, 2}},
	} {
		info, err := probeBytes(c.b)
		if d := info.Seconds - c.want.Seconds; err != nil || d > 1e-3 || d < -1e-3 {
			t.Errorf("%s: %+v, %v; want %+v", name, info, err, c.want)
		}
		if info.Seconds = c.want.Seconds; info != c.want {
			t.Errorf("%s: %+v, want %+v", name, info, c.want)
		}
	}
	if _, err := probeBytes(mp4Movie("enca", 44100, 88200)); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "encrypted") {
		t.Errorf("encrypted MP4: %v", err)
	}
}

func TestLacing(t *testing.T) {
	a, b, c := []byte("first"), bytes.Repeat([]byte("second"), 100), []byte("third")
	for name, block := range map[string][]byte{
		"Xiph":  join([]byte{2, 5, 255, 255, 90}, a, b, c),
		"EBML":  join([]byte{2, 0x85, 0x40 | (595+8191)>>8, (595 + 8191) & 0xFF}, a, b, c),
		"equal": []byte("\x02firstthirdfifth"),
	} {
		kind := map[string]byte{"Xiph": 1, "equal": 2, "EBML": 3}[name]
		want := [][]byte{a, b, c}
		if name == "equal" {
			want = [][]byte{[]byte("first"), []byte("third"), []byte("fifth")}
		}
		if got := unlace(block, kind); !equalFrames(got, want) {
			t.Errorf("%s: %q", name, got)
		}
		for n := range block {
			unlace(block[:n], kind) // must not panic
		}
	}
}

func equalFrames(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
