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

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// slot has an OS thread of its own for life: OpenMP keeps a pool of threads for every thread that
// calls it, and goroutines wander between threads.
//
// Each of its states is made for one encoder context and keeps it for life. Under flash attention
// whisper.cpp reads rows past the end of a smaller one, where the last request's still are; so a
// request for another context gets a state of its own that is thrown away.
type slot struct {
	engine      *engine
	full, short *C.wp_state   // nil after a failure, until they are made anew; short also where there is none
	work        chan func()   // runs on the slot's thread
	done        chan struct{} // closed when the thread has ended
	abort       *C.int32_t    // what the running job polls; C memory, since C keeps the pointer
}

func newSlot(e *engine) (*slot, error) {
	s := &slot{
		engine: e, work: make(chan func()), done: make(chan struct{}),
		abort: (*C.int32_t)(C.calloc(1, C.sizeof_int32_t)),
	}
	go s.loop()
	var err error
	s.onThread(func() { err = s.prepare() })
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
	s.onThread(func() {
		drop(&s.full)
		drop(&s.short)
	})
	close(s.work)
	<-s.done
	C.free(unsafe.Pointer(s.abort))
}

// prepare makes what states there are not. On the slot's thread.
func (s *slot) prepare() error {
	if s.full == nil {
		if err := s.renew(&s.full, 0); err != nil {
			return err
		}
	}
	if s.short == nil && s.engine.shortClips {
		return s.renew(&s.short, shortCtx)
	}
	return nil
}

// renew makes a state and has it do the most that it will ever have to. On the slot's thread.
func (s *slot) renew(state **C.wp_state, audioCtx int) error {
	drop(state)
	var err error
	if *state, err = s.engine.newState(audioCtx); err != nil {
		return err
	}
	return s.warmUp(state)
}

// drop frees a state, whatever condition it is in.
func drop(state **C.wp_state) {
	C.wp_state_free(*state)
	*state = nil
}

// warmUp runs the state on a second of silence. On a GPU that is the widest search, so that it takes
// all the memory that it will ever need: its cache grows with the number of beams and candidates, and
// where the card is full by then the job dies. Main memory is only taken when it is written to, and
// growing there doesn't fail.
func (s *slot) warmUp(state **C.wp_state) error {
	e := s.engine
	if !e.device.gpu && !e.warm {
		return nil
	}
	o := &options{task: transcript.Transcribe, language: "en", maxContext: -1, beamSize: 1, bestOf: 1}
	if e.device.gpu {
		o.beamSize, o.bestOf = e.limits.maxDecoders, e.limits.maxDecoders
	}
	p := pass{engine: e, state: *state, abort: s.abort, options: o}
	if _, err := p.do(make([]float32, SampleRate), nil); err != nil {
		drop(state)
		return fmt.Errorf("a slot on %s with %d beams or candidates: %w; use fewer slots or a lower limit", e.device.label(), o.beamSize, err)
	}
	return nil
}

// transcribe runs a job on the slot's thread. When ctx ends first it has the library stop, which
// takes at most one graph run, and returns ctx's error.
func (s *slot) transcribe(ctx context.Context, job backend.Job, o *options) (result backend.Result, err error) {
	flag := (*int32)(unsafe.Pointer(s.abort))
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		atomic.StoreInt32(flag, 1)
	})
	s.onThread(func() { result, err = s.job(ctx, job, o) })
	if !stop() {
		<-stopped // or it would stop the next job
	}
	atomic.StoreInt32(flag, 0)
	return result, err
}

// job runs on the slot's thread: on the short state where the clip fits, and on the full one if it
// doesn't or what the short one made of it is not to be trusted.
func (s *slot) job(ctx context.Context, job backend.Job, o *options) (backend.Result, error) {
	if o.audioCtx != 0 {
		state, err := s.engine.newState(o.audioCtx)
		if err != nil {
			return backend.Result{}, err
		}
		defer func() { drop(&state) }()
		result, _, err := s.on(ctx, &state, job, o)
		return result, err
	}
	if err := s.prepare(); err != nil && s.full == nil {
		return backend.Result{}, err
	}
	if s.short == nil || !o.goesShort() {
		result, _, err := s.on(ctx, &s.full, job, o)
		return result, err
	}
	// Nobody hears of the first pass before it is judged.
	result, doubt, err := s.on(ctx, &s.short, backend.Job{Samples: job.Samples}, o.firstPass())
	result.Work.Short = true
	if err == nil && doubt == "" {
		if job.Segment != nil {
			for _, segment := range result.Segments {
				job.Segment(segment)
			}
		}
		return result, nil
	}
	if ctx.Err() != nil {
		return backend.Result{}, ctx.Err()
	}
	spent := result.Work
	result, _, err = s.on(ctx, &s.full, job, o)
	result.Work.Short, result.Work.Again = true, true
	result.Work.Windows += spent.Windows
	return result, err
}

// on does a job on one of the states and, where that fails, gives the state up: who knows in what
// condition it is. Made anew, it is as it was at first.
func (s *slot) on(ctx context.Context, state **C.wp_state, job backend.Job, o *options) (backend.Result, string, error) {
	p := pass{engine: s.engine, state: *state, abort: s.abort, options: o}
	result, err := p.do(job.Samples, job.Segment)
	switch {
	case err != nil && ctx.Err() != nil:
		return result, "", ctx.Err()
	case err != nil, p.sampled && !bool(C.wp_state_repeats(*state)):
		drop(state)
	}
	return result, p.doubt, err
}
