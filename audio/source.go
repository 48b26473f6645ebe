package audio

import (
	"bytes"
	"context"
	"io"
	"math"
)

// probeBudget is how many bytes Probe reads at most, however the file is made.
const probeBudget = 512 << 10

// readCost is what the smallest read takes from the budget, so that a hostile chain of tiny
// headers bounds the number of reads too.
const readCost = 64

// readAhead is how much a decoding source reads at a time.
const readAhead = 64 << 10

// A source is an upload that is read at will, within a budget of bytes. It forgives short files:
// what is missing is simply not returned.
type source struct {
	ctx    context.Context
	r      io.ReaderAt
	size   int64
	budget int64
	ahead  int   // least number of bytes that are fetched at once
	err    error // first failure of r itself, or of ctx

	window    []byte // bytes last fetched
	windowOff int64
}

// newProbeSource reads exactly what is asked for, at most probeBudget in all.
func newProbeSource(r io.ReaderAt, size int64) *source {
	return &source{ctx: context.Background(), r: r, size: size, budget: probeBudget}
}

// newDecodeSource reads ahead and without a budget, until ctx ends.
func newDecodeSource(ctx context.Context, r io.ReaderAt, size int64) *source {
	return &source{ctx: ctx, r: r, size: size, budget: math.MaxInt64, ahead: readAhead}
}

// peek returns up to n bytes from off: fewer at the end of the upload, when the budget is spent or
// reading fails. The slice is good until the next call.
func (s *source) peek(off int64, n int) []byte {
	if off < 0 || off >= s.size || n <= 0 || s.err != nil {
		return nil
	}
	n = int(min(int64(n), s.size-off))
	if at := off - s.windowOff; at >= 0 && at+int64(n) <= int64(len(s.window)) {
		return s.window[at : at+int64(n)]
	}
	if s.err = s.ctx.Err(); s.err != nil {
		return nil
	}
	fetch := int(min(int64(max(n, s.ahead)), s.size-off))
	if s.budget < int64(max(fetch, readCost)) {
		s.budget = 0
		return nil
	}
	s.budget -= int64(max(fetch, readCost))
	if cap(s.window) < fetch {
		s.window = make([]byte, fetch)
	}
	s.window = s.window[:fetch]
	s.windowOff = off
	got, err := s.r.ReadAt(s.window, off)
	s.window = s.window[:got]
	if err != nil && err != io.EOF && got < fetch {
		s.err = err
	}
	return s.window[:min(n, got)]
}

// spent reports that the budget ended what would have gone on.
func (s *source) spent() bool { return s.budget == 0 }

// find returns the offset of the first pattern in [from, to), or -1.
func (s *source) find(pattern []byte, from, to int64) int64 {
	to = min(to, s.size)
	for from < to {
		b := s.peek(from, int(min(readAhead, to-from)))
		if i := bytes.Index(b, pattern); i >= 0 {
			return from + int64(i)
		}
		if len(b) < len(pattern) {
			return -1
		}
		from += int64(len(b) - len(pattern) + 1)
	}
	return -1
}

// reader reads the source in order from off on.
func (s *source) reader(off int64) io.Reader { return &sourceReader{s: s, off: off} }

type sourceReader struct {
	s   *source
	off int64
}

func (r *sourceReader) Read(p []byte) (int, error) {
	n := copy(p, r.s.peek(r.off, min(len(p), readAhead)))
	r.off += int64(n)
	if n == 0 && len(p) > 0 {
		if r.s.err != nil {
			return 0, r.s.err
		}
		return 0, io.EOF
	}
	return n, nil
}
