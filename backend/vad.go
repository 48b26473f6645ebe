package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/transcript"
)

// When silence is cut out, see [Config.VAD].
const (
	vadAuto = "auto"
	vadOn   = "on"
	vadOff  = "off"
)

// checkVAD checks how the server is to treat silence.
func (c Config) checkVAD() error {
	switch c.VAD {
	case "", vadAuto, vadOff:
		return nil
	case vadOn:
		if len(c.Detectors) == 0 {
			return fmt.Errorf("speech can be told from silence only with a model for it: name one, or turn it off")
		}
		return nil
	}
	return fmt.Errorf("detection of speech is auto, on or off, not %q", c.VAD)
}

// detectors is the pool of those that are free. They work on the CPU, beside the slots.
type detectors chan SpeechDetector

func newDetectors(all []SpeechDetector) detectors {
	pool := make(detectors, len(all))
	for _, d := range all {
		pool <- d
	}
	return pool
}

// closeDetectors frees the detectors that are not in use, for good.
func (s *Server) closeDetectors() error {
	var first error
	for {
		select {
		case d := <-s.detectors:
			if err := d.Close(); err != nil && first == nil {
				first = err
			}
		default:
			return first
		}
	}
}

// checkVAD refuses who wants silence cut out by a server that cannot. From whisper.cpp's clients that
// is an order; for others, who can say no more than that silence may be filtered out, it is a hint.
func (s *Server) checkVAD(p transcript.Params) *transcript.Error {
	asked := p.VAD.On != nil && *p.VAD.On
	switch {
	case !asked || p.API != transcript.WhisperServer:
		return nil
	case s.cfg.VAD == vadOff:
		return transcript.Invalid("vad", "vad_off", "This server does not detect speech: it was started so. Leave vad out.")
	case cap(s.detectors) == 0:
		return transcript.Invalid("vad", "no_vad_model", "This server has no model that detects speech. Leave vad out, or start the server with --vad-model.")
	}
	return nil
}

// wantsVAD tells whether silence is to be cut out for a job.
func (s *Server) wantsVAD(p transcript.Params) bool {
	if cap(s.detectors) == 0 || s.cfg.VAD == vadOff || p.DetectOnly {
		return false
	}
	if p.VAD.On != nil {
		return *p.VAD.On
	}
	return s.cfg.VAD == vadOn
}

// cutSilence leaves of a job's samples those in which somebody speaks, if that is wanted. It runs on
// the CPU and before a slot is taken, so that silence costs neither a slot nor a window.
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
	spans, err := d.Speech(ctx, j.samples[from:to], j.params.VAD)
	j.decode += time.Since(started) // what the CPU does before the engine has its turn
	if ctx.Err() != nil {
		return s.interrupted(ctx)
	}
	if err != nil {
		s.log.Error("cannot tell speech from silence: transcribing all of it", "error", err)
		return nil
	}
	for i := range spans {
		spans[i] = Span{From: spans[i].From + from, To: spans[i].To + from}
	}
	j.samples, j.timeline = join(j.samples, spans, overlapOf(j.params.VAD))
	j.params.OffsetMS, j.params.DurationMS = 0, 0 // what is left of the upload is of that part
	return nil
}

// partOf is the part of an upload that a client wants, in samples.
func partOf(samples int, p transcript.Params) (from, to int) {
	const perMS = audio.SampleRate / 1000
	from = min(samples, p.OffsetMS*perMS)
	if p.DurationMS > 0 {
		return from, min(samples, from+p.DurationMS*perMS)
	}
	return from, samples
}

// overlapOf is by how many samples each stretch of speech goes on into the silence behind it.
func overlapOf(v transcript.VAD) int {
	const usual = 0.1 // seconds, as in whisper.cpp
	if v.Overlap == nil {
		return usual * audio.SampleRate
	}
	return int(*v.Overlap * audio.SampleRate)
}
