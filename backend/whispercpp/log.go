//go:build whispercpp

package whispercpp

// #include "shim.h"
import "C"

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
)

// libraryLog is where whisper.cpp's log goes: the library has one sink for the whole process.
// Warnings and errors are passed on; what it tells besides only at slog's debug level. What it logs for
// debugging itself, if it is compiled for that, has prompts and what was heard in it, and goes nowhere.
var libraryLog logSink

type logSink struct {
	logger   atomic.Pointer[slog.Logger]
	making   sync.Mutex // held while a state is made
	mu       sync.Mutex
	first    string // the first error since forget, which is the one that says why
	noDevice int    // times that a device was wanted and could not be opened
	sizes    uint64 // bytes that states were said to take
}

var routeLog = sync.OnceFunc(func() { C.wp_route_log() })

//export whisperpoolLog
func whisperpoolLog(level C.int, text *C.char) {
	libraryLog.add(int(level), C.GoString(text))
}

// Levels of enum ggml_log_level.
const (
	ggmlDebug     = 1
	ggmlWarn      = 3
	ggmlError     = 4
	ggmlContinued = 5 // of whatever was before, piece by piece
)

// everyday is what the library says of runs that are stopped because the client left, of audio that
// ends within a moment of the offset that a client asked for, and of prompts of which it takes the end:
// nobody's fault.
var everyday = []string{
	"failed to encode", "failed to decode", "input is too short", "encoder_begin_callback returned false",
	"too many resulting tokens", "initial prompt is too long",
}

func (s *logSink) add(level int, text string) {
	text = strings.TrimSpace(text)
	if text == "" || level == ggmlDebug || level == ggmlContinued {
		return
	}
	logger := s.logger.Load()
	if logger == nil {
		logger = slog.Default()
	}
	to := slog.LevelDebug
	if size, ok := stateSize(text); ok {
		s.mu.Lock()
		s.sizes += size
		s.mu.Unlock()
	}
	switch {
	case level == ggmlError:
		to = slog.LevelError
		s.remember(text)
	case level == ggmlWarn:
		to = slog.LevelWarn
	}
	for _, known := range everyday {
		if strings.Contains(text, known) {
			to = slog.LevelDebug
		}
	}
	logger.Log(context.Background(), to, "whisper.cpp: "+text)
}

func (s *logSink) remember(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == "" {
		s.first = text
	}
	if strings.Contains(text, "failed to initialize") {
		s.noDevice++
	}
}

// forget makes firstError tell of what follows.
func (s *logSink) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = ""
}

// firstError is the library's first error since forget, "" if there was none. With several slots it
// may be another's: it is a hint for people, nothing is decided by it.
func (s *logSink) firstError() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// makingState begins the making of a state, one at a time in this process. done ends it and tells
// how many bytes the library said that the state takes, and whether a device could not be opened,
// which whisper.cpp answers by using the CPU instead.
func (s *logSink) makingState() (done func() (size uint64, deviceFailed bool)) {
	s.making.Lock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = ""
	failures, sizes := s.noDevice, s.sizes
	return func() (uint64, bool) {
		defer s.making.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.sizes - sizes, s.noDevice > failures
	}
}
