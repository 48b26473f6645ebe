// Package audio says what an upload is: its container and codec by its own bytes, its length from
// the container's header, and its samples as 16 kHz mono. It never looks at file names or content
// types, and never opens a socket.
package audio

import "errors"

// SampleRate is the rate in Hz of all decoded audio, which is what whisper takes.
const SampleRate = 16000

// Format is what the bytes of an upload say they are.
type Format string

// Formats that are told apart. Those of the first group are decoded in Go, those of the second by
// ffmpeg where it is installed.
const (
	WAV       Format = "wav"
	FLAC      Format = "flac"
	MP3       Format = "mp3"
	OggVorbis Format = "ogg/vorbis"
	OggOpus   Format = "ogg/opus"
	WebMOpus  Format = "webm/opus"

	MP4     Format = "mp4"
	WebM    Format = "webm" // WebM or Matroska with another codec than Opus
	AAC     Format = "aac"  // ADTS
	OggFLAC Format = "ogg/flac"
)

// Info is what an upload's header says.
type Info struct {
	Format     Format
	Seconds    float64 // length; 0 when it cannot be told without decoding
	Estimated  bool    // Seconds is a guess from size and bit rate
	SampleRate int     // Hz, 0 when unknown
	Channels   int     // 0 when unknown
}

// Errors of Probe and Decode; each wraps a sentence that is fit for the client.
var (
	ErrEmpty       = errors.New("the audio file is empty")
	ErrNotAudio    = errors.New("the file is not audio in a known format")
	ErrCorrupt     = errors.New("the audio file is damaged or cut short")
	ErrUnsupported = errors.New("the audio format is not supported here")
	ErrTooLong     = errors.New("the audio is too long")
)
