// Package backend is the whisper.cpp server that runs on each GPU box: it takes uploads, decodes
// them, gives them a slot and answers in the formats of three APIs. The engine behind it is a
// [Transcriber]: whispercpp/ in production, emulator/ where there is no GPU.
package backend

import (
	"context"

	"github.com/whisperpool/whisperpool/transcript"
)

// Transcriber is an engine: one model on one device, with slots that can be made and freed.
type Transcriber interface {
	// Transcribe works on a job until it is done or ctx is, in which case it stops the device within
	// one graph run and returns ctx's error. At most as many calls run at once as there are slots: the
	// caller sees to that. An error of type *transcript.Error is the client's, any other the engine's.
	Transcribe(ctx context.Context, job Job) (Result, error)
	// Resize has so many slots ready when it returns, at most Info().SlotsMax, and frees the others.
	// It waits for no job: a slot that is busy is freed when its job ends. The error says why a
	// slot could not be made (no memory, most likely); those that there are stay.
	Resize(slots int) error
	Info() EngineInfo
	// Close frees the device; no call may be running or follow.
	Close() error
}

// Job is what an engine is given to do.
type Job struct {
	Samples []float32 // 16 kHz, mono, full scale 1
	Params  transcript.Params
	// Segment, unless nil, gets each segment as soon as it is final, in order, with the times that it
	// has in the result. It is called from the engine's own thread while that works: it must not block.
	Segment func(transcript.Segment)
}

// Result is what became of a job.
type Result struct {
	transcript.Transcript
	Work Work
}

// Work is what a job took, for metrics.
type Work struct {
	Windows   int  // windows encoded, language detection included
	Tokens    int  // tokens of the answer
	Fallbacks int  // windows decoded again at a higher temperature, where the engine can tell
	Short     bool // done on a state with a shrunk context,
	Again     bool // and then once more on a full one, since the short result could not be trusted
}

// EngineInfo says truthfully what an engine is; it is told to clients in the load report.
type EngineInfo struct {
	Engine       string // "whispercpp" or "emulator"
	Model        string // the id under which it is served, e.g. "base"
	Multilingual bool
	Slots        int    // ready at present
	SlotsMax     int    // the most that Resize takes
	Threads      int    // CPU threads a slot; 0 where it does not apply
	GPU          bool   // a GPU really is in use
	Device       string // "CPU", "CUDA0: NVIDIA A10G", "emulated T4"
	DeviceUUID   string // the GPU's own name, "GPU-1f2e..."; "" where not known
	DeviceFree   uint64 // bytes of the device's memory that are free; 0 where not known
	DeviceTotal  uint64 // bytes of the device's memory; 0 where not known
	Bytes        uint64 // of memory that weights and slots take, as far as is known
	ShortClips   bool   // short clips go to states with a shrunk context
	SystemInfo   string // the library's own words
}

// Library is the models that a server can serve. Its methods may be called at any time from any
// goroutine.
type Library interface {
	// Models are those that can be loaded now; the first is the default. It looks at disks, not at
	// devices.
	Models() []Model
	// Load makes an engine for one of them, with as many slots, or as many of them as there is memory
	// for, in which case it logs why. It may take seconds.
	Load(ctx context.Context, id string, slots int) (Transcriber, error)
}

// Model is what is known of a model without loading it.
type Model struct {
	ID           string
	Path         string // of its file; "" where there is none
	Bytes        int64  // that its weights take in memory, about the file's size
	SlotBytes    int64  // that each slot takes besides, about; 0: not known
	Multilingual bool
	Translates   bool // to English
}
