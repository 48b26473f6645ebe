package caddymodule

import (
	"bytes"
	"context"
	_ "embed" // for spoken
	"io"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
	"github.com/whisperpool/whisperpool/upstream"
)

// spoken is what backends are tried with that are in doubt: two seconds in which John F. Kennedy says "And so, my
// fellow Americans" (1961, in the public domain), as WAV with 16 kHz. A server that is well finds words in it.
//
//go:embed spoken.wav
var spoken []byte

const spokenSeconds = 2

// trialModel is asked for where neither configuration nor backend has a name for a model.
const trialModel = "whisper-1"

// trial runs an attempt that is no client's, but the scheduler's: it shows whether a backend is well again, or does
// what its peers do.
func (p *Pool) trial(ctx context.Context, a dispatcher.Attempt) scheduler.Outcome {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	t := &transcription{pool: p, requestID: "trial", trial: true, request: trialRequest()}
	return t.try(ctx, a)
}

func trialRequest() upstream.Request {
	return upstream.Request{
		Params: transcript.Params{
			API: transcript.OpenAI, Task: transcript.Transcribe, Format: transcript.JSON, Language: "en", Model: trialModel,
		},
		AudioSeconds: spokenSeconds,
		File: upstream.File{
			Name: "trial.wav", ContentType: "audio/wav", Size: int64(len(spoken)),
			Open: func() io.ReadCloser { return io.NopCloser(bytes.NewReader(spoken)) },
		},
	}
}
