package recording

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/whisperpool/whisperpool/scheduler/journal"
)

// Place is where in a recording a line is.
type Place struct {
	File   string `json:"file"`
	Line   int    `json:"line"`   // from 1
	Offset int64  `json:"offset"` // of its first byte
}

func (p Place) String() string { return fmt.Sprintf("%s: line %d (byte %d)", p.File, p.Line, p.Offset) }

// reader goes through a recording once.
type reader struct {
	opened   func(h journal.Header) error
	step     func(r journal.Record) error
	progress func(done, of int64) // in bytes; may be nil

	place    Place // of the present line
	done, of int64
	told     int64
}

// progressEvery is after how many bytes progress is told.
const progressEvery = 1 << 20

// read goes through all files. The end of the last may be cut, since the proxy still writes or was killed: cut is
// then where, and what is before it has been read.
func (r *reader) read(files []File, size int64) (cut *Place, err error) {
	r.of = size
	for i, f := range files {
		if cut, err = r.file(f.Path, i == len(files)-1); cut != nil || err != nil {
			break
		}
	}
	if r.progress != nil {
		r.progress(r.of, r.of)
	}
	return cut, err
}

func (r *reader) file(path string, last bool) (cut *Place, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 1<<20)
	r.place = Place{File: path}
	for {
		line, whole, err := readLine(in)
		ended := errors.Is(err, io.EOF)
		if ended && len(line) == 0 {
			if last && r.place.Line == 0 { // no header yet
				return &Place{File: path, Line: 1}, nil
			}
			return nil, nil
		}
		r.place.Line++
		if err == nil || ended {
			var unread bool
			if unread, err = r.line(line); unread && last && !whole {
				return &r.place, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%v: %w", r.place, err)
		}
		n := int64(len(line))
		if whole {
			n++
		}
		r.place.Offset += n
		if r.done += n; r.progress != nil && r.done-r.told >= progressEvery {
			r.told = r.done
			r.progress(r.done, max(r.done, r.of))
		}
	}
}

// line takes in a line; unread says that the error is of the line itself.
func (r *reader) line(line []byte) (unread bool, err error) {
	header, record, err := journal.Parse(line)
	switch {
	case err != nil:
		return true, fmt.Errorf("it is damaged: %w", err)
	case header != nil && r.place.Line > 1:
		return false, errors.New("a header in the middle of a segment; two files were put together, replay them apart")
	case header != nil:
		return false, r.opened(*header)
	case r.place.Line == 1:
		return false, errors.New("the segment does not begin with a header")
	}
	return false, r.step(*record)
}
