package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/dispatcher"
)

const (
	// recordRest is how long nothing is recorded after the disk has failed.
	recordRest = time.Minute
	// recordLast is how long the end of a recording may take to be written.
	recordLast = 5 * time.Second
	// recordSizeMin keeps a segment from being filled by its header.
	recordSizeMin = 1 << 20

	segmentSuffix = ".jsonl"
)

// recording has what a pool's scheduler is told and decides written to a folder: on one tape after the other,
// each of which ends when something has gone wrong with it.
type recording struct {
	pool   *Pool
	config Record
	stop   context.CancelFunc
}

// record brings the recording into line with a configuration, nil for none. Requires mu.
func (p *Pool) record(c *Record) {
	r := p.recording
	switch {
	case r == nil && c == nil, r != nil && c != nil && r.config == *c:
		return
	case r != nil:
		p.dispatcher.Record(nil)
		r.stop()
		p.recording = nil
	}
	if c == nil {
		return
	}
	ctx, stop := context.WithCancel(p.life)
	p.recording = &recording{pool: p, config: *c, stop: stop}
	first := p.recording.begin()
	p.workers.Go(func() { p.recording.run(ctx, first) })
}

// begin has everything written on a new tape. Requires the pool's mu.
func (r *recording) begin() *tape {
	t := newTape(r.pool, r.config)
	r.pool.dispatcher.Record(t.recorder)
	return t
}

// run changes tapes.
func (r *recording) run(ctx context.Context, t *tape) {
	for {
		select {
		case <-ctx.Done():
		case <-t.failed:
		}
		r.whenCurrent(func() { r.pool.dispatcher.Record(nil) })
		t.end()
		select {
		case <-ctx.Done():
			return
		case <-time.After(recordRest):
		}
		if !r.whenCurrent(func() { t = r.begin() }) {
			return
		}
	}
}

// whenCurrent calls f unless there is another recording by now, or none.
func (r *recording) whenCurrent(f func()) bool {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	if r.pool.recording != r {
		return false
	}
	f()
	return true
}

// tape is a journal in the making: a recorder, and the files that its segments go to.
type tape struct {
	config   Record
	pool     string
	log      func() *zap.Logger
	recorder *dispatcher.Recorder
	began    time.Time
	segments int
	gap      bool // and it is logged
	over     atomic.Bool
	failed   chan struct{} // closed when it is over
}

// errTapeOver: what comes after a failure is not recorded.
var errTapeOver = errors.New("the recording is over")

func newTape(p *Pool, c Record) *tape {
	t := &tape{config: c, pool: p.name, log: p.log, began: time.Now().UTC(), failed: make(chan struct{})}
	t.recorder = dispatcher.NewRecorder(dispatcher.RecorderOptions{Open: t.open, SegmentBytes: c.MaxSize, Failed: t.fail})
	return t
}

// fail takes in what the recorder could not do. A disk that is slow costs some steps; one that fails ends the
// tape, for the next segment would do no better.
func (t *tape) fail(err error) {
	if errors.Is(err, errTapeOver) {
		return
	}
	recordFailures.WithLabelValues(t.pool).Inc()
	if errors.Is(err, dispatcher.ErrGap) {
		if !t.gap {
			t.log().Warn("steps were left out of the recording, since the disk is too slow", zap.String("folder", t.config.Folder))
		}
		t.gap = true
		return
	}
	if t.over.Swap(true) {
		return
	}
	t.log().Warn("recording failed and begins anew in a while", zap.String("folder", t.config.Folder), zap.Duration("after", recordRest), zap.Error(err))
	close(t.failed)
}

// end has the rest written, unless that takes too long.
func (t *tape) end() {
	ended := make(chan struct{})
	go func() {
		t.recorder.Close()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(recordLast):
		t.log().Warn("the end of the recording is not written yet; it is not waited for", zap.String("folder", t.config.Folder))
	}
}

// open makes a file for the next segment, and room for it.
func (t *tape) open() (io.WriteCloser, error) {
	if t.over.Load() {
		return nil, errTapeOver
	}
	if err := prune(t.config.Folder, segmentPrefix(t.pool), t.config.Keep-1); err != nil {
		return nil, err
	}
	for {
		name := fmt.Sprintf("%s%s-%06d%s", segmentPrefix(t.pool), t.began.Format("20060102T150405.000Z"), t.segments, segmentSuffix)
		t.segments++
		file, err := os.OpenFile(filepath.Join(t.config.Folder, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			return file, err
		}
	}
}

// segmentPrefix begins the names of the files with a pool's segments; in their order they are as old.
func segmentPrefix(pool string) string { return fileName(pool) + "-" }

// prune removes the oldest segments of a pool, but as many as it is to keep.
func prune(folder, prefix string, keep int) error {
	entries, err := os.ReadDir(folder) // sorted
	if err != nil {
		return err
	}
	names := slices.DeleteFunc(entries, func(e os.DirEntry) bool {
		return !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), prefix) || !strings.HasSuffix(e.Name(), segmentSuffix)
	})
	for _, e := range names[:max(0, len(names)-keep)] {
		if err := os.Remove(filepath.Join(folder, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// checkRecordFolder makes the folder and tries it, as checkSpoolFolder does.
func checkRecordFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the folder for recordings can't be made (option record): %w", err)
	}
	file, err := os.CreateTemp(dir, "trial-*")
	if err != nil {
		return fmt.Errorf("the folder for recordings can't be written to (option record): %w", err)
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}
