package backend_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
)

// elastic is an engine whose slots can be made and freed, up to most.
type elastic struct {
	*blocking
	mu   sync.Mutex
	now  int
	most int
}

func (e *elastic) Info() backend.EngineInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	info := e.blocking.Info()
	info.Slots, info.SlotsMax = e.now, 64
	return info
}

func (e *elastic) Resize(n int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = min(n, e.most)
	if n > e.most {
		return errNoMemory
	}
	return nil
}

type noMemory struct{}

func (noMemory) Error() string { return "the device has no memory for another slot" }

var errNoMemory = noMemory{}

// The driver over real sockets: slots come with jobs and go without, and one that cannot be made is
// told once and costs nobody a job.
func TestSlotsComeAndGo(t *testing.T) {
	log := &lockedBuffer{}
	e := &elastic{blocking: newBlocking(1), now: 1, most: 3}
	r := runEvery(t, time.Millisecond, backend.Config{
		Queue: 10, MinSlots: 1, MaxSlots: 5, TargetOngoing: 1, Log: slog.New(slog.NewTextHandler(log, nil)),
		UpscaleDelay: time.Millisecond, DownscaleDelay: 10 * time.Millisecond,
	}, func() (backend.Transcriber, error) { return e, nil })
	until(t, "it is ready", func() bool { status, _ := health(t, r.base); return status == http.StatusOK })
	if got := report(t, r.base); got.Slots != 1 || got.SlotsMin != 1 || got.SlotsMax != 5 {
		t.Errorf("%+v", got)
	}
	jobs := make([]<-chan answer, 0, 5)
	for range 5 {
		done, _ := start(t, r.base)
		jobs = append(jobs, done)
	}
	until(t, "three run", func() bool { got := report(t, r.base); return got.Slots == 3 && got.Busy == 3 && got.Queued == 2 })
	contains(t, send(t, http.MethodGet, r.base+"/metrics", "", nil).body,
		"whisper_backend_slots 3", "whisper_backend_slots_min 1", "whisper_backend_slots_max 5")
	for range jobs {
		e.release <- struct{}{}
	}
	for _, done := range jobs {
		if a := await(t, done, "an answer"); a.status != http.StatusOK {
			t.Errorf("%d", a.status)
		}
	}
	until(t, "one is left", func() bool { return report(t, r.base).Slots == 1 && e.Info().Slots == 1 })
	if n := strings.Count(log.String(), errNoMemory.Error()); n < 1 || n > 3 { // once for each time that another number was wanted: 4 on the way to 5 and back
		t.Errorf("said %d times that there is no memory:\n%s", n, log.String())
	}
	if most := e.blocking.most.Load(); most > 3 {
		t.Errorf("%d jobs ran on three slots", most)
	}
	e.mu.Lock()
	e.now = 0 // its state was lost
	e.mu.Unlock()
	until(t, "the lost slot is made anew", func() bool { return e.Info().Slots == 1 })
	done, _ := start(t, r.base)
	e.release <- struct{}{}
	if a := await(t, done, "an answer"); a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
	r.stop()
	if err := await(t, r.done, "the end"); err != nil {
		t.Error(err)
	}
}

// lockedBuffer is a log that a test reads while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
