package audio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Limits on an ffmpeg process, beside the time that the context gives it.
const (
	ffmpegMemory     = 2 << 30 // bytes of address space
	ffmpegCPU        = 60      // seconds, plus one for each ffmpegCPUPer seconds of audio
	ffmpegCPUPer     = 20
	ffmpegCPUUnknown = 24 * 3600 // seconds of audio that are thought of where the length is unknown
	ffmpegFiles      = 64
	ffmpegWaitDelay  = 2 * time.Second // for its pipes to close once it is killed
)

// ffmpegDemuxers are the demuxers that may be asked for, by what was sniffed: ffmpeg is not left to
// guess, since it also reads playlists and scripts that name other files.
var ffmpegDemuxers = map[Format]string{
	WAV: "wav", FLAC: "flac", MP3: "mp3", OggVorbis: "ogg", OggOpus: "ogg", OggFLAC: "ogg",
	WebM: "matroska", WebMOpus: "matroska", MP4: "mov", AAC: "aac",
}

// ffmpegCodecs are the decoders that ffmpeg may open: those of sound that these containers hold.
const ffmpegCodecs = "aac,aac_fixed,aac_latm,ac3,ac3_fixed,eac3,alac,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb," +
	"flac,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,libopus,vorbis,libvorbis,gsm,gsm_ms,libgsm,libgsm_ms,g722,g726," +
	"adpcm_ima_wav,adpcm_ima_qt,adpcm_ms,adpcm_g722,pcm_alaw,pcm_mulaw,pcm_s8,pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be," +
	"pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,qcelp,qdm2,qdmc,wmav1,wmav2,dca,truehd"

// FindFFmpeg returns the path of the ffmpeg program in PATH, or "".
func FindFFmpeg() string {
	path, err := exec.LookPath("ffmpeg")
	if err != nil {
		return ""
	}
	return path
}

// decodeFFmpeg has ffmpeg decode what why says isn't decoded here. The process sees one file that has
// no name any more, no network, no environment and no more CPU and memory than it may need.
func decodeFFmpeg(s *source, k *sink, info Info, o Options, why error) error {
	what := strings.TrimPrefix(why.Error(), errForFFmpeg.Error()+": ")
	if o.FFmpeg == "" {
		return fmt.Errorf("%w: this is %s, and the server has no ffmpeg to decode it; %s", ErrUnsupported, what, nativeFormats)
	}
	in, err := privateCopy(s, o.TempDir)
	if err != nil {
		return err
	}
	defer in.Close()
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.FFmpeg, ffmpegArguments(info.Format, k.side, o)...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.WaitDelay = ffmpegWaitDelay
	cmd.ExtraFiles = []*os.File{in}
	var complaint tail
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting ffmpeg: %w", err)
	}
	if err := limitProcess(cmd.Process.Pid, ffmpegSeconds(info, o)); err != nil {
		cancel()
		return errors.Join(fmt.Errorf("limiting ffmpeg: %w", err), cmd.Wait())
	}
	err = readSamples(out, k)
	if err != nil {
		cancel()
	}
	failed := cmd.Wait()
	if err != nil {
		return err
	}
	if failed != nil && cmd.ProcessState.ExitCode() < 0 && k.ctx.Err() == nil {
		// Killed, and not by us: what it has said so far may be half of the recording.
		return fmt.Errorf("%w: ffmpeg was stopped at its limit of CPU time or memory", ErrCorrupt)
	}
	if k.length() == 0 {
		if failed != nil && complaint.missing() {
			return fmt.Errorf("%w: this is %s, which the server's ffmpeg does not know", ErrUnsupported, what)
		}
		return fmt.Errorf("%w: ffmpeg finds nothing to decode in it", ErrCorrupt)
	}
	return nil
}

// ffmpegArguments is the command line; input is descriptor 3.
func ffmpegArguments(f Format, side side, o Options) []string {
	args := []string{
		"-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "1",
		"-protocol_whitelist", "file,pipe", "-format_whitelist", ffmpegDemuxers[f], "-codec_whitelist", ffmpegCodecs,
		"-f", ffmpegDemuxers[f], "-i", "/dev/fd/3",
		"-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-threads", "1",
	}
	switch {
	case o.SecondsKeep > 0:
		args = append(args, "-t", strconv.FormatFloat(o.SecondsKeep+1, 'f', 3, 64))
	case o.SecondsMax > 0:
		// A second more than is allowed, so that too long a file shows.
		args = append(args, "-t", strconv.FormatFloat(o.SecondsMax+1, 'f', 3, 64))
	}
	if side != both {
		args = append(args, "-af", "aformat=channel_layouts=stereo,pan=mono|c0=c"+strconv.Itoa(int(side)-1))
	}
	// 16 bits rather than floats: to floats, ffmpeg mixes channels down 3 dB too loud.
	return append(args, "-ac", "1", "-ar", strconv.Itoa(SampleRate), "-c:a", "pcm_s16le", "-f", "s16le", "pipe:1")
}

// ffmpegSeconds is the CPU time that a process gets.
func ffmpegSeconds(info Info, o Options) uint64 {
	seconds := max(info.Seconds, 60)
	if o.SecondsMax > 0 {
		seconds = o.SecondsMax
	} else if info.Seconds == 0 || info.Estimated {
		seconds = ffmpegCPUUnknown
	}
	return ffmpegCPU + uint64(min(seconds, 1e9)/ffmpegCPUPer)
}

// privateCopy writes the upload to a file that only this process can open, and takes its name away at
// once: whatever happens, nothing of it stays behind. ffmpeg needs a file because MP4 has its header
// at the end.
func privateCopy(s *source, dir string) (f *os.File, err error) {
	private, err := os.MkdirTemp(dir, "whisperpool-audio-")
	if err != nil {
		return nil, fmt.Errorf("a private folder for ffmpeg's input: %w", err)
	}
	f, err = os.CreateTemp(private, "input-")
	if rerr := os.RemoveAll(private); err == nil && rerr != nil {
		f.Close()
		return nil, rerr
	}
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(f, s.reader(0)); err != nil {
		f.Close()
		return nil, fmt.Errorf("copying the upload for ffmpeg: %w", err)
	}
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readSamples moves 16-bit samples to the sink until it refuses them.
func readSamples(r io.Reader, k *sink) error {
	if err := k.start(SampleRate); err != nil {
		return err
	}
	b := make([]byte, 64<<10)
	x := make([]float32, len(b)/2)
	convert := wavSamples(wavPCM, 16)
	for {
		n, end := io.ReadFull(r, b)
		n /= 2
		convert(x[:n], b)
		if err := k.mono(x[:n]); err != nil {
			return err
		}
		if n > 0 {
			k.good++
		}
		if end != nil {
			return nil //nolint:nilerr // its end or its death, which Wait tells of
		}
	}
}

// A tail keeps the last of what ffmpeg complains about.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-4096):]
	return len(p), nil
}

// missing reports that ffmpeg lacks a decoder, as against that the file is broken.
func (t *tail) missing() bool {
	return bytes.Contains(t.b, []byte("Decoder not found")) || bytes.Contains(t.b, []byte("none) not found")) ||
		bytes.Contains(t.b, []byte("whitelist"))
}
