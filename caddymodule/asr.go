package caddymodule

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net/http"
	"runtime"

	"github.com/caddyserver/caddy/v2"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/transcript"
	"github.com/whisperpool/whisperpool/upstream"
)

// detectSeconds of a recording tell its language: whisper looks at one window.
const detectSeconds = 30

// pcmSecond is the bytes of a second of audio without a header.
const pcmSecond = 2 * audio.SampleRate

// serveStatus answers GET /status with the version, by which Bazarr sees whether it has the right
// address. It says nothing of the pool: it is asked by anybody.
func serveStatus(w http.ResponseWriter) {
	version := caddy.CustomVersion
	if version == "" {
		version = "whisperpool"
	}
	writeJSON(w, http.StatusOK, map[string]string{"version": version})
}

func probePCM(form *upload) (audio.Info, *transcript.Error) {
	if form.file.size < pcmSecond/audio.SampleRate {
		return audio.Info{}, transcript.Invalid(form.field, "invalid_file", "%s", audio.ErrEmpty.Error())
	}
	return audio.Info{
		Format: audio.WAV, Seconds: float64(form.file.size) / pcmSecond, SampleRate: audio.SampleRate, Channels: 1,
	}, nil
}

// asrFile is the upload as backends are to get it: with a header if it has none, since only our own
// backend takes audio without; and where its language is all that is asked for no more than its beginning,
// so that not every backend has to take in a whole film for it.
func (t *transcription) asrFile(ctx context.Context, form *upload, p transcript.Params, info audio.Info) (upstream.File, audio.Info, *transcript.Error) {
	file := upstream.File{Name: form.fileName, ContentType: form.contentType, Size: form.file.size, Open: form.file.Open}
	long := p.DetectOnly && (info.Seconds > detectSeconds || info.Seconds == 0 || info.Estimated)
	switch {
	case p.PCM:
		size := form.file.size
		if long {
			size = detectSeconds * pcmSecond
			info.Seconds = detectSeconds
		}
		return headed(form.file, size), info, nil
	case !long:
		return file, info, nil
	}
	start, err := t.beginning(ctx, form.file)
	switch {
	case errors.Is(err, audio.ErrUnsupported): // decoded by backends alone: they get it whole
		return file, info, nil
	case ctx.Err() != nil || errors.Is(err, errNoRoom):
		return file, info, noRoom()
	case err != nil:
		return file, info, transcript.Invalid(form.field, "invalid_file", "%s", err.Error())
	}
	t.file.Close() // the whole of it is not needed any more
	t.file = start
	if t.pool.poisons.has(start, t.arrived) {
		return file, info, poisonous()
	}
	seconds := float64(start.size) / pcmSecond
	return headed(start, start.size), audio.Info{Format: audio.WAV, Seconds: seconds, SampleRate: audio.SampleRate, Channels: 1}, nil
}

// headed is the first bytes of audio without a header as a WAV file.
func headed(from *spool, size int64) upstream.File {
	size -= size % (pcmSecond / audio.SampleRate)
	header := audio.PCMHeader(size)
	return upstream.File{
		Name: "audio.wav", ContentType: "audio/wav", Size: int64(len(header)) + size,
		Open: func() io.ReadCloser {
			rest := from.Open()
			return struct {
				io.Reader
				io.Closer
			}{io.MultiReader(bytes.NewReader(header), io.LimitReader(rest, size)), rest}
		},
	}
}

// decoding bounds how many uploads are decoded at once.
var decoding = make(chan struct{}, runtime.GOMAXPROCS(0))

// beginning decodes the first seconds of an upload into a spool of their own, as audio without a header.
func (t *transcription) beginning(ctx context.Context, file *spool) (*spool, error) {
	select {
	case decoding <- struct{}{}:
		defer func() { <-decoding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	samples, _, err := audio.Decode(ctx, file, file.size, audio.Options{SecondsKeep: detectSeconds})
	if err != nil {
		return nil, err
	}
	pcm := make([]byte, 0, 2*len(samples))
	for _, v := range samples {
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(int16(math.Round(float64(v)*math.MaxInt16))))
	}
	start := &spool{account: file.account, memory: file.memory, bytesMax: file.bytesMax, dir: file.dir}
	if _, err := start.ReadFrom(bytes.NewReader(pcm)); err != nil {
		start.Close()
		return nil, err
	}
	return start, nil
}
