package audio

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
)

// A compressedCase is a file made by ffmpeg and what is expected of it.
type compressedCase struct {
	name   string
	format Format
	file   string // "-" for a pipe
	args   []string
	ffmpeg bool // decoding needs it

	rate     int
	channels int
	snr      float64 // of our decoding to ffmpeg's, dB
}

func args(s string) []string { return strings.Fields(s) }

// compressedCases cover every container and codec. Where lossy decoders may round differently the bar
// is lower; 40 dB is still far from any audible or transcribable difference.
var compressedCases = []compressedCase{
	{"flac", FLAC, "x.flac", args("-ar 44100 -ac 2"), false, 44100, 2, 55},
	{"flac of 24 bits", FLAC, "x.flac", args("-ar 48000 -sample_fmt s32 -bits_per_raw_sample 24"), false, 48000, 1, 55},
	{"flac of six channels", FLAC, "x.flac", args("-ac 6 -ar 48000"), false, 48000, 6, 0},
	{"flac to a pipe", FLAC, "-", args("-f flac -ar 16000"), false, 16000, 1, 80},
	{"vorbis", OggVorbis, "x.ogg", args("-c:a libvorbis -ar 44100 -ac 2"), false, 44100, 2, 40},
	{"vorbis mono 16k", OggVorbis, "x.ogg", args("-c:a libvorbis -ar 16000"), false, 16000, 1, 40},
	{"opus of speech", OggOpus, "x.opus", args("-c:a libopus -b:a 12k -application voip"), false, 48000, 1, 30},
	{"opus hybrid", OggOpus, "x.opus", args("-c:a libopus -b:a 28k -application voip"), false, 48000, 1, 30},
	{"opus stereo", OggOpus, "x.opus", args("-c:a libopus -b:a 96k -ac 2"), false, 48000, 2, 30},
	{"opus of 60 ms", OggOpus, "x.opus", args("-c:a libopus -b:a 16k -frame_duration 60"), false, 48000, 1, 30},
	{"opus of 2.5 ms", OggOpus, "x.opus", args("-c:a libopus -b:a 64k -frame_duration 2.5 -application lowdelay"), false, 48000, 1, 30},
	{"mp3", MP3, "x.mp3", args("-b:a 128k -ar 44100 -ac 2"), false, 44100, 2, 40},
	{"mp3 of MPEG-2", MP3, "x.mp3", args("-b:a 48k -ar 22050"), false, 22050, 1, 40},
	{"mp3 of padded MPEG-2", MP3, "x.mp3", args("-b:a 32k -ar 22050"), false, 22050, 1, 40},
	{"mp3 of full MPEG-2", MP3, "x.mp3", args("-b:a 160k -ar 22050 -ac 2"), false, 22050, 2, 40},
	{"mp3 of another encoder", MP3, "x.mp3", args("-c:a libshine -b:a 64k -ar 44100"), false, 44100, 1, 40},
	{"mp3 at 16 kHz", MP3, "x.mp3", args("-b:a 32k -ar 16000"), false, 16000, 1, 40},
	{"mp3 VBR", MP3, "x.mp3", args("-q:a 4 -ar 44100"), false, 44100, 1, 40},
	{"mp3 VBR without a tag", MP3, "x.mp3", args("-q:a 4 -ar 44100 -write_xing 0 -id3v2_version 0"), false, 44100, 1, 40},
	{"mp3 to a pipe", MP3, "-", args("-f mp3 -b:a 64k -ar 32000"), false, 32000, 1, 40},
	{"mp3 with big tags", MP3, "x.mp3", append(args("-b:a 64k -ar 44100 -write_id3v1 1 -metadata"), "title="+strings.Repeat("x", 30000)), false, 44100, 1, 40},
	{"mp3 of MPEG-2.5", MP3, "x.mp3", args("-b:a 16k -ar 8000"), true, 8000, 1, 60},
	{"layer 2", MP3, "x.mp2", args("-c:a mp2 -b:a 96k -ar 44100"), true, 44100, 1, 60},
	{"webm opus", WebMOpus, "x.webm", args("-c:a libopus -b:a 32k"), false, 48000, 1, 30},
	{"webm like a browser's", WebMOpus, "-", args("-f webm -c:a libopus -b:a 32k"), false, 48000, 1, 30},
	{"webm live", WebMOpus, "-", args("-f webm -live 1 -c:a libopus -b:a 32k"), false, 48000, 1, 30},
	{"matroska opus", WebMOpus, "x.mkv", args("-c:a libopus -b:a 32k"), false, 48000, 1, 30},
	{"webm vorbis", WebM, "x.webm", args("-c:a libvorbis -ar 44100"), true, 44100, 1, 60},
	{"matroska aac", WebM, "x.mkv", args("-c:a aac -ar 44100"), true, 44100, 1, 60},
	{"m4a", MP4, "x.m4a", args("-c:a aac -ar 44100"), true, 44100, 0, 60},
	{"m4a, header first", MP4, "x.m4a", args("-c:a aac -ar 44100 -movflags faststart"), true, 44100, 0, 60},
	{"m4a alac", MP4, "x.m4a", args("-c:a alac -ar 44100"), true, 44100, 1, 60},
	{"mp4 in fragments", MP4, "x.mp4", args("-c:a aac -ar 44100 -movflags frag_keyframe+empty_moov -frag_duration 500000"), true, 44100, 0, 60},
	{"mp4 in fragments to a pipe", MP4, "-", args("-f mp4 -c:a aac -ar 48000 -movflags frag_keyframe+empty_moov+default_base_moof -frag_duration 300000"), true, 48000, 0, 60},
	{"mov", MP4, "x.mov", args("-c:a pcm_s16le -ar 44100"), true, 44100, 1, 60},
	{"adts", AAC, "x.aac", args("-c:a aac -ar 44100"), true, 44100, 1, 60},
	{"ogg flac", OggFLAC, "x.oga", args("-c:a flac -ar 16000"), true, 16000, 1, 60},
}

const clipSeconds = 4

// clip is what the compressed files are made of.
var clip = sync.OnceValue(func() []byte { return wav16(1, 48000, speech(clipSeconds, 48000)) })

func TestCompressedFormats(t *testing.T) {
	ffmpeg := ffmpegPath(t)
	wav := clip()
	for _, c := range compressedCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := encode(t, wav, c.file, c.args...)
			info, err := probeBytes(b)
			if err != nil || info.Format != c.format || info.SampleRate != c.rate || info.Channels != c.channels {
				t.Fatalf("Probe says %+v, %v", info, err)
			}
			if math.Abs(info.Seconds-clipSeconds) > 0.02*clipSeconds+0.05 {
				t.Errorf("Probe says %.3f s of %d", info.Seconds, clipSeconds)
			}
			var o Options // what is decoded in Go must do without ffmpeg
			if c.ffmpeg {
				if _, _, err = decodeBytes(b, o); !errors.Is(err, ErrUnsupported) {
					t.Errorf("without ffmpeg: %v", err)
				}
				o.FFmpeg = ffmpeg
			}
			y, info, err := decodeBytes(b, o)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(info.Seconds-clipSeconds) > 0.02*clipSeconds || info.Estimated || len(y) != int(math.Round(info.Seconds*SampleRate)) {
				t.Errorf("decoded %.3f s of %d, %d samples", info.Seconds, clipSeconds, len(y))
			}
			ref := reference(t, b)
			shift, correlation := align(ref[SampleRate:SampleRate+4000], y[SampleRate:SampleRate+4000], 24)
			snr := signalToNoise(ref[max(0, -shift):], y[max(0, shift):])
			t.Logf("%.1f dB, correlation %.5f, shift %d", snr, correlation, shift)
			if correlation < 0.99 || snr < c.snr || shift != 0 {
				t.Errorf("%.1f dB, correlation %.4f and a shift of %d samples to ffmpeg's decoding", snr, correlation, shift)
			}
		})
	}
}

func TestChannelsAreAveragedByFFmpegToo(t *testing.T) {
	ffmpeg := ffmpegPath(t)
	x := tone(600, 2, 48000)
	both := make([]float32, 0, 2*len(x))
	for _, v := range x {
		both = append(both, v, v/2)
	}
	b := encode(t, wav16(2, 48000, both), "x.m4a", "-c:a", "aac", "-b:a", "256k")
	y, _, err := decodeBytes(b, Options{FFmpeg: ffmpeg})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := component(y[3200:len(y)-3200], 600, SampleRate), 0.5*0.75; math.Abs(got-want) > 0.01 {
		t.Errorf("amplitude %.3f, want %.3f", got, want)
	}
}

// Long files, where Probe no longer looks at every frame.
func TestProbeOfLongFiles(t *testing.T) {
	const seconds = 100
	// Half of it speech, half of it silence, so that the bit rate does vary.
	piece := speech(5, 16000)
	x := make([]float32, 0, seconds*16000)
	for i := range seconds / 5 {
		if i%2 == 0 || i > 13 {
			x = append(x, piece...)
		} else {
			x = append(x, make([]float32, len(piece))...)
		}
	}
	wav := wav16(1, 16000, x)
	for _, c := range []struct {
		name, file, args string
		estimated        bool
		within           float64
	}{
		{"mp3 VBR", "x.mp3", "-q:a 6 -ar 24000", false, 0.002},
		{"mp3 VBR without a tag", "x.mp3", "-q:a 6 -ar 24000 -write_xing 0", true, 0.05},
		{"mp3 CBR without a tag", "x.mp3", "-b:a 40k -ar 24000 -write_xing 0", false, 0.002},
		{"adts", "x.aac", "-c:a aac -aac_coder fast -ar 24000 -b:a 32k", true, 0.05},
		{"opus", "x.opus", "-c:a libopus -b:a 16k", false, 0.002},
		{"webm to a pipe", "-", "-f webm -c:a libopus -b:a 16k", false, 0.002},
		{"mp4 in fragments", "-", "-f mp4 -c:a aac -aac_coder fast -ar 16000 -b:a 24k -movflags frag_keyframe+empty_moov -frag_duration 1000000", false, 0.005},
		{"mp4 in many fragments", "-", "-f mp4 -c:a aac -aac_coder fast -ar 16000 -b:a 24k -movflags frag_keyframe+empty_moov -frag_duration 64000", false, 0.005},
		{"flac to a pipe", "-", "-f flac", false, 0.002},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := encode(t, wav, c.file, args(c.args)...)
			r := &countingReader{ReaderAt: bytes.NewReader(b)}
			info, err := Probe(r, int64(len(b)))
			t.Logf("%d bytes: %+v, read %d bytes in %d calls", len(b), info, r.bytes, r.calls)
			if err != nil || math.Abs(info.Seconds-seconds) > c.within*seconds || info.Estimated != c.estimated {
				t.Errorf("%+v, %v", info, err)
			}
			if r.bytes > probeBudget {
				t.Errorf("read %d bytes", r.bytes)
			}
		})
	}
}

func TestChainedOgg(t *testing.T) {
	wav := clip()
	opus := encode(t, wav, "x.opus", args("-c:a libopus -b:a 28k -application voip")...)
	vorbis := encode(t, wav, "x.ogg", args("-c:a libvorbis -ar 44100 -ac 2")...)
	for name, parts := range map[string][][]byte{
		"opus then vorbis": {opus, vorbis}, "vorbis then opus then vorbis": {vorbis, opus, vorbis},
	} {
		var b []byte
		for _, p := range parts {
			b = append(b, p...)
		}
		if _, err := probeBytes(b); err != nil {
			t.Errorf("%s: Probe says %v", name, err)
		}
		y, info, err := decodeBytes(b, Options{})
		if want := float64(clipSeconds * len(parts)); err != nil || math.Abs(info.Seconds-want) > 0.02 {
			t.Errorf("%s: %d samples, %+v, %v", name, len(y), info, err)
		}
	}
}

// A picture or film beside the sound is nothing to stumble over.
func TestFilesWithPictures(t *testing.T) {
	ffmpeg := ffmpegPath(t)
	wav := clip()
	for _, c := range []struct {
		format     Format
		file, args string
		ffmpeg     string
	}{
		{MP4, "x.mp4", "-f lavfi -i testsrc=duration=4:size=64x48:rate=5 -map 1:v -map 0:a -c:v mpeg4 -c:a aac", ffmpeg},
		{WebMOpus, "x.webm", "-f lavfi -i testsrc=duration=4:size=64x48:rate=5 -map 1:v -map 0:a -c:v libvpx -deadline realtime -c:a libopus", ""},
		{OggVorbis, "x.ogv", "-f lavfi -i testsrc=duration=4:size=64x48:rate=5 -map 1:v -map 0:a -c:v libtheora -c:a libvorbis -ar 44100", ""},
	} {
		b := encode(t, wav, c.file, args(c.args)...)
		info, err := probeBytes(b)
		if err != nil || info.Format != c.format || math.Abs(info.Seconds-clipSeconds) > 0.1 {
			t.Errorf("%s: Probe says %+v, %v", c.file, info, err)
		}
		_, info, err = decodeBytes(b, Options{FFmpeg: c.ffmpeg})
		if err != nil || math.Abs(info.Seconds-clipSeconds) > 0.1 {
			t.Errorf("%s: %+v, %v", c.file, info, err)
		}
	}
	// A film without sound says so.
	for _, file := range []string{"x.mp4", "x.webm", "x.ogv"} {
		codec := map[string]string{"x.mp4": "mpeg4", "x.webm": "libvpx", "x.ogv": "libtheora"}[file]
		b := encode(t, wav, file, args("-f lavfi -i testsrc=duration=1:size=64x48:rate=5 -map 1:v -c:v "+codec)...)
		_, err := probeBytes(b)
		if !errors.Is(err, ErrNotAudio) || !strings.Contains(fmt.Sprint(err), "without") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestTagsBeforeOtherFormats(t *testing.T) {
	id3 := append([]byte("ID3\x04\x00\x00\x00\x00\x10\x00"), make([]byte, 2048)...)
	flac := encode(t, clip(), "x.flac", args("-ar 44100 -ac 2")...)
	mp3 := encode(t, clip(), "x.mp3", args("-b:a 128k -ar 44100 -ac 2")...)
	for f, b := range map[Format][]byte{FLAC: flac, MP3: mp3} {
		y, info, err := decodeBytes(append(append([]byte(nil), id3...), b...), Options{})
		if err != nil || info.Format != f || math.Abs(float64(len(y))/SampleRate-clipSeconds) > 0.05 {
			t.Errorf("%s behind an ID3 tag: %+v, %v", f, info, err)
		}
	}
	// Cut out of the middle, as a stream's recorder leaves it.
	y, info, err := decodeBytes(mp3[len(mp3)/2:], Options{})
	if err != nil || info.Format != MP3 || math.Abs(float64(len(y))/SampleRate-clipSeconds/2) > 0.15 {
		t.Errorf("the second half of an MP3: %+v, %d samples, %v", info, len(y), err)
	}
}
