package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
	"github.com/whisperpool/whisperpool/upstream"
)

// How a streamed answer is written.
const (
	streamAlive = 15 * time.Second // between comments, where there is nothing else to send
	streamStall = time.Minute      // in which a client has to take something
)

// stream passes an answer on to its client while it is made. Nothing is sent before an attempt's first
// event is there, so that until then another backend can be tried. end takes a nil receiver, which is a
// client that wants its answer whole.
type stream struct {
	events *transcript.EventWriter
	text   transcript.Stream
	head   atomic.Pointer[streamHead]
	ended  atomic.Pointer[scheduler.Outcome] // of the attempt that was passed on
}

// streamHead is what is told in the header: whose answer it is.
type streamHead struct {
	attempt  scheduler.Dispatch
	emulated bool
}

// newStream makes the stream of a request. leave is called when its client can't be written to.
func (t *transcription) newStream(w http.ResponseWriter, leave context.CancelFunc) *stream {
	s := &stream{}
	s.events = transcript.NewEventWriter(guardedWriter{w, t}, transcript.EventOptions{
		Header: func(h http.Header) {
			if head := s.head.Load(); head != nil {
				t.dispatched(h, head.attempt.Backend, head.attempt.Waited, head.attempt.Number)
				if head.emulated {
					h.Set(emulatorHeader, "true")
				}
			}
		},
		Alive: streamAlive, Stall: streamStall, Broken: leave,
	})
	return s
}

// end sends what is left, with problem as the last event unless it is nil, and waits until the client
// has it. It tells whether anything was sent.
func (s *stream) end(problem *transcript.Error) bool { return s != nil && s.events.End(problem) }

// fault is what broke the stream off.
func (s *stream) fault() string {
	if s == nil || s.ended.Load() == nil {
		return "its answer was lost"
	}
	return s.ended.Load().Detail
}

// passOn passes the stream of an attempt on, once that has committed, to its end. Whether the client is
// slow to take it does not hold the backend up.
//
// A stream that breaks off is the backend's failure, though nothing can be tried again.
func (t *transcription) passOn(ctx context.Context, a dispatcher.Attempt, v upstream.Verdict, began time.Time) (outcome scheduler.Outcome) {
	from, to := v.Answer.Stream, t.stream
	defer from.Close()
	defer func() { to.ended.Store(&outcome) }()
	to.head.Store(&streamHead{a.Dispatch, v.Emulator})
	for done := false; !done; {
		event, err := from.Next()
		if err != nil {
			return brokenStream(ctx, from, err)
		}
		to.events.Send(to.text.Segment(event.Delta))
		done = event.Done
	}
	to.events.Send(to.text.Done())
	t.answered(a, v, time.Since(began))
	return scheduler.Outcome{Result: scheduler.Success, AudioSeconds: v.Answer.AudioSeconds, Words: from.Words()}
}

// brokenStream is the outcome of an attempt whose stream ended before its last event. Nothing can be
// tried again: the client has a part of it.
func brokenStream(ctx context.Context, from *upstream.Stream, err error) scheduler.Outcome {
	detail, over := from.Fault(err)
	switch {
	case errors.Is(context.Cause(ctx), dispatcher.ErrGivenUp):
		return scheduler.Outcome{Result: scheduler.Failed, Detail: "given up: it took far longer than predicted"}
	case over:
		return scheduler.Outcome{Result: scheduler.Aborted}
	}
	return scheduler.Outcome{Result: scheduler.Failed, Detail: "after its first words: " + detail}
}
