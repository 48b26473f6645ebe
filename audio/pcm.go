package audio

import (
	"encoding/binary"
	"math"
)

// PCM is samples without a header: 16 bits, signed, little-endian, mono, at [SampleRate]. Nothing tells
// it from other bytes, so it is taken for that only where Options.PCM says so.
const PCM Format = "pcm"

const pcmBytes = 2 // a sample

func pcmInfo(size int64) (Info, error) {
	if size < pcmBytes {
		return Info{}, ErrEmpty
	}
	return Info{Format: PCM, Seconds: float64(size/pcmBytes) / SampleRate, SampleRate: SampleRate, Channels: 1}, nil
}

func pcmFile(size int64) wavFile {
	return wavFile{codec: wavPCM, channels: 1, rate: SampleRate, bits: 8 * pcmBytes, len: size}
}

// PCMHeader is the header of a WAV file that makes one of so many bytes of PCM.
func PCMHeader(size int64) []byte {
	const header = 44
	riff, data := uint32(math.MaxUint32), uint32(math.MaxUint32) // "not told", for what 32 bits can't
	if size <= math.MaxUint32-header {
		riff, data = uint32(size+header-8), uint32(size)
	}
	le := binary.LittleEndian
	b := make([]byte, 0, header)
	b = le.AppendUint32(append(b, "RIFF"...), riff)
	b = le.AppendUint32(append(b, "WAVEfmt "...), 16)
	b = le.AppendUint16(b, wavPCM)
	b = le.AppendUint16(b, 1) // channel
	b = le.AppendUint32(b, SampleRate)
	b = le.AppendUint32(b, SampleRate*pcmBytes)
	b = le.AppendUint16(b, pcmBytes)
	b = le.AppendUint16(b, 8*pcmBytes)
	return le.AppendUint32(append(b, "data"...), data)
}
