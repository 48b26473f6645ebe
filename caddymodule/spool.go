package caddymodule

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
)

// account counts what is held of all uploads of a pool.
type account struct {
	memory atomic.Int64 // bytes in memory, in whole chunks
	held   atomic.Int64 // bytes in memory and files
	waiting
}

// take adds n unless that would be more than limit.
func take(counter *atomic.Int64, n, limit int64) bool {
	if counter.Add(n) > limit {
		counter.Add(-n)
		return false
	}
	return true
}

// errNoRoom: the pool's uploads have reached their limit of bytes.
var errNoRoom = errors.New("no room for more uploads")

// spoolError is a failure of our own disk, and nobody else's fault.
type spoolError struct{ err error }

func (e *spoolError) Error() string { return e.err.Error() }
func (e *spoolError) Unwrap() error { return e.err }

// spool holds one upload: in memory while the pool's uploads are within their share of it, else in a
// file that has no name any more. It is written once, then read by attempts side by side.
type spool struct {
	account  *account
	memory   int64 // limit for all uploads together
	bytesMax int64 // limit for memory and files together; 0: none
	dir      string

	mu     sync.RWMutex // a transport may read on for a moment after its attempt has ended
	chunks []*chunk
	file   *os.File
	named  bool // the file has its name still
	size   int64
	closed bool

	inside bool          // the request's share is counted
	place  *list.Element // among those that wait in memory; the account's
	kept   int64         // bytes of memory that the upload's form takes
	vetted int64         // size up to which the disk was found to have room
}

// ReadFrom takes in all of r. Errors of the spool itself are errNoRoom or a spoolError, all others
// are r's. Only the request's goroutine calls it, before anybody reads.
func (s *spool) ReadFrom(r io.Reader) (int64, error) {
	start := s.size
	err := s.intoMemory(r)
	if err == nil {
		err = s.intoFile(r)
	}
	if err == io.EOF {
		err = nil
		s.account.settle(s)
	}
	return s.size - start, err
}

// intoMemory reads into chunks until r ends (io.EOF) or there is room for no more; then it goes on in a
// file.
func (s *spool) intoMemory(r io.Reader) error {
	for s.file == nil {
		if s.size == int64(len(s.chunks))*chunkSize {
			if !take(&s.account.memory, chunkSize, s.account.left(s.memory)) {
				return s.beyondMemory(r)
			}
			s.chunks = append(s.chunks, newChunk())
		}
		n, err := r.Read(s.chunks[s.size/chunkSize][s.size%chunkSize:])
		if held := s.hold(n); held != nil {
			return held
		}
		s.size += int64(n)
		if err != nil {
			return err
		}
		if s.account.over(s.memory) { // since others came, and nothing that waits could be moved for them
			return s.spill(s.size)
		}
	}
	return nil
}

// beyondMemory goes on in a file, if anything more comes at all.
func (s *spool) beyondMemory(r io.Reader) error {
	var next [512]byte
	for {
		n, err := r.Read(next[:])
		if n > 0 {
			if spilt := s.spill(s.size); spilt != nil {
				return spilt
			}
			if failed := s.append(next[:n]); failed != nil {
				return failed
			}
		}
		if n > 0 || err != nil {
			return err
		}
	}
}

// append writes to the file.
func (s *spool) append(p []byte) error {
	if err := s.hold(len(p)); err != nil {
		return err
	}
	if err := s.vet(s.size + int64(len(p))); err != nil {
		s.account.held.Add(-int64(len(p)))
		return err
	}
	at := s.size
	s.size += int64(len(p))
	if _, err := s.file.WriteAt(p, at); err != nil {
		return &spoolError{err}
	}
	return nil
}

// pieceSize is what is written to a file at a time where no buffer is to be had.
const pieceSize = 4 << 10

// intoFile appends to the file until r ends, with io.EOF.
func (s *spool) intoFile(r io.Reader) error {
	lent := buffers.borrow()
	defer buffers.giveBack(lent)
	var piece []byte
	if lent != nil {
		piece = lent[:]
	} else {
		piece = make([]byte, pieceSize)
	}
	for {
		n, err := fill(r, piece)
		if failed := s.append(piece[:n]); failed != nil {
			return failed
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until p is full or r fails. Unlike io.ReadFull it tells an end from a broken connection.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var read int
		read, err = r.Read(p[n:])
		n += read
	}
	return n, err
}

// hold counts n bytes more against the limit.
func (s *spool) hold(n int) error {
	if s.bytesMax == 0 {
		s.account.held.Add(int64(n))
	} else if !take(&s.account.held, int64(n), s.bytesMax) {
		return errNoRoom
	}
	return nil
}

// keep counts n bytes that the upload's form takes in memory, until Close; false: there is no room.
func (s *spool) keep(n int64) bool {
	if !take(&s.account.memory, n, s.account.left(s.memory)) {
		return false
	}
	s.kept += n
	return true
}

// spill moves what is in memory to a file.
func (s *spool) spill(size int64) error {
	if err := s.vet(size); err != nil {
		return err
	}
	file, named, err := spoolFile(s.dir)
	if err != nil {
		return &spoolError{err}
	}
	for i, chunk := range s.chunks {
		at := int64(i) * chunkSize
		if _, err := file.WriteAt(chunk[:min(chunkSize, size-at)], at); err != nil {
			_ = file.Close()
			if named {
				_ = os.Remove(file.Name())
			}
			return &spoolError{err}
		}
	}
	s.file, s.named = file, named
	s.freeChunks()
	return nil
}

func (s *spool) freeChunks() {
	for _, chunk := range s.chunks {
		chunk.free()
	}
	s.account.memory.Add(-chunkSize * int64(len(s.chunks)))
	s.chunks = nil
}

// ReadAt reads what was written.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return 0, &spoolError{os.ErrClosed}
	case off >= s.size:
		return 0, io.EOF
	case s.file != nil:
		n, err := s.file.ReadAt(p[:min(int64(len(p)), s.size-off)], off)
		if err == nil && n < len(p) {
			return n, io.EOF
		}
		if err != nil { // the file has all of size
			return n, &spoolError{err}
		}
		return n, nil
	}
	n := 0
	for n < len(p) && off < s.size {
		chunk := s.chunks[off/chunkSize][off%chunkSize : min(chunkSize, off%chunkSize+s.size-off)]
		copied := copy(p[n:], chunk)
		n, off = n+copied, off+int64(copied)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Open gives a reader from the start. Readers are independent.
func (s *spool) Open() io.ReadCloser {
	s.account.start(s)
	return io.NopCloser(io.NewSectionReader(s, 0, s.size))
}

// Close gives memory and file back. A reader that goes on gets an error.
func (s *spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.account.start(s) // it waits no more
	if s.inside {
		s.account.requests.Add(-1)
	}
	s.freeChunks()
	s.account.memory.Add(-s.kept)
	s.kept = 0
	s.account.held.Add(-s.size)
	if s.file != nil {
		_ = s.file.Close()
	}
	if s.named {
		_ = os.Remove(s.file.Name())
	}
}

func defaultSpool() string { return filepath.Join(caddy.AppDataDir(), "whisperpool", "spool") }

// spoolFile makes a file that only this process can read and that is gone with it. named: its name
// is still there, on systems that don't remove an open file.
func spoolFile(dir string) (file *os.File, named bool, err error) {
	file, err = os.CreateTemp(dir, "upload-*") // with mode 0600
	if err != nil {
		return nil, false, err
	}
	return file, os.Remove(file.Name()) != nil, nil
}

func checkFolder(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%s is not an absolute path", dir)
	}
	return nil
}

// checkSpoolFolder makes the folder and tries it, so that a folder that can't be written to is an
// error at start and not in the middle of the first large upload.
func checkSpoolFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the folder for uploads can't be made (option upload, spool): %w", err)
	}
	if err := checkSpoolMode(dir); err != nil {
		return err
	}
	sweepSpool(dir)
	file, named, err := spoolFile(dir)
	if err != nil {
		return fmt.Errorf("the folder for uploads can't be written to (option upload, spool): %w", err)
	}
	_ = file.Close()
	if named {
		_ = os.Remove(file.Name())
	}
	return nil
}

// bytesMax is the configured limit of bytes held, else the default: 20 GiB, or half of what would be
// free without what is held now.
func (g *generation) bytesMax(held int64) int64 {
	if g.config.Queue.MaxBytes > 0 {
		return g.config.Queue.MaxBytes
	}
	limit := int64(defaultQueueBytes)
	dirs := make([]string, 0, len(g.spools))
	for dir := range g.spools {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		if free, ok := diskFree(dir); ok {
			limit = min(limit, max((free+held)/2, 1))
		}
	}
	return limit
}
