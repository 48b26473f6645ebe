// Package backend is the whisper.cpp server that runs on each GPU box: it takes uploads, decodes
// them, gives them a slot and answers in the five formats. The engine behind it is a
// [Transcriber]: whispercpp/ in production, emulator/ where there is no GPU.
package backend

import (
	"context"

	"github.com/whisperpool/whisperpool/transcript"
)

// Transcriber is an engine: one model on one device, with a fixed number of slots.
type Transcriber interface {
	// Transcribe works on 16 kHz mono samples until it is done or ctx is, in which case it stops
	// the device within one graph run and returns ctx's error. At most Slots calls run at once:
	// the caller sees to that. An error of type *transcript.Error is the client's, any other the
	// engine's.
	Transcribe(ctx context.Context, samples []float32, p transcript.Params) (transcript.Transcript, error)
	Info() EngineInfo
	// Close frees the device; no call may be running or follow.
	Close() error
}

// EngineInfo says truthfully what an engine is; it is told to clients in the load report.
type EngineInfo struct {
	Engine       string // "whispercpp" or "emulator"
	Model        string // the id under which it is served, e.g. "base"
	Multilingual bool
	Slots        int
	Threads      int    // CPU threads a slot; 0 where it does not apply
	Device       string // "CPU", "CUDA0: NVIDIA A10G", "emulated T4"
	SystemInfo   string // the library's own words
}
