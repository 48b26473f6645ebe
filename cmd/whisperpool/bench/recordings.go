package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/whisperpool/whisperpool/audio"
)

// recordingsMax bounds the recordings that are held in memory, in bytes.
const recordingsMax = 1 << 30

// Recordings are files that jobs choose among by chance.
type Recordings struct {
	files []recording
}

type recording struct {
	name    string
	seconds float64
	content []byte
}

// LoadRecordings reads files into memory: each of paths, and of folders what is audio in them. The
// error names the file.
func LoadRecordings(paths ...string) (*Recordings, error) {
	r := &Recordings{}
	total := int64(0)
	for _, path := range paths {
		names := []string{path}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			if names, err = filesIn(path); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			file, err := load(name)
			if errors.Is(err, audio.ErrNotAudio) && info.IsDir() {
				continue // a text beside the recordings
			}
			if err != nil {
				return nil, err
			}
			if total += int64(len(file.content)); total > recordingsMax {
				return nil, fmt.Errorf("the recordings are more than %d MB, and are held in memory; use fewer of them", recordingsMax>>20)
			}
			r.files = append(r.files, file)
		}
	}
	if len(r.files) == 0 {
		return nil, fmt.Errorf("there is no recording in %s", strings.Join(paths, ", "))
	}
	return r, nil
}

func filesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}

func load(path string) (recording, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return recording{}, err
	}
	info, err := audio.Probe(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return recording{}, fmt.Errorf("%s: %w", path, err)
	}
	return recording{name: filepath.Base(path), seconds: info.Seconds, content: content}, nil
}

func (r *Recordings) String() string {
	shortest, longest := r.files[0].seconds, 0.0
	for _, f := range r.files {
		shortest, longest = min(shortest, f.seconds), max(longest, f.seconds)
	}
	if len(r.files) == 1 {
		return fmt.Sprintf("%s, %.4g s", r.files[0].name, longest)
	}
	return fmt.Sprintf("%d recordings of %.3g to %.3g s", len(r.files), shortest, longest)
}

// Pick chooses a recording, each with the same chance.
func (r *Recordings) Pick(rng *rand.Rand) (seconds float64, clip int) {
	clip = rng.IntN(len(r.files))
	return r.files[clip].seconds, clip
}

// Clip is the file as it is.
func (r *Recordings) Clip(job Job) Clip {
	f := r.files[job.Clip]
	return Clip{Name: f.name, Size: int64(len(f.content)), Open: func() io.Reader { return bytes.NewReader(f.content) }}
}
