//go:build whispercpp

package whispercpp

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime/cgo"
	"sync/atomic"
	"unsafe"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// pass is one job on one state.
type pass struct {
	engine  *engine
	state   *C.wp_state
	abort   *C.int32_t
	options *options

	work    backend.Work
	sampled bool   // random numbers were drawn
	doubt   string // why the result of a short pass cannot be trusted
}

// errAborted is what a pass ends with that was told to stop; the caller knows why.
var errAborted = errors.New("stopped")

// do finds out the language where that is wanted and transcribes. The segments are told as they come.
func (p *pass) do(samples []float32, emit func(transcript.Segment)) (backend.Result, error) {
	o := p.options
	language := o.language
	var probabilities map[string]float64
	if language == "" {
		heard := samples
		if o.detectOnly {
			heard = samples[:min(len(samples), 30*SampleRate)] // the rest is not listened to
		}
		var err error
		if language, probabilities, err = p.detect(heard); err != nil {
			return backend.Result{}, err
		}
		if o.detectOnly {
			t := transcript.Transcript{Task: o.task, Language: language, Duration: o.duration, LanguageProbs: probabilities}
			return backend.Result{Transcript: t, Work: p.work}, nil
		}
		if !o.tokenTimes() {
			samples = nil // its spectrum is there already; token times need the sound itself
		}
	}
	segments := newAssembler(o, language, p.engine.vocabulary, emit)
	heard, err := p.run(samples, language, probabilities != nil, segments)
	if err != nil {
		return backend.Result{Work: p.work}, err
	}
	if o.languageProbs && probabilities == nil {
		if probabilities, err = p.languageProbs(); err != nil {
			return backend.Result{}, err
		}
	}
	result := backend.Result{Transcript: segments.finish(), Work: p.work}
	result.LanguageProbs = probabilities
	if o.shortPass && p.doubt == "" {
		p.doubt = distrust(o, result.Transcript, heard)
	}
	return result, nil
}

// languageProbs are those of the run before, as whisper.cpp's server finds them out.
func (p *pass) languageProbs() (map[string]float64, error) {
	if !p.engine.limits.model.Multilingual() {
		return map[string]float64{"en": 1}, nil
	}
	_, probabilities, err := p.detect(nil)
	return probabilities, err
}

// detect finds out the language of samples, or without samples of the run before.
func (p *pass) detect(samples []float32) (string, map[string]float64, error) {
	if aborted(p.abort) {
		return "", nil, errAborted
	}
	languages := p.engine.limits.languageCodes
	probabilities := make([]C.float, C.whisper_lang_max_id()+1)
	thrown := newErrorText()
	defer thrown.free()
	libraryLog.forget()
	code := C.wp_detect(p.engine.model, p.state, (*C.float)(unsafe.Pointer(unsafe.SliceData(samples))), C.int(len(samples)),
		C.int(p.engine.threads), C.int(len(languages)), &probabilities[0], thrown.text)
	p.work.Windows++
	if code != 0 {
		return "", nil, p.failed(code, thrown.reason())
	}
	if aborted(p.abort) {
		return "", nil, errAborted
	}
	best, all := 0, make(map[string]float64, len(languages))
	for id, language := range languages {
		all[language] = float64(probabilities[id])
		if probabilities[id] > probabilities[best] {
			best = id
		}
	}
	return languages[best], all, nil
}

// run transcribes in a language, which may just have been detected; segments gets what whisper.cpp says while it goes on.
func (p *pass) run(samples []float32, language string, detected bool, segments *assembler) (evidence, error) {
	l := &listener{state: C.wp_state_inner(p.state), segments: segments}
	handle := cgo.NewHandle(l)
	defer handle.Delete()
	request := p.request(language)
	defer C.free(unsafe.Pointer(request))
	defer C.free(unsafe.Pointer(request.language))
	defer C.free(unsafe.Pointer(request.prompt))
	request.listener, request.detected = C.uintptr_t(handle), C.bool(detected)
	thrown := newErrorText()
	defer thrown.free()
	libraryLog.forget()
	var outcome C.wp_outcome
	code := C.wp_run(p.engine.model, p.state, request, (*C.float)(unsafe.Pointer(unsafe.SliceData(samples))), C.int(len(samples)),
		p.abort, &outcome, thrown.text)
	o := p.options
	p.work.Windows += int(outcome.windows)
	p.work.Fallbacks += max(0, int(outcome.attempts-outcome.windows))
	p.work.Tokens += l.tokens
	p.sampled = o.beamSize > 1 || o.temperature > 0 || outcome.attempts > outcome.windows
	switch {
	case code == C.WP_GIVEN_UP:
		p.doubt = "it does not come to an end"
	case code != 0:
		return evidence{}, p.failed(code, thrown.reason())
	}
	return l.evidence(int(outcome.longest), p.engine.limits.model.TextCtx/2-4), nil
}

func (p *pass) failed(code C.int, reason string) error {
	if aborted(p.abort) {
		return errAborted
	}
	return fmt.Errorf("whisper.cpp failed on %s (code %d): %s", p.engine.device.label(), code, reason)
}

// request is in C's memory, since it holds pointers; they and it are freed by the caller.
func (p *pass) request(language string) *C.wp_request {
	o := p.options
	r := (*C.wp_request)(C.calloc(1, C.sizeof_wp_request))
	*r = C.wp_request{
		threads: C.int32_t(p.engine.threads), beam_size: C.int32_t(o.beamSize), best_of: C.int32_t(o.bestOf),
		offset_ms: C.int32_t(o.offsetMS), duration_ms: C.int32_t(o.durationMS),
		max_context: C.int32_t(o.maxContext), max_len: C.int32_t(o.maxLen),
		translate: o.task == transcript.Translate, no_timestamps: C.bool(o.noTimestamps), token_times: C.bool(o.tokenTimes()),
		split_on_word: C.bool(o.splitOnWord), suppress_nst: C.bool(o.suppressNonSpeech),
		carry_prompt: C.bool(o.carryPrompt), tiny_diarize: C.bool(o.tinyDiarize),
		temperature: C.float(o.temperature), temperature_inc: C.float(o.temperatureInc),
		entropy_thold: C.float(o.entropyThold), logprob_thold: C.float(o.logprobThold),
		no_speech_thold: C.float(o.noSpeechThold), word_thold: C.float(o.wordThold),
		language: C.CString(language),
	}
	if o.shortPass {
		r.windows_max = shortWindowsMax
		r.watch = o.beamSize == 1 && o.temperature == 0
	}
	if o.prompt != "" {
		r.prompt = C.CString(o.prompt)
	}
	return r
}

func aborted(flag *C.int32_t) bool { return atomic.LoadInt32((*int32)(unsafe.Pointer(flag))) != 0 }
