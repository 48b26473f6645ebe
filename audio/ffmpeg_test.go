package audio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fakeFFmpeg is a program that stands in for ffmpeg.
func fakeFFmpeg(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ffmpeg")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func isEmptyDir(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind in %s: %v, %v", dir, left, err)
	}
}

func TestWithoutFFmpeg(t *testing.T) {
	_, info, err := decodeBytes(mp4Movie("mp4a", 44100, 88200), Options{})
	if !errors.Is(err, ErrUnsupported) || info.Format != MP4 {
		t.Fatalf("%+v, %v", info, err)
	}
	for _, part := range []string{"MP4 or M4A", "no ffmpeg", nativeFormats} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestFFmpegThatIsMissing(t *testing.T) {
	_, _, err := decodeBytes(mp4Movie("mp4a", 44100, 88200), Options{FFmpeg: filepath.Join(t.TempDir(), "ffmpeg")})
	// That is this machine's fault and not the client's.
	if err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "ffmpeg") {
		t.Errorf("%v", err)
	}
}

func TestFindFFmpeg(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if got := FindFFmpeg(); got != "" {
		t.Errorf("found %q in an empty PATH", got)
	}
	path := fakeFFmpeg(t, "exit 1")
	t.Setenv("PATH", filepath.Dir(path))
	if got := FindFFmpeg(); got != path {
		t.Errorf("found %q, want %q", got, path)
	}
}

// What the process gets to see: the file and nothing else.
func TestFFmpegIsShutIn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("limits are set on Linux only")
	}
	t.Setenv("SECRET", "token")
	dir := t.TempDir()
	file := mp4Movie("mp4a", 44100, 88200)
	// The limits are set right after the start; each check waits for its own, as long as the test lets it.
	script := fmt.Sprintf(`
until [ "$(ulimit -f)" = 0 ] && [ "$(ulimit -v)" = %d ] && [ "$(ulimit -t)" = %d ] && [ "$(ulimit -n)" = %d ] && [ "$(ulimit -c)" = 0 ]; do :; done
[ -z "$SECRET$HOME$USER" ] || exit 1
[ "$(/usr/bin/wc -c </dev/fd/3)" -eq %d ] || exit 2
[ "$(/usr/bin/stat -L -c %%a-%%h /dev/fd/3)" = 600-0 ] || exit 3
[ "$PWD" = / ] || exit 4
/usr/bin/head -c 64000 /dev/zero`, ffmpegMemory/1024, ffmpegCPU+5, ffmpegFiles, len(file))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	x, _, err := Decode(ctx, bytes.NewReader(file), int64(len(file)), Options{FFmpeg: fakeFFmpeg(t, script), TempDir: dir, SecondsMax: 100})
	if err != nil || len(x) != 32000 {
		t.Errorf("%d samples, %v", len(x), err)
	}
	isEmptyDir(t, dir)
}

func TestFFmpegArguments(t *testing.T) {
	for format := range ffmpegDemuxers {
		line := strings.Join(ffmpegArguments(format, both, Options{SecondsMax: 12}), " ")
		for _, part := range []string{"-nostdin", "-protocol_whitelist file,pipe", "-format_whitelist " + ffmpegDemuxers[format] + " ", "-f " + ffmpegDemuxers[format] + " -i /dev/fd/3", "-vn", "-sn", "-dn", "-t 13.000", "-ac 1", "-ar 16000"} {
			if !strings.Contains(line, part) {
				t.Errorf("%s: no %q in %q", format, part, line)
			}
		}
	}
}

func TestFFmpegIsStopped(t *testing.T) {
	dir := t.TempDir()
	file := mp4Movie("mp4a", 44100, 88200)
	// With its context.
	ctx, cancel := context.WithCancel(context.Background())
	started := filepath.Join(t.TempDir(), "started")
	if err := os.WriteFile(started, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		// The program takes the file away once it runs.
		for {
			if _, err := os.Stat(started); err != nil {
				cancel()
				return
			}
			runtime.Gosched()
		}
	}()
	begin := time.Now()
	_, _, err := Decode(ctx, bytes.NewReader(file), int64(len(file)), Options{FFmpeg: fakeFFmpeg(t, "/bin/rm "+started+"; while :; do :; done"), TempDir: dir})
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	// When it says more than the limit.
	_, _, err = decodeBytes(file, Options{FFmpeg: fakeFFmpeg(t, "exec /bin/cat /dev/zero"), TempDir: dir, SecondsMax: 3})
	if !errors.Is(err, ErrTooLong) {
		t.Errorf("endless output: %v", err)
	}
	// When it fails.
	_, _, err = decodeBytes(file, Options{FFmpeg: fakeFFmpeg(t, "echo secret path >&2; exit 1"), TempDir: dir})
	if !errors.Is(err, ErrCorrupt) || strings.Contains(err.Error(), "secret") {
		t.Errorf("failure: %v", err)
	}
	// When it is killed, half a recording is not passed off for a whole one.
	_, _, err = decodeBytes(file, Options{FFmpeg: fakeFFmpeg(t, "/usr/bin/head -c 64000 /dev/zero; kill -9 $$"), TempDir: dir})
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "limit") {
		t.Errorf("killed: %v", err)
	}
	isEmptyDir(t, dir)
}

func TestFFmpegTakesNoOtherFile(t *testing.T) {
	ffmpeg := ffmpegPath(t)
	secret := filepath.Join(t.TempDir(), "secret.wav")
	if err := os.WriteFile(secret, wav16(1, 16000, speech(1, 16000)), 0o600); err != nil {
		t.Fatal(err)
	}
	// Scripts that ffmpeg would follow if it were left to guess.
	for name, text := range map[string]string{
		"concat":   "ffconcat version 1.0\nfile '" + secret + "'\n",
		"playlist": "#EXTM3U\n#EXTINF:10,\nfile://" + secret + "\n#EXT-X-ENDLIST\n",
	} {
		if x, _, err := decodeBytes([]byte(text), Options{FFmpeg: ffmpeg}); !errors.Is(err, ErrNotAudio) {
			t.Errorf("%s: %d samples, %v", name, len(x), err)
		}
		// Even behind something that passes for MP4.
		if x, _, err := decodeBytes(append(mp4Movie("mp4a", 44100, 88200), text...), Options{FFmpeg: ffmpeg}); err == nil {
			t.Errorf("%s: %d samples", name, len(x))
		}
	}
}

func TestFFmpegLimit(t *testing.T) {
	ffmpeg := ffmpegPath(t)
	b := encode(t, clip(), "x.aac", "-c:a", "aac", "-ar", "44100")
	if _, _, err := decodeBytes(b, Options{FFmpeg: ffmpeg, SecondsMax: 2}); !errors.Is(err, ErrTooLong) {
		t.Errorf("%v", err)
	}
	// A file that is cut off is used as far as it goes.
	x, _, err := decodeBytes(b[:len(b)/2], Options{FFmpeg: ffmpeg})
	if seconds := float64(len(x)) / SampleRate; err != nil || seconds < 1.5 || seconds > 2.6 {
		t.Errorf("half of it: %.2f s, %v", seconds, err)
	}
	// Nothing that can be decoded.
	if _, _, err := decodeBytes(mp4Movie("mp4a", 44100, 88200), Options{FFmpeg: ffmpeg}); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
		t.Errorf("an empty movie: %v", err)
	}
}
