//go:build whispercpp

package whispercpp

// #include <stdlib.h>
// #include "shim.h"
// #include "vad.h"
import "C"

import (
	"context"
	"fmt"
	"log/slog"
	"unsafe"

	"github.com/whisperpool/whisperpool/backend"
)

// hearingWindows are heard at once, 33 s of audio, before ctx is looked at again.
const hearingWindows = 1024

var _ backend.SpeechDetector = (*detector)(nil)

// detector is Silero's network with a memory of its own. It runs on the thread that calls and on no other.
type detector struct {
	vad   *C.struct_whisper_vad_context
	chunk int // windows that are heard at once
}

// NewDetector loads a ggml file of Silero's, which tells speech from silence on one thread of the CPU. The error
// is one sentence. The logger (nil: slog.Default()) gets the library's warnings, see [Config.Logger].
func NewDetector(path string, logger *slog.Logger) (backend.SpeechDetector, error) {
	if err := checkDetector(path); err != nil {
		return nil, err
	}
	libraryLog.logger.Store(logger)
	routeLog()
	if err := loadBackends(); err != nil {
		return nil, err
	}
	file := C.CString(path)
	defer C.free(unsafe.Pointer(file))
	thrown := newErrorText()
	defer thrown.free()
	libraryLog.forget()
	vad := C.wp_vad_load(file, thrown.text)
	if vad == nil {
		return nil, fmt.Errorf("whisper.cpp could not load %s: %s", path, thrown.reason())
	}
	return &detector{vad: vad, chunk: hearingWindows}, nil
}

// Speech implements [backend.SpeechDetector]. What the network remembers is carried from one chunk to the next, so
// that they give what the whole would.
func (d *detector) Speech(ctx context.Context, samples []float32) ([]float32, error) {
	thrown := newErrorText()
	defer thrown.free()
	probabilities := make([]float32, (len(samples)+backend.SpeechWindow-1)/backend.SpeechWindow)
	for at := 0; at < len(probabilities); at += d.chunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		chunk := samples[at*backend.SpeechWindow : min(len(samples), (at+d.chunk)*backend.SpeechWindow)]
		if !C.wp_vad_hear(d.vad, C.bool(at == 0), (*C.float)(unsafe.Pointer(&chunk[0])), C.int(len(chunk)),
			(*C.float)(unsafe.Pointer(&probabilities[at])), thrown.text) {
			return nil, fmt.Errorf("whisper.cpp failed to tell speech from silence: %s", thrown.reason())
		}
	}
	return probabilities, nil
}

// Close implements [backend.SpeechDetector].
func (d *detector) Close() error {
	C.wp_vad_free(d.vad)
	d.vad = nil
	return nil
}
