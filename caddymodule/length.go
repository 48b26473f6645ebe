package caddymodule

import "github.com/whisperpool/whisperpool/audio"

// bitRates are typical for speech as it is uploaded, in bits a second, for files whose header does
// not tell their length. A guess only orders the queue, and is corrected by what comes back.
var bitRates = map[audio.Format]float64{
	audio.WAV:       16 * 16000,
	audio.FLAC:      8 * 16000,
	audio.MP3:       128e3,
	audio.AAC:       128e3,
	audio.MP4:       128e3,
	audio.OggVorbis: 96e3,
	audio.OggFLAC:   8 * 16000,
	audio.OggOpus:   32e3,
	audio.WebMOpus:  32e3,
	audio.WebM:      64e3,
}

// A header's length is believed up to what any codec makes of speech. A few bytes that claim to be hours would
// else hold up the queue, and let it seem so long that others are refused.
const (
	bytesPerSecondLeast = 50
	secondsFree         = 60 // of silence, for instance, of which there may be much in few bytes
)

// believe is what to count on of what an upload's header says. Lengths that can't be are guesses, as are those
// that are not told.
func believe(info audio.Info, bytes int64) audio.Info {
	if info.Seconds <= 0 {
		info.Seconds, info.Estimated = guessSeconds(info.Format, bytes), true
	} else if most := secondsFree + float64(bytes)/bytesPerSecondLeast; info.Seconds > most {
		info.Seconds, info.Estimated = most, true
	}
	return info
}

// guessSeconds is the length of an upload by its size and content.
func guessSeconds(format audio.Format, bytes int64) float64 {
	rate, ok := bitRates[format]
	if !ok {
		rate = 64e3
	}
	return float64(bytes) * 8 / rate
}
