//go:build whispercpp

package whispercpp

// #include "shim.h"
import "C"

import (
	"math"
	"runtime/cgo"
	"unsafe"
)

// listener is what a run tells while it goes on, on the slot's own thread. It keeps nothing of C's:
// whisper.cpp changes what it showed as soon as the call returns.
type listener struct {
	state    *C.struct_whisper_state
	segments *assembler

	tokens  int     // of all segments
	logprob float64 // sum over them
	speech  []int   // those of them that are text
	last    int64   // latest timestamp, 10 ms
	watched []int   // text of the sequence in the making
}

// heard notes what the result is judged by.
func (l *listener) heard(raw rawSegment) {
	for _, t := range raw.tokens {
		l.tokens++
		l.logprob += t.plog
		if t.id < l.segments.vocabulary.eot {
			l.speech = append(l.speech, t.id)
		}
	}
	if n := len(raw.tokens); n > 0 && raw.tokens[n-1].id > l.segments.vocabulary.begin {
		l.last = max(l.last, raw.t1) // else whisper.cpp has made it up
	}
}

// evidence is that of a run whose longest sequence had so many tokens, of at most so many.
func (l *listener) evidence(longest, most int) evidence {
	return evidence{
		speech: l.speech, last: float64(l.last) / 100, capped: longest >= most, logprob: l.logprob / float64(max(l.tokens, 1)),
	}
}

//export whisperpoolSegments
func whisperpoolSegments(handle C.uintptr_t, window, first, count C.int, temperature C.float) {
	l := cgo.Handle(handle).Value().(*listener)
	for i := first; i < first+count; i++ {
		raw := rawSegment{
			t0:           int64(C.whisper_full_get_segment_t0_from_state(l.state, i)),
			t1:           int64(C.whisper_full_get_segment_t1_from_state(l.state, i)),
			text:         C.GoString(C.whisper_full_get_segment_text_from_state(l.state, i)),
			noSpeechProb: float64(C.whisper_full_get_segment_no_speech_prob_from_state(l.state, i)),
			speakerTurn:  bool(C.whisper_full_get_segment_speaker_turn_next_from_state(l.state, i)),
			temperature:  math.Round(float64(temperature)*1000) / 1000, window: int(window),
			tokens: tokensOf(l.state, i),
		}
		l.heard(raw)
		l.segments.add(raw)
	}
}

// whisperpoolToken tells whether a sequence that has come so far is worth going on with.
//
//export whisperpoolToken
func whisperpoolToken(handle C.uintptr_t, tokens *C.whisper_token_data, count C.int) C.bool {
	l := cgo.Handle(handle).Value().(*listener)
	l.watched = l.watched[:0]
	for _, t := range unsafe.Slice(tokens, count) {
		if int(t.id) < l.segments.vocabulary.eot { // timestamps never repeat
			l.watched = append(l.watched, int(t.id))
		}
	}
	return C.bool(!repeats(l.watched))
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
		tokens[i] = token{
			id: int(t.id), tid: int(t.tid), p: float64(t.p), plog: float64(t.plog), t0: int64(t.t0), t1: int64(t.t1),
		}
	}
	return tokens
}
