package dispatcher

import (
	"errors"
	"io"
	"sync"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/journal"
)

const (
	// segmentBytes is how much goes into a segment where nothing is said.
	segmentBytes = 64 << 20
	// pendingMax bounds what waits to be written, in bytes, when the disk is slower than the steps.
	pendingMax = 2 << 20
)

// ErrGap is told when the disk was so slow that steps were not recorded.
var ErrGap = errors.New("the recording has a gap: what it is written to is too slow")

// RecorderOptions are what a Recorder is made with.
type RecorderOptions struct {
	// Open opens what the next segment is written to.
	Open func() (io.WriteCloser, error)
	// SegmentBytes is how much goes into a segment; 0 means 64 MiB.
	SegmentBytes int64
	// Failed is told of what could not be recorded, from the recorder's goroutine; the recorder goes on with
	// the next segment. It may be nil.
	Failed func(error)
}

// Recorder writes a journal of all steps of one dispatcher. It never makes a step wait: the writing is done by a
// goroutine of its own, and where that does not keep up steps are left out.
//
// A segment is what journal.Replay takes, as long as it is the first; those that follow it are replayed behind it.
// The numbers of the segments tell: after a gap, or an error, one is missing.
type Recorder struct {
	options RecorderOptions
	done    chan struct{}

	mu      sync.Mutex
	some    *sync.Cond // pending has something, or closed is set
	pending []part
	bytes   int   // of the pending parts
	segment int   // number of the present one; -1 before the first
	length  int64 // of the present one
	renew   bool  // the next record opens a segment
	closed  bool
}

// part is something to be written.
type part struct {
	data   []byte
	opens  bool  // it is the beginning of a segment
	failed error // instead of data
}

// NewRecorder returns a recorder that is to be closed after its dispatcher.
func NewRecorder(o RecorderOptions) *Recorder {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = segmentBytes
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	r := &Recorder{options: o, done: make(chan struct{}), segment: -1}
	r.some = sync.NewCond(&r.mu)
	go r.write()
	return r
}

// begin opens the first segment of a scheduler that is new.
func (r *Recorder) begin(h journal.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.Segment = 0
	r.open(h)
}

// join has the next record open a segment, which continues what nobody has recorded.
func (r *Recorder) join() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.segment, r.renew = 0, true
}

// open begins a segment. Requires: mu is held.
func (r *Recorder) open(h journal.Header) {
	r.segment, r.length, r.renew = h.Segment, 0, false
	line, err := journal.AppendHeader(nil, h)
	if err != nil {
		r.add(part{failed: err})
		r.renew = true
		return
	}
	r.length = int64(len(line))
	r.add(part{data: line, opens: true})
}

// record takes in a step. Header makes the header that a new segment would have.
func (r *Recorder) record(s journal.Record, header func() journal.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.segment < 0 {
		return
	}
	if r.bytes > pendingMax {
		if !r.renew {
			r.skip(ErrGap)
		}
		return
	}
	if r.renew || r.length >= r.options.SegmentBytes {
		h := header()
		h.Segment = r.segment + 1
		r.open(h)
	}
	line, err := journal.Append(nil, s)
	if err != nil {
		r.skip(err)
		return
	}
	r.length += int64(len(line))
	r.add(part{data: line})
}

// skip leaves something out: the next record opens a segment, whose number says so. Requires: mu is held.
func (r *Recorder) skip(why error) {
	r.renew = true
	r.segment++
	r.add(part{failed: why})
}

func (r *Recorder) add(p part) {
	r.pending = append(r.pending, p)
	r.bytes += len(p.data)
	r.some.Signal()
}

// Close writes what is pending, and returns when that is done.
func (r *Recorder) Close() {
	r.mu.Lock()
	r.closed = true
	r.some.Signal()
	r.mu.Unlock()
	<-r.done
}

// write is the recorder's goroutine.
func (r *Recorder) write() {
	defer close(r.done)
	var file io.WriteCloser
	closeFile := func() {
		if file != nil {
			r.tell(file.Close())
			file = nil
		}
	}
	defer closeFile()
	for {
		parts := r.take()
		if len(parts) == 0 {
			return
		}
		for _, p := range parts {
			if p.opens || p.failed != nil {
				closeFile()
			}
			if p.opens {
				opened, err := r.options.Open()
				if r.tell(err) {
					continue // until the next segment
				}
				file = opened
			}
			r.tell(p.failed)
			if file == nil {
				continue
			}
			if _, err := file.Write(p.data); r.tell(err) {
				closeFile()
			}
		}
	}
}

// take waits for something to write; nothing means that the recorder is closed.
func (r *Recorder) take() []part {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.pending) == 0 && !r.closed {
		r.some.Wait()
	}
	parts := r.pending
	r.pending, r.bytes = nil, 0
	return parts
}

// tell passes an error on, and says whether there is one. What could not be written is missing from its segment,
// so that the next record begins another.
func (r *Recorder) tell(err error) bool {
	if err == nil {
		return false
	}
	r.options.Failed(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.renew {
		r.renew = true
		r.segment++
	}
	return true
}

// Record has a recorder write down every step from now on, instead of the one before, which may then be closed;
// nil: none does. Unless it is told before the first Configure, its journal lacks the beginning.
func (d *Dispatcher) Record(r *Recorder) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.options.Recorder = r
	if r != nil && d.core != nil {
		r.join()
	}
}

// header is that of a segment which begins now. Requires: mu is held, core is not nil.
func (d *Dispatcher) header(now scheduler.Instant) journal.Header {
	return journal.Header{Config: d.cfg, Speeds: d.core.SpeedsAt(now)}
}
