package caddymodule

import (
	"io"
	"sync/atomic"
)

// surgeMax bounds the buffers that are lent out to uploads at a time, 16 MiB of them, so that however many
// clients stall in mid-upload, memory stays within it and the limits that are configured.
const surgeMax = 256

// surge lends out buffers to where data flows. They only spare processor time: whoever gets none goes on
// with what it has.
type surge struct{ lent atomic.Int64 }

var buffers surge

// borrow returns nil when all are lent.
func (s *surge) borrow() *chunk {
	if !take(&s.lent, 1, surgeMax) {
		return nil
	}
	return newChunk()
}

func (s *surge) giveBack(b *chunk) {
	if b != nil {
		b.free()
		s.lent.Add(-1)
	}
}

// inflow reads a body in large pieces while it comes fast, for package mime/multipart asks for 4 kB at a
// time, and each would cost a system call. A client that comes slowly holds no buffer.
type inflow struct {
	r      io.Reader
	fast   bool // the last read was full
	buffer *chunk
	data   []byte // what is left in it
	err    error  // after that
}

func (f *inflow) Read(p []byte) (int, error) {
	if len(f.data) > 0 {
		return f.deliver(p)
	}
	if f.err != nil {
		return 0, f.err
	}
	if f.fast && len(p) < chunkSize {
		f.buffer = buffers.borrow()
	}
	if f.buffer == nil {
		n, err := f.r.Read(p)
		f.fast = n == len(p)
		f.err = err
		return n, err
	}
	n, err := f.r.Read(f.buffer[:])
	f.data, f.err, f.fast = f.buffer[:n], err, n >= len(p)
	return f.deliver(p)
}

// deliver hands out what was read, and gives the buffer back with the last of it.
func (f *inflow) deliver(p []byte) (int, error) {
	n := copy(p, f.data)
	f.data = f.data[n:]
	if len(f.data) > 0 {
		return n, nil
	}
	f.close()
	return n, f.err
}

// close gives the buffer back. Nothing may be read any more that was not delivered.
func (f *inflow) close() {
	buffers.giveBack(f.buffer)
	f.buffer, f.data = nil, nil
}
