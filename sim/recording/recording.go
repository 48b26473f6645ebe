// Package recording reads what a proxy has recorded (its option record): finds the segments, has the scheduler of
// this program decide again, says what happened in figures, and makes of the recorded jobs a workload that can be
// simulated with other policies and other cards.
//
// Everything is streamed: what is kept is a few numbers a job, see Review.
package recording

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/whisperpool/whisperpool/scheduler/journal"
)

// Recording is the segments of one recording, in order.
type Recording struct {
	Files []File
}

// File is one segment.
type File struct {
	Path    string
	Size    int64
	Segment int // its number
	tape    string
	order   string // among those of the tape
	empty   bool   // it ends before its header does
}

// suffix is that of a segment's file.
const suffix = ".jsonl"

// ownName is what the proxy calls a segment's file: the pool, when the recording began, the number of the file.
var ownName = regexp.MustCompile(`^(.*-\d{8}T\d{6}\.\d{3}Z)-(\d{6,})\.jsonl$`)

// Find lists the segments that paths name: files, patterns such as "rec/main-*", or a folder with all its segments.
// The error names the file that is no segment or missing, or says that they are several recordings.
func Find(paths []string) (*Recording, error) {
	names, err := expand(paths)
	if err != nil {
		return nil, err
	}
	r := &Recording{}
	for _, name := range names {
		f, err := open(name)
		if err != nil {
			return nil, err
		}
		r.Files = append(r.Files, f)
	}
	slices.SortStableFunc(r.Files, func(a, b File) int {
		if c := strings.Compare(a.tape, b.tape); c != 0 {
			return c
		}
		if c := strings.Compare(a.order, b.order); c != 0 {
			return c
		}
		return a.Segment - b.Segment
	})
	last := len(r.Files) - 1
	for i, f := range r.Files[:last] {
		if f.empty {
			return nil, fmt.Errorf("%s: line 1: the segment ends before its header does, and others follow it; it is damaged", f.Path)
		}
		if err := r.follows(i + 1); err != nil {
			return nil, err
		}
	}
	if last == 0 && r.Files[0].empty {
		return nil, fmt.Errorf("%s: the recording is empty, nothing has been written yet", r.Files[0].Path)
	}
	return r, nil
}

// expand makes a list of files of what somebody named.
func expand(paths []string) (names []string, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		var found []string
		switch {
		case err == nil && info.IsDir():
			found, err = filepath.Glob(filepath.Join(escaped(path), "*"+suffix))
			if err == nil && len(found) == 0 {
				err = fmt.Errorf("%s: there is no segment (*%s) in this folder; name the folder of the option record", path, suffix)
			}
		case err == nil:
			found = []string{path}
		case errors.Is(err, os.ErrNotExist) && strings.ContainsAny(path, "*?["):
			if found, err = filepath.Glob(path); err == nil && len(found) == 0 {
				err = fmt.Errorf("%s: no file matches", path)
			}
		}
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	for i, name := range names {
		names[i] = filepath.Clean(name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// escaped is a path as a pattern that matches nothing else.
func escaped(path string) string {
	return regexp.MustCompile(`[*?[\\]`).ReplaceAllStringFunc(path, func(s string) string { return `\` + s })
}

// open looks at a segment's header.
func open(path string) (File, error) {
	f := File{Path: path}
	if name := ownName.FindStringSubmatch(filepath.Base(path)); name != nil {
		f.tape, f.order = filepath.Join(filepath.Dir(path), name[1]), name[2]
	}
	info, err := os.Stat(path)
	if err != nil {
		return f, err
	}
	f.Size = info.Size()
	file, err := os.Open(path)
	if err != nil {
		return f, err
	}
	defer file.Close()
	line, whole, err := readLine(bufio.NewReaderSize(file, 64<<10))
	if err != nil && !errors.Is(err, io.EOF) {
		return f, fmt.Errorf("%s: line 1: %w", path, err)
	}
	header, record, err := journal.Parse(line)
	switch {
	case err != nil && !whole: // the recording ends here
		f.empty = true
		f.Segment = math.MaxInt // behind all others
		return f, nil
	case err != nil:
		return f, fmt.Errorf("%s: line 1: %w%s", path, err, hint(line))
	case record != nil:
		return f, fmt.Errorf("%s: line 1: it does not begin with a header; a segment that was written by the proxy does, so a piece is missing before this", path)
	}
	f.Segment = header.Segment
	return f, nil
}

// hint says what to do about a first line that cannot be read.
func hint(line []byte) string {
	var version int
	if n, err := fmt.Sscanf(string(line[:min(len(line), 32)]), `{"Journal":%d`, &version); n == 1 && err == nil && version > journal.Version {
		return "; replay it with the whisperpool that recorded it, or one as new"
	}
	return "; --replay reads the segments that the option record has written"
}

// follows says why a file cannot come behind the one before it, nil when it can.
func (r *Recording) follows(i int) error {
	before, f := r.Files[i-1], r.Files[i]
	switch {
	case f.empty && f.tape == before.tape, f.tape == before.tape && f.Segment == before.Segment+1:
		return nil
	case f.tape != before.tape || f.Segment == 0:
		return r.several()
	case f.Segment == before.Segment:
		return fmt.Errorf("%s and %s are both segment %d; name the files of one recording", before.Path, f.Path, f.Segment)
	case f.Segment < before.Segment:
		return fmt.Errorf("%s is segment %d and follows %s, which is segment %d; name the files of one recording", f.Path, f.Segment, before.Path, before.Segment)
	}
	return fmt.Errorf("between %s (segment %d) and %s (segment %d) a piece is missing: a file is not there, or the disk was too slow for it to be written; replay those up to the one or those from the other",
		before.Path, before.Segment, f.Path, f.Segment)
}

// several is the error of files of more than one recording: a proxy begins one with each start.
func (r *Recording) several() error {
	var first []string
	for i, f := range r.Files {
		if i == 0 || f.tape != r.Files[i-1].tape || f.Segment == 0 {
			first = append(first, f.Path)
		}
	}
	list := strings.Join(first[:min(len(first), 8)], "\n  ")
	if len(first) > 8 {
		list += "\n  ..."
	}
	return fmt.Errorf("these are %d recordings, and what is between them is not known; replay one at a time. They begin with\n  %s", len(first), list)
}

// Size is that of all files, in bytes.
func (r *Recording) Size() (n int64) {
	for _, f := range r.Files {
		n += f.Size
	}
	return n
}

// readLine reads a line without its end, and says whether it had one. It is valid until the next read.
func readLine(r *bufio.Reader) (line []byte, whole bool, err error) {
	line, err = r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := slices.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) && len(long) <= journal.LineMax {
			line, err = r.ReadSlice('\n')
			long = append(long, line...)
		}
		if len(long) > journal.LineMax+1 {
			return nil, false, fmt.Errorf("it has more than %d bytes, which no line of a recording has", journal.LineMax)
		}
		line = long
	}
	if n := len(line); n > 0 && line[n-1] == '\n' {
		return line[:n-1], true, err
	}
	return line, false, err
}
