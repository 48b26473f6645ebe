package backend

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// AudioSecondsHeader is on streamed answers that begin after the upload was decoded, and holds its
// length in seconds, which the events of a stream cannot tell.
const AudioSecondsHeader = "X-Whisperpool-Audio-Seconds"

// How a streamed answer is written.
const (
	streamBegin = time.Second      // until the header is sent: Node gives up after five minutes without one
	streamAlive = 15 * time.Second // between comments, where there is nothing else to send
)

// stream sends the segments of a job to its client as they are ready. All methods take a nil receiver,
// which is a client that wants its answer whole.
type stream struct {
	events  *transcript.EventWriter
	seconds atomic.Uint64 // of the upload, the bits of a float64; 0: not decoded yet

	mu   sync.Mutex
	text transcript.Stream
	sent int // segments
}

// newStream makes the stream of a job. leave is called when its client can't be written to.
func (s *Server) newStream(w http.ResponseWriter, j *job, leave context.CancelFunc) *stream {
	st := &stream{}
	st.events = transcript.NewEventWriter(w, transcript.EventOptions{
		Header: func(h http.Header) {
			h.Set(requestIDHeader, j.id)
			s.setLoadHeaders(h)
			if seconds := math.Float64frombits(st.seconds.Load()); seconds > 0 {
				h.Set(AudioSecondsHeader, strconv.FormatFloat(seconds, 'f', 3, 64))
			}
		},
		Begin: streamBegin, Alive: streamAlive, Stall: answerStall, Broken: leave,
	})
	return st
}

// decoded tells how long the upload is.
func (st *stream) decoded(seconds float64) {
	if st != nil {
		st.seconds.Store(math.Float64bits(seconds))
	}
}

// each is what the engine is to call for each segment.
func (st *stream) each() func(transcript.Segment) {
	if st == nil {
		return nil
	}
	return st.segment
}

// segment only puts the segment's event into a queue: the engine's thread calls it.
func (st *stream) segment(s transcript.Segment) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sent++
	st.events.Send(st.text.Segment(s.Text))
}

// end sends what is left and waits until the client has all of it. It tells whether the client got its
// answer: with a refusal that comes before anything was sent it did not.
func (st *stream) end(t transcript.Transcript, refusal *transcript.Error) bool {
	if st == nil {
		return false
	}
	if refusal == nil {
		for _, s := range t.Segments[min(st.sent, len(t.Segments)):] { // of an engine that tells nothing meanwhile
			st.segment(s)
		}
		st.events.Send(st.text.Done())
	}
	return st.events.End(refusal)
}

// stop ends a stream that was not ended.
func (st *stream) stop() {
	if st != nil {
		st.events.End(nil)
	}
}
