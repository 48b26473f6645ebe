package transcript

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// EventWriter sends server-sent events to a client from a goroutine of its own, so that who makes them
// never waits for the client. From its making to the return of End the response is its own: nobody
// else may write to it.
type EventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	o       EventOptions

	mu      sync.Mutex
	pending []byte
	ending  bool
	problem *Error // with which it ends
	begun   bool   // the header is out, or on its way

	wake chan struct{}
	done chan struct{}
}

// EventOptions say how an [EventWriter] writes.
type EventOptions struct {
	// Header is called before the header is sent, to fill it.
	Header func(http.Header)
	// Begin: the header is sent after so long, even if there is no event yet. 0: with the first event.
	Begin time.Duration
	// Alive: without an event for so long a comment is sent, so that nobody on the way takes the
	// connection for dead.
	Alive time.Duration
	// Stall: so long the client may take nothing of what is sent.
	Stall time.Duration
	// Broken is called, once, when the client can't be written to any more.
	Broken context.CancelFunc
}

// comment is a line that clients skip.
var comment = []byte(": still at work\n\n")

// NewEventWriter begins to write to w.
func NewEventWriter(w http.ResponseWriter, o EventOptions) *EventWriter {
	e := &EventWriter{
		w: w, control: http.NewResponseController(w), o: o,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go e.run()
	return e
}

// Send sends events. It never blocks.
func (e *EventWriter) Send(events []byte) {
	if len(events) == 0 {
		return
	}
	e.mu.Lock()
	e.pending = append(e.pending, events...)
	e.mu.Unlock()
	e.signal()
}

// End sends what is left, with problem as the last event unless that is nil, and waits until the client
// has it. It tells whether the client got a stream: where nothing was sent yet and there is a problem, it
// did not, and the response is as free as before.
func (e *EventWriter) End(problem *Error) (begun bool) {
	e.mu.Lock()
	e.ending, e.problem = true, problem
	e.mu.Unlock()
	e.signal()
	<-e.done
	return e.begun
}

func (e *EventWriter) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *EventWriter) run() {
	defer close(e.done)
	var begin <-chan time.Time
	if e.o.Begin > 0 {
		timer := time.NewTimer(e.o.Begin)
		defer timer.Stop()
		begin = timer.C
	}
	alive := time.NewTimer(e.o.Alive)
	defer alive.Stop()
	broken := false
	for {
		var idle []byte
		select {
		case <-e.wake:
		case <-begin:
			begin = nil
			idle = comment
		case <-alive.C:
			if e.begun {
				idle = comment
			}
		}
		events, ending := e.take()
		if len(events) == 0 && !ending {
			events = idle
		}
		if len(events) > 0 && !broken && !e.write(events) {
			broken = true // and what comes is thrown away
			e.o.Broken()
		}
		if ending {
			_ = e.control.SetWriteDeadline(time.Time{}) // the connection serves on
			return
		}
		alive.Reset(e.o.Alive)
	}
}

// take takes what is to be written next, and says whether that is the last of it.
func (e *EventWriter) take() (events []byte, ending bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	events, e.pending = e.pending, nil
	if e.ending && e.problem != nil {
		if !e.begun {
			return nil, true // there is a status to tell it by
		}
		events = append(events, e.problem.Event()...)
	}
	return events, e.ending
}

func (e *EventWriter) write(events []byte) bool {
	_ = e.control.SetWriteDeadline(time.Now().Add(e.o.Stall))
	if !e.begun {
		e.begun = true
		h := e.w.Header()
		if e.o.Header != nil {
			e.o.Header(h)
		}
		StreamHeader(h)
		e.w.WriteHeader(http.StatusOK)
	}
	if _, err := e.w.Write(events); err != nil {
		return false
	}
	return e.control.Flush() == nil
}

// StreamHeader says what a streamed answer is, and that nobody on the way may keep it back or compress
// it, which would keep it back as well.
func StreamHeader(h http.Header) {
	h.Set("Content-Type", StreamType)
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx
}
