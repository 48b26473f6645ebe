package dispatcher_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/journal"
)

// shelf keeps what a recorder writes, by segment.
type shelf struct {
	segments []*bytes.Buffer
	refuse   int           // how often opening fails
	stuck    chan struct{} // writing waits for it, if there is one
	failed   []error
}

type volume struct {
	*bytes.Buffer
	stuck chan struct{}
}

func (v volume) Write(p []byte) (int, error) {
	if v.stuck != nil {
		<-v.stuck
	}
	return v.Buffer.Write(p)
}

func (volume) Close() error { return nil }

func (s *shelf) recorder(segmentBytes int64) *dispatcher.Recorder {
	return dispatcher.NewRecorder(dispatcher.RecorderOptions{
		Open: func() (io.WriteCloser, error) {
			if s.refuse > 0 {
				s.refuse--
				return nil, errors.New("no room")
			}
			s.segments = append(s.segments, new(bytes.Buffer))
			return volume{s.segments[len(s.segments)-1], s.stuck}, nil
		},
		SegmentBytes: segmentBytes,
		Failed:       func(err error) { s.failed = append(s.failed, err) },
	})
}

func linesOf(segments ...*bytes.Buffer) [][]byte {
	var text []byte
	for _, b := range segments {
		text = append(text, b.Bytes()...)
	}
	return bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
}

// work serves some jobs, one of which is given up by its client.
func work(t *testing.T, d *dispatcher.Dispatcher, jobs int) {
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			j := job()
			j.Tenant = scheduler.Tenant(jobs)
			d.Run(t.Context(), j, takes(second))
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), second/2)
	defer cancel()
	d.Run(ctx, job(), takes(time.Minute))
	wg.Wait()
}

// TestWhatWasRecordedIsReplayed: segments that were rolled are one journal, and give the same decisions.
func TestWhatWasRecordedIsReplayed(t *testing.T) {
	for _, segmentBytes := range []int64{0, 4000} {
		synctest.Test(t, func(t *testing.T) {
			var s shelf
			r := s.recorder(segmentBytes)
			d := start(t, backends(1, "a", "b"), dispatcher.Options{Recorder: r})
			work(t, d, 20)
			if err := d.Configure(backends(2, "b", "c")); err != nil {
				t.Fatal(err)
			}
			work(t, d, 20)
			d.Close()
			r.Close()
			if len(s.failed) > 0 || (segmentBytes == 0) != (len(s.segments) == 1) {
				t.Errorf("%d segments, failures %v", len(s.segments), s.failed)
			}
			got, err := journal.Replay(slices.Values(linesOf(s.segments...)), policies.ByName)
			if err != nil || got.Difference != nil || got.Decisions < 40 {
				t.Errorf("replayed %+v: %v", got, err)
			}
			if len(s.segments) < 2 {
				return
			}
			// A later segment by itself says what was learned until then.
			h, _, err := journal.Parse(linesOf(s.segments[len(s.segments)-1])[0])
			if err != nil || h.Segment != len(s.segments)-1 || len(h.Config.Backends) != 2 || len(h.Speeds) == 0 {
				t.Errorf("the last segment of %d begins with %+v, %v", len(s.segments), h, err)
			}
		})
	}
}

// TestRecordingMakesNobodyWait: what it is written to hangs; jobs are served all the same, what is left out is told,
// and seen from the segments' numbers.
func TestRecordingMakesNobodyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shelf{stuck: make(chan struct{})}
		r := s.recorder(0)
		d := start(t, backends(8, "a", "b"), dispatcher.Options{Recorder: r})
		work(t, d, 20)
		many := make([]scheduler.SpeedRecord, 100) // a few of which fill what may be pending
		for i := range many {
			many[i].Address = strings.Repeat("x", 8_000)
		}
		for range 6 {
			d.Restore(many)
		}
		work(t, d, 20)
		close(s.stuck)
		synctest.Wait()
		work(t, d, 5)
		d.Close()
		r.Close()
		if len(s.failed) != 1 || !errors.Is(s.failed[0], dispatcher.ErrGap) || len(s.segments) != 2 {
			t.Errorf("%d segments, failures %v", len(s.segments), s.failed)
		}
		if _, err := journal.Replay(slices.Values(linesOf(s.segments...)), policies.ByName); err == nil {
			t.Error("a journal with a gap was replayed")
		}
		if got, err := journal.Replay(slices.Values(linesOf(s.segments[0])), policies.ByName); err != nil || got.Difference != nil {
			t.Errorf("what is before the gap: %+v, %v", got, err)
		}
	})
}

// TestRecordingGoesOnAfterErrors: the next segment is tried.
func TestRecordingGoesOnAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shelf{refuse: 1}
		r := s.recorder(0)
		d := start(t, backends(1, "a"), dispatcher.Options{Recorder: r})
		synctest.Wait()
		work(t, d, 3)
		d.Close()
		r.Close()
		if len(s.failed) != 1 || len(s.segments) != 1 {
			t.Fatalf("%d segments, failures %v", len(s.segments), s.failed)
		}
		records := 0
		for _, err := range journal.Records(slices.Values(linesOf(s.segments[0])), func(h journal.Header) {
			if h.Segment == 0 {
				t.Error("a segment that lacks the beginning says that it is the first")
			}
		}) {
			if records++; err != nil {
				t.Error(err)
			}
		}
		if records < 6 {
			t.Errorf("%d records", records)
		}
	})
}

// TestRecordersComeAndGo: each has what happened in its time, and only one that was there from the beginning can be
// replayed.
func TestRecordersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelves := make([]shelf, 3)
		d := dispatcher.New(dispatcher.Options{})
		for i := range shelves {
			r := shelves[i].recorder(0)
			d.Record(r)
			if i == 0 {
				if err := d.Configure(backends(1, "a")); err != nil {
					t.Fatal(err)
				}
			}
			work(t, d, 5)
			d.Record(nil)
			r.Close()
			work(t, d, 1) // in nobody's time
		}
		d.Close()
		for i, s := range shelves {
			if len(s.segments) != 1 || len(s.failed) > 0 {
				t.Fatalf("recorder %d: %d segments, failures %v", i, len(s.segments), s.failed)
			}
			arrived := strings.Count(s.segments[0].String(), `"Is":"arrived"`)
			got, err := journal.Replay(slices.Values(linesOf(s.segments...)), policies.ByName)
			if arrived != 6 || (err == nil) != (i == 0) || got.Difference != nil {
				t.Errorf("recorder %d: %d jobs, replayed %+v: %v", i, arrived, got, err)
			}
		}
	})
}

// TestSpeedsAreKept: told, given back to another dispatcher before or after it is configured, and taken over when
// the scheduler panics.
func TestSpeedsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observations := func(d *dispatcher.Dispatcher) int {
			n := 0
			for _, b := range d.Snapshot().Backends {
				for _, s := range b.Speeds {
					n += s.Observations
				}
			}
			return n
		}
		m := mine{}
		d := start(t, backends(1, "a"), dispatcher.Options{Observers: []dispatcher.Observer{&m}})
		work(t, d, 5)
		kept := d.Speeds()
		if len(kept) != 1 || observations(d) != 5 {
			t.Fatalf("learned %+v", kept)
		}
		m.at = m.steps + 1
		d.Probed("a", true, false)
		if observations(d) != 5 {
			t.Errorf("%d observations after a panic, 5 before", observations(d))
		}
		d.Close()
		for _, early := range []bool{true, false} {
			again := dispatcher.New(dispatcher.Options{})
			if early {
				again.Restore(kept)
			}
			if err := again.Configure(backends(1, "a")); err != nil {
				t.Fatal(err)
			}
			if !early {
				again.Restore(kept)
			}
			if observations(again) != 5 {
				t.Errorf("restored before the configuration %v: %d observations", early, observations(again))
			}
			again.Close()
		}
	})
}
