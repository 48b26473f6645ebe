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
)

// engine is one copy of a model's weights and the slots that work on it.
type engine struct {
	model      *C.struct_whisper_context
	device     device
	uuid       string // of the card
	limits     limits
	vocabulary vocabulary
	threads    int
	shortClips bool // slots have short states too
	warm       bool // states run once when they are made
	slots      *slots
	memory     memory
}

// New loads a model and makes its slots ready, or as many of them as there is memory for, which it
// logs. The error is one sentence that says what is wrong with the model file, the device or the
// configuration, or why there is not even one slot.
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
		device: device, uuid: device.uuid(), threads: cfg.Threads, warm: !cfg.Cold,
		shortClips: shortClips(cfg.ShortClips, header, device.gpu),
		limits: limits{
			id: cfg.ModelID, model: header, beamSize: cfg.BeamSize, bestOf: cfg.BestOf, maxDecoders: cfg.MaxDecoders,
		},
	}
	e.memory.guess = uint64(header.SlotBytes(cfg.MaxDecoders)) //nolint:gosec // positive
	e.slots = newSlots(cfg.SlotsMax, e.makeSlot)
	if err := e.load(cfg); err != nil {
		return nil, err
	}
	if err := e.begin(cfg); err != nil {
		_ = e.Close() // frees memory: cannot fail
		return nil, err
	}
	return e, nil
}

// begin makes the slots that are asked for, or says that there are fewer: with one it can serve.
func (e *engine) begin(cfg Config) error {
	err := e.Resize(cfg.Slots)
	made := e.slots.ready()
	if err != nil && made > 0 {
		cfg.Logger.Warn("fewer slots than asked for", "model", cfg.ModelID, "slots", made, "asked", cfg.Slots, "error", err)
		return nil
	}
	return err
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
	e.memory.weights = fileSize(cfg.ModelPath)
	accessors := (*bindings.Context)(unsafe.Pointer(e.model))
	e.vocabulary.eot, e.vocabulary.begin = int(accessors.Whisper_token_eot()), int(accessors.Whisper_token_beg())
	e.vocabulary.texts = make([]string, accessors.Whisper_n_vocab())
	for id := range e.vocabulary.texts {
		e.vocabulary.texts[id] = accessors.Whisper_token_to_str(bindings.Token(id))
	}
	e.limits.languages = make(map[string]bool)
	for id := range min(e.limits.model.Languages(), bindings.Whisper_lang_max_id()+1) {
		code := bindings.Whisper_lang_str(id)
		e.limits.languages[code] = true
		e.limits.languageCodes = append(e.limits.languageCodes, code)
	}
	return nil
}

// makeSlot makes one more slot, unless the device is seen to have no room for it.
func (e *engine) makeSlot() (*slot, error) {
	before := e.device.refreshed()
	if err := roomForSlot(before, e.memory.ofSlot(), e.slots.ready()); err != nil {
		return nil, err
	}
	s, err := newSlot(e)
	if err != nil {
		return nil, err
	}
	if after := e.device.refreshed(); after.free < before.free {
		e.memory.sawSlot(before.free - after.free)
	}
	return s, nil
}

// newState makes a state for an encoder context of so many positions, 0 for all, on the thread that
// calls.
func (e *engine) newState(audioCtx int) (*C.wp_state, error) {
	thrown := newErrorText()
	defer thrown.free()
	done := libraryLog.makingState()
	state := C.wp_state_new(e.model, C.int(audioCtx), thrown.text)
	size, deviceFailed := done()
	if state == nil {
		return nil, fmt.Errorf("whisper.cpp could not make a state on %s (out of memory?): %s", e.device.label(), thrown.reason())
	}
	if e.device.gpu && deviceFailed {
		C.wp_state_free(state)
		return nil, fmt.Errorf("whisper.cpp could not open %s for one more state and would have used the CPU", e.device.label())
	}
	e.memory.sawState(size)
	return state, nil
}

// Transcribe implements [backend.Transcriber].
func (e *engine) Transcribe(ctx context.Context, job backend.Job) (backend.Result, error) {
	o, refusal := newOptions(job.Params, len(job.Samples), e.limits)
	if refusal == nil {
		refusal = checkSamples(job.Samples)
	}
	if refusal != nil {
		return backend.Result{}, refusal
	}
	if err := ctx.Err(); err != nil {
		return backend.Result{}, err
	}
	if known, ok := o.knownAnswer(); ok {
		return backend.Result{Transcript: known}, nil
	}
	s, err := e.slots.take(ctx)
	if err != nil {
		return backend.Result{}, err
	}
	defer e.slots.release(s)
	return s.transcribe(ctx, job, o)
}

// Resize implements [backend.Transcriber].
func (e *engine) Resize(count int) error { return e.slots.resize(count) }

// Info implements [backend.Transcriber].
func (e *engine) Info() backend.EngineInfo {
	ready, now := e.slots.ready(), e.device.refreshed()
	return backend.EngineInfo{
		Engine: "whispercpp", Model: e.limits.id, Multilingual: e.limits.model.Multilingual(),
		Slots: ready, SlotsMax: e.slots.most(), GPU: e.device.gpu, Threads: e.threads, Device: e.device.label(), DeviceUUID: e.uuid,
		DeviceFree: now.free, DeviceTotal: now.total, Bytes: e.memory.bytes(ready, e.shortClips), ShortClips: e.shortClips,
		SystemInfo: strings.TrimSpace(bindings.Whisper_print_system_info()),
	}
}

// Close implements [backend.Transcriber]: the states first, since they point into the weights.
func (e *engine) Close() error {
	e.slots.close()
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
