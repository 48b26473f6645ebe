package backend

import (
	"context"
	"errors"
	"time"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/transcript"
)

// SpeechDetector hears where somebody speaks, so that silence need not be transcribed.
type SpeechDetector interface {
	// Speech returns the probability that somebody speaks for each [SpeechWindow] of the samples in turn; the last
	// window may be shorter. It looks at ctx at least once for each minute of audio. At most one call runs at once.
	Speech(ctx context.Context, samples []float32) ([]float32, error)
	Close() error
}

// SpeechWindow is how many samples get one probability of speech: 32 ms.
const SpeechWindow = 512

// detectors is the pool of those that are free. They work on the CPU, beside the slots.
type detectors chan SpeechDetector

func newDetectors(all []SpeechDetector) detectors {
	pool := make(detectors, len(all))
	for _, d := range all {
		pool <- d
	}
	return pool
}

// close frees the detectors, none of which is in use any more.
func (p detectors) close() (err error) {
	for range cap(p) {
		select {
		case d := <-p:
			err = errors.Join(err, d.Close())
		default: // of a request that did not stop
		}
	}
	return err
}

// checkVAD refuses who wants silence cut out by a server that cannot. From whisper.cpp's clients that is an order;
// for others, who can say no more than that silence may be filtered out, it is a hint.
func (s *Server) checkVAD(p transcript.Params) *transcript.Error {
	if on := p.VAD.On; on == nil || !*on || p.API != transcript.WhisperServer || cap(s.detectors) > 0 {
		return nil
	}
	return transcript.Invalid("vad", "no_vad_model",
		"This server has no model that tells speech from silence; leave vad out, or start the server with --vad-model ggml-silero-v6.2.0.bin (`make model` gets it).")
}

// wantsVAD tells whether silence is to be cut out for a job.
func (s *Server) wantsVAD(p transcript.Params) bool {
	switch {
	case cap(s.detectors) == 0 || p.DetectOnly:
		return false
	case p.VAD.On != nil:
		return *p.VAD.On
	}
	return s.cfg.VAD
}

// cutSilence leaves of a job's samples those in which somebody speaks, if that is wanted. It runs on the CPU and
// before a slot is taken, so that silence costs neither a slot nor a window.
//
// A detector that fails costs nobody a transcript: then the job keeps all of its samples.
func (s *Server) cutSilence(ctx context.Context, j *job) *transcript.Error {
	if !s.wantsVAD(j.params) {
		return nil
	}
	waiting := time.Now()
	var d SpeechDetector
	select {
	case d = <-s.detectors:
	case <-ctx.Done():
		return s.interrupted(ctx)
	}
	defer func() { s.detectors <- d }()
	started := time.Now()
	j.queue += started.Sub(waiting)
	from, to := partOf(len(j.samples), j.params)
	likely, err := d.Speech(ctx, j.samples[from:to])
	j.decode += time.Since(started) // what the CPU does before the engine has its turn
	if ctx.Err() != nil {
		return s.interrupted(ctx)
	}
	if err != nil {
		s.log.Error("cannot tell speech from silence: all of a recording is transcribed", "error", err)
		return nil
	}
	speech := stretches(likely, rulesOf(j.params.API, j.params.VAD))
	j.timeline = join(j.samples[from:to], speech, overlapOf(j.params.VAD))
	j.timeline.begin, j.timeline.seconds = from, j.audioSeconds
	j.samples = j.samples[from : from+j.timeline.length()]
	j.params.OffsetMS, j.params.DurationMS = 0, 0 // what is left is of the part that is wanted
	s.metrics.silence.Add(float64(to-from-len(j.samples)) / audio.SampleRate)
	return nil
}

// partOf is the part of a recording that a client wants, in samples.
func partOf(samples int, p transcript.Params) (from, to int) {
	const perMS = audio.SampleRate / 1000
	from = min(samples, p.OffsetMS*perMS)
	if p.DurationMS > 0 {
		return from, min(samples, from+p.DurationMS*perMS)
	}
	return from, samples
}
