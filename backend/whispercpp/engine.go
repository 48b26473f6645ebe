//go:build whispercpp

package whispercpp

// #cgo CXXFLAGS: -std=c++17
// #cgo LDFLAGS: -Wl,--start-group -lwhisper -lggml -lggml-base -lggml-cpu -Wl,--end-group -lstdc++ -lm -fopenmp
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	bindings "github.com/ggerganov/whisper.cpp/bindings/go"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// engine is one copy of a model's weights and the slots that work on it.
type engine struct {
	model      *C.struct_whisper_context
	device     device
	limits     limits
	vocabulary vocabulary
	threads    int
	slots      []*slot
	slotBytes  uint64 // what a slot was seen to take of a GPU's memory
	free       chan *slot
}

// New loads a model and makes its slots ready. The error is one sentence that says what is wrong
// with the model file, the device or the configuration.
func New(cfg Config) (backend.Transcriber, error) {
	cfg, err := cfg.withDefaults(runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	header, err := CheckModel(cfg.ModelPath)
	if err != nil {
		return nil, err
	}
	libraryLog.logger.Store(cfg.Logger)
	routeLog()
	device, err := openDevice(cfg.GPU, cfg.GPUDevice)
	if err != nil {
		return nil, err
	}
	e := &engine{
		device: device, threads: cfg.Threads, free: make(chan *slot, cfg.Slots),
		limits: limits{
			id: cfg.ModelID, model: header, beamSize: cfg.BeamSize, bestOf: cfg.BestOf, maxDecoders: cfg.MaxDecoders,
		},
	}
	if err := e.load(cfg); err != nil {
		return nil, err
	}
	for range cfg.Slots {
		if err := e.addSlot(); err != nil {
			_ = e.Close() // frees memory: cannot fail
			return nil, err
		}
	}
	return e, nil
}

// load brings the weights into memory and reads what belongs to them through the Go bindings.
func (e *engine) load(cfg Config) error {
	path := C.CString(cfg.ModelPath)
	defer C.free(unsafe.Pointer(path))
	thrown := newErrorText()
	defer thrown.free()
	libraryLog.forget()
	e.model = C.wp_load(path, C.bool(e.device.gpu), C.int(cfg.GPUDevice), C.bool(cfg.FlashAttention), thrown.text)
	if e.model == nil {
		return fmt.Errorf("whisper.cpp could not load %s on %s: %s", cfg.ModelPath, e.device.label(), thrown.reason())
	}
	accessors := (*bindings.Context)(unsafe.Pointer(e.model))
	e.vocabulary.eot = int(accessors.Whisper_token_eot())
	e.vocabulary.texts = make([]string, accessors.Whisper_n_vocab())
	for id := range e.vocabulary.texts {
		e.vocabulary.texts[id] = accessors.Whisper_token_to_str(bindings.Token(id))
	}
	e.limits.languages = make(map[string]bool)
	for id := range min(e.limits.model.Languages(), bindings.Whisper_lang_max_id()+1) {
		e.limits.languages[bindings.Whisper_lang_str(id)] = true
	}
	return nil
}

func (e *engine) addSlot() error {
	before := e.device.refreshed()
	if err := roomForSlot(before, e.slotBytes, len(e.slots)); err != nil {
		return err
	}
	s, err := newSlot(e)
	if err != nil {
		return fmt.Errorf("slot %d of %d: %w", len(e.slots)+1, cap(e.free), err)
	}
	if after := e.device.refreshed(); after.free < before.free {
		e.slotBytes = max(e.slotBytes, before.free-after.free)
	}
	e.slots = append(e.slots, s)
	e.free <- s
	return nil
}

// Transcribe implements [backend.Transcriber].
func (e *engine) Transcribe(ctx context.Context, job backend.Job) (backend.Result, error) {
	t, err := e.transcribe(ctx, job.Samples, job.Params)
	if err == nil && job.Segment != nil {
		for _, s := range t.Segments {
			job.Segment(s)
		}
	}
	return backend.Result{Transcript: t}, err
}

func (e *engine) transcribe(ctx context.Context, samples []float32, p transcript.Params) (transcript.Transcript, error) {
	o, refusal := newOptions(p, len(samples), e.limits)
	if refusal == nil {
		refusal = checkSamples(samples)
	}
	if refusal != nil {
		return transcript.Transcript{}, refusal
	}
	if err := ctx.Err(); err != nil {
		return transcript.Transcript{}, err
	}
	if o.nothingToDo {
		return assemble(o, o.language, nil, e.vocabulary), nil
	}
	select {
	case s := <-e.free:
		defer func() { e.free <- s }()
		return s.transcribe(ctx, samples, o)
	case <-ctx.Done():
		return transcript.Transcript{}, ctx.Err()
	}
}

// Resize implements [backend.Transcriber].
func (e *engine) Resize(slots int) error {
	if slots != cap(e.free) {
		return fmt.Errorf("the number of slots is fixed at %d", cap(e.free))
	}
	return nil
}

// Info implements [backend.Transcriber].
func (e *engine) Info() backend.EngineInfo {
	return backend.EngineInfo{
		Engine: "whispercpp", Model: e.limits.id, Multilingual: e.limits.model.Multilingual(),
		Slots: cap(e.free), SlotsMax: cap(e.free), GPU: e.device.gpu, Threads: e.threads, Device: e.device.label(),
		SystemInfo: strings.TrimSpace(bindings.Whisper_print_system_info()),
	}
}

// Close implements [backend.Transcriber]: the states first, since they point into the weights.
func (e *engine) Close() error {
	for _, s := range e.slots {
		s.close()
	}
	e.slots = nil
	if e.model != nil {
		C.wp_unload(e.model)
		e.model = nil
	}
	return nil
}

// errorText is where the shim writes what an exception said.
type errorText struct{ text *C.char }

func newErrorText() errorText {
	return errorText{text: (*C.char)(C.calloc(C.WP_ERROR_SIZE, 1))}
}

func (t errorText) free() { C.free(unsafe.Pointer(t.text)) }

// reason is the exception or else the library's word in its log.
func (t errorText) reason() string {
	if thrown := C.GoString(t.text); thrown != "" {
		return thrown
	}
	if logged := libraryLog.firstError(); logged != "" {
		return logged
	}
	return "it gave no reason"
}
