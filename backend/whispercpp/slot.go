//go:build whispercpp

package whispercpp

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/whisperpool/whisperpool/transcript"
)

// slot is one whisper_state with an OS thread of its own for life: OpenMP keeps a pool of threads
// for every thread that calls it, and goroutines wander between threads.
//
// A state is made with the full encoder context and keeps it for life. Under flash attention
// whisper.cpp reads rows past the end of a smaller one, where the last request's still are; so a
// request for another context gets a state of its own that is thrown away.
type slot struct {
	engine *engine
	state  *C.struct_whisper_state // nil after a failure, until it is made anew
	work   chan func()             // runs on the slot's thread
	done   chan struct{}           // closed when the thread has ended
	abort  *C.int32_t              // what the running job polls; C memory, since C keeps the pointer
}

func newSlot(e *engine) (*slot, error) {
	s := &slot{
		engine: e, work: make(chan func()), done: make(chan struct{}),
		abort: (*C.int32_t)(C.calloc(1, C.sizeof_int32_t)),
	}
	go s.loop()
	var err error
	s.onThread(func() {
		if err = s.renew(); err == nil {
			err = s.reserve()
		}
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// loop never unlocks its thread, so that the thread and OpenMP's pool end with it.
func (s *slot) loop() {
	runtime.LockOSThread()
	defer close(s.done)
	for f := range s.work {
		f()
	}
}

// onThread runs f on the slot's thread and waits for it.
func (s *slot) onThread(f func()) {
	done := make(chan struct{})
	s.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

func (s *slot) close() {
	s.onThread(s.drop)
	close(s.work)
	<-s.done
	C.free(unsafe.Pointer(s.abort))
}

func (s *slot) drop() {
	if s.state != nil {
		C.wp_state_free(s.state)
		s.state = nil
	}
}

// renew makes a fresh state in place of what is there. On the slot's thread.
func (s *slot) renew() error {
	s.drop()
	state, err := s.engine.newState()
	s.state = state
	return err
}

// newState makes a state, on the thread that calls.
func (e *engine) newState() (*C.struct_whisper_state, error) {
	thrown := newErrorText()
	defer thrown.free()
	libraryLog.forget()
	failures := libraryLog.deviceFailures()
	state := C.wp_state_new(e.model, thrown.text)
	if state == nil {
		return nil, fmt.Errorf("whisper.cpp could not make a state on %s (out of memory?): %s", e.device.label(), thrown.reason())
	}
	if e.device.gpu && libraryLog.deviceFailures() > failures {
		C.wp_state_free(state)
		return nil, fmt.Errorf("whisper.cpp could not open %s for one more state and would have used the CPU", e.device.label())
	}
	return state, nil
}

// reserve makes a state on a GPU take all the memory that it will ever need. Its cache grows with
// the number of beams and candidates, and where the card is full by then the job dies.
func (s *slot) reserve() error {
	if !s.engine.device.gpu {
		return nil // main memory is only taken when it is written to, and growing there doesn't fail
	}
	return s.warmUp()
}

// warmUp runs the widest search on a second of silence.
func (s *slot) warmUp() error {
	o := &options{
		task: transcript.Transcribe, language: "en", maxContext: -1,
		beamSize: s.engine.limits.maxDecoders, bestOf: s.engine.limits.maxDecoders,
	}
	code, reason := s.engine.run(s.state, make([]float32, SampleRate), o, s.abort)
	if code == 0 {
		return nil
	}
	if code == C.WP_STATE_GONE {
		s.state = nil
	}
	return fmt.Errorf("%s has no room for a slot with %d beams or candidates (code %d: %s): use fewer slots or a lower limit",
		s.engine.device.label(), s.engine.limits.maxDecoders, code, reason)
}

// transcribe runs a job on the slot's thread. When ctx ends first it has the library stop, which
// takes at most one graph run, and returns ctx's error.
func (s *slot) transcribe(ctx context.Context, samples []float32, o *options) (t transcript.Transcript, err error) {
	flag := (*int32)(unsafe.Pointer(s.abort))
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		atomic.StoreInt32(flag, 1)
	})
	s.onThread(func() { t, err = s.job(ctx, samples, o) })
	if !stop() {
		<-stopped // or it would stop the next job
	}
	atomic.StoreInt32(flag, 0)
	return t, err
}

// job runs on the slot's thread.
func (s *slot) job(ctx context.Context, samples []float32, o *options) (transcript.Transcript, error) {
	if s.state == nil {
		if err := s.renew(); err != nil {
			return transcript.Transcript{}, err
		}
	}
	state := s.state
	if o.audioCtx != 0 {
		var err error
		if state, err = s.engine.newState(); err != nil {
			return transcript.Transcript{}, err
		}
	}
	code, reason := s.engine.run(state, samples, o, s.abort)
	gone := code == C.WP_STATE_GONE
	defer func() {
		switch {
		case o.audioCtx != 0:
			if !gone {
				C.wp_state_free(state)
			}
		case gone:
			s.state = nil
		case code != 0 && ctx.Err() == nil:
			s.drop() // who knows in what condition it is; the next job makes it anew
		}
	}()
	if code != 0 {
		if err := ctx.Err(); err != nil {
			return transcript.Transcript{}, err
		}
		return transcript.Transcript{}, fmt.Errorf("whisper.cpp failed on %s (code %d): %s", s.engine.device.label(), code, reason)
	}
	language := o.language
	if language == "" {
		language = C.GoString(C.whisper_lang_str(C.whisper_full_lang_id_from_state(state)))
	}
	return assemble(o, language, segmentsOf(state), s.engine.vocabulary), nil
}

// run calls the library. A reason comes with every code but 0.
func (e *engine) run(state *C.struct_whisper_state, samples []float32, o *options, abort *C.int32_t) (code C.int, reason string) {
	request := (*C.wp_request)(C.calloc(1, C.sizeof_wp_request)) // C memory, since it holds pointers
	defer C.free(unsafe.Pointer(request))
	*request = C.wp_request{
		threads: C.int32_t(e.threads), beam_size: C.int32_t(o.beamSize), best_of: C.int32_t(o.bestOf),
		offset_ms: C.int32_t(o.offsetMS), duration_ms: C.int32_t(o.durationMS),
		max_context: C.int32_t(o.maxContext), max_len: C.int32_t(o.maxLen), audio_ctx: C.int32_t(o.audioCtx),
		translate: o.task == transcript.Translate, no_timestamps: C.bool(o.noTimestamps), token_times: C.bool(o.tokenTimes()),
		split_on_word: C.bool(o.splitOnWord), suppress_nst: C.bool(o.suppressNonSpeech),
		temperature: C.float(o.temperature), temperature_inc: C.float(o.temperatureInc),
		entropy_thold: C.float(o.entropyThold), logprob_thold: C.float(o.logprobThold),
		no_speech_thold: C.float(o.noSpeechThold), word_thold: C.float(o.wordThold),
	}
	if o.language != "" {
		request.language = C.CString(o.language)
		defer C.free(unsafe.Pointer(request.language))
	}
	if o.prompt != "" {
		request.prompt = C.CString(o.prompt)
		defer C.free(unsafe.Pointer(request.prompt))
	}
	thrown := newErrorText()
	defer thrown.free()
	libraryLog.forget()
	code = C.wp_run(e.model, state, request, (*C.float)(unsafe.Pointer(unsafe.SliceData(samples))), C.int(len(samples)), abort, thrown.text)
	if code != 0 {
		reason = thrown.reason()
	}
	return code, reason
}

// segmentsOf copies what the state holds after a run.
func segmentsOf(state *C.struct_whisper_state) []rawSegment {
	segments := make([]rawSegment, int(C.whisper_full_n_segments_from_state(state)))
	for i := range segments {
		at := C.int(i)
		segments[i] = rawSegment{
			t0:           int64(C.whisper_full_get_segment_t0_from_state(state, at)),
			t1:           int64(C.whisper_full_get_segment_t1_from_state(state, at)),
			text:         C.GoString(C.whisper_full_get_segment_text_from_state(state, at)),
			noSpeechProb: float64(C.whisper_full_get_segment_no_speech_prob_from_state(state, at)),
			tokens:       tokensOf(state, at),
		}
	}
	return segments
}

func tokensOf(state *C.struct_whisper_state, segment C.int) []token {
	count := C.wp_tokens(state, segment, nil, 0)
	if count == 0 {
		return nil
	}
	raw := make([]C.wp_token, count)
	C.wp_tokens(state, segment, &raw[0], count)
	tokens := make([]token, count)
	for i, t := range raw {
		tokens[i] = token{id: int(t.id), p: float64(t.p), plog: float64(t.plog), t0: int64(t.t0), t1: int64(t.t1)}
	}
	return tokens
}
