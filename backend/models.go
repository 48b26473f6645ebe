package backend

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// shelf holds the models of a server: which there are, which are loaded, and who uses them. Models
// are loaded when they are asked for, one at a time, while the others serve on; where memory is
// short the least recently used idle one goes.
//
// Invariants: a device in devices is open; one that has users stays; only who holds turn opens or
// closes one or changes its slots.
type shelf struct {
	server  *Server
	library Library // nil: there is only the first
	life    context.Context
	end     context.CancelFunc
	turn    chan struct{} // a token, held by whoever loads, unloads or resizes

	mu        sync.Mutex
	models    []Model   // the default first; as the library had them last
	read      time.Time // when that was
	devices   map[string]*device
	loads     map[string]*loading // under way
	failures  map[string]failure
	sizes     map[string]int64 // what a model was seen to take
	inference string           // what clients that name no model get; "": the default
	memoryMax int64            // bytes of weights and slots, of all models; 0: not set yet
	waiting   int              // requests that wait for a model
	changed   chan struct{}    // closed, and made anew, when a device is let go or gone
}

// loading is a load that is under way. All who want the model wait for the same one.
type loading struct {
	done   chan struct{} // closed when it has ended
	chosen bool          // by /load: once loaded, it serves those who name no model
	err    error         // set before done is closed
}

// failure is why a model could not be loaded. It is told to whoever asks until a new attempt is due.
type failure struct {
	refusal *transcript.Error
	until   time.Time
	pause   time.Duration
}

// Pauses between attempts to load a model that failed to.
const (
	pauseMin = 5 * time.Second
	pauseMax = 5 * time.Minute
)

func newShelf(s *Server, library Library) *shelf {
	life, end := context.WithCancel(context.Background())
	sh := &shelf{
		server: s, library: library, life: life, end: end, turn: make(chan struct{}, 1),
		devices: map[string]*device{}, loads: map[string]*loading{}, failures: map[string]failure{},
		sizes: map[string]int64{}, memoryMax: s.cfg.MemoryMax, changed: make(chan struct{}),
	}
	sh.reread()
	return sh
}

// model is the loaded model for what a client wrote: the default for a name that means it, and for
// "" the one that /load chose, if any. It is loaded if it must be, for which the caller waits at most
// as long as ctx. release must be called, once, when the job is done; until then it stays loaded.
func (s *Server) model(ctx context.Context, id string) (d *device, release func(), refusal *transcript.Error) {
	if d, refusal = s.shelf.take(ctx, id); refusal != nil {
		return nil, nil, refusal
	}
	return d, func() { s.shelf.letGo(d) }, nil
}

// take is model without the release.
func (sh *shelf) take(ctx context.Context, id string) (*device, *transcript.Error) {
	waits := false
	defer func() {
		if waits {
			sh.mu.Lock()
			defer sh.mu.Unlock()
			sh.waiting--
		}
	}()
	for {
		m, ok := sh.find(id) // anew each time: /load may have changed it meanwhile
		if !ok {
			return nil, sh.unknown(id)
		}
		d, ready, refusal := sh.get(m, &waits)
		if d != nil || refusal != nil {
			return d, refusal
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, sh.server.interrupted(ctx)
		}
	}
}

// get is the device, a refusal, or what to wait for before asking again. It starts the load.
func (sh *shelf) get(m Model, waits *bool) (*device, <-chan struct{}, *transcript.Error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	d := sh.devices[m.ID]
	if d != nil && !d.leaving {
		d.users++
		return d, nil, nil
	}
	if d == nil && sh.loads[m.ID] == nil {
		if f, failed := sh.failures[m.ID]; failed && time.Now().Before(f.until) {
			return nil, nil, f.told()
		}
	}
	if !*waits {
		if sh.waiting >= sh.server.slots.now()+sh.server.cfg.Queue {
			return nil, nil, transcript.Unavailable("queue_full", pauseMin,
				"%d requests wait for models to be loaded already.", sh.waiting)
		}
		sh.waiting++
		*waits = true
	}
	if d != nil {
		return nil, sh.changed, nil
	}
	return nil, sh.start(m, roomPatience).done, nil
}

// start loads a model unless that is under way. The caller holds mu.
func (sh *shelf) start(m Model, patience time.Duration) *loading {
	l := sh.loads[m.ID]
	if l == nil {
		l = &loading{done: make(chan struct{})}
		sh.loads[m.ID] = l
		go sh.load(m, patience, l)
	}
	return l
}

func (sh *shelf) letGo(d *device) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	d.users--
	d.used = time.Now()
	if d.users == 0 {
		sh.signal()
	}
}

// signal wakes who waits for a change. The caller holds mu.
func (sh *shelf) signal() {
	close(sh.changed)
	sh.changed = make(chan struct{})
}

// rereadEvery is how old the list of models gets before it is read again.
const rereadEvery = time.Second

// known are all models, the default first. The slice is not to be written to.
func (sh *shelf) known() []Model {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.models
}

// standard is the id of the default model, "" before there is one. The caller holds mu.
func (sh *shelf) standard() string {
	if len(sh.models) == 0 {
		return ""
	}
	return sh.models[0].ID
}

// reread asks the library which models there are now, unless it was asked a moment ago.
func (sh *shelf) reread() []Model {
	sh.mu.Lock()
	due := time.Since(sh.read) >= rereadEvery
	if due {
		sh.read = time.Now()
	}
	sh.mu.Unlock()
	if due {
		return sh.rereadNow()
	}
	return sh.known()
}

// rereadNow asks the library which models there are now.
func (sh *shelf) rereadNow() []Model {
	if sh.library == nil {
		return sh.known()
	}
	models := sh.library.Models() // looks at disks
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(models) > 0 { // else the default's file is gone, though it may be loaded
		sh.models = models
	}
	return sh.models
}

// find is the model that a name means.
func (sh *shelf) find(id string) (Model, bool) {
	if m, ok := sh.among(sh.known(), id); ok {
		return m, true
	}
	return sh.among(sh.reread(), id)
}

func (sh *shelf) among(known []Model, id string) (Model, bool) {
	want := id
	if id == "" {
		sh.mu.Lock()
		want = sh.inference
		sh.mu.Unlock()
	}
	for _, m := range known {
		if m.ID == want {
			return m, true
		}
	}
	if transcript.MeansDefault(id) && len(known) > 0 {
		return known[0], true
	}
	return quantised(known, id)
}

// quantisation is what stands behind the name of a model whose weights are stored in fewer bits, in the
// files that whisper.cpp's authors publish.
var quantisation = regexp.MustCompile(`-q\d_[01k]$`)

// quantised finds a model that is there only with quantised weights: the default one if it is it, else the
// largest, which has lost least.
func quantised(known []Model, id string) (best Model, found bool) {
	for i, m := range known {
		bare := quantisation.ReplaceAllString(m.ID, "")
		switch {
		case bare != id || bare == m.ID:
		case i == 0:
			return m, true
		case !found || m.Bytes > best.Bytes:
			best, found = m, true
		}
	}
	return best, found
}

// unknown refuses a model that is not there, and says which are.
func (sh *shelf) unknown(id string) *transcript.Error {
	known := sh.known()
	const listed = 20
	names := make([]string, 0, listed)
	for _, m := range known[:min(len(known), listed)] {
		names = append(names, strconv.Quote(m.ID))
	}
	there := "there are no models at all"
	switch {
	case len(known) == 1:
		there = "there is " + names[0]
	case len(known) > listed:
		there = fmt.Sprintf("there are %s and %d more", strings.Join(names, ", "), len(known)-listed)
	case len(known) > 1:
		there = "there are " + strings.Join(names, ", ")
	}
	return &transcript.Error{
		Status: http.StatusNotFound, Type: "invalid_request_error", Param: "model", Code: "model_not_found", Final: true,
		Message: fmt.Sprintf("The model %s does not exist here; %s.", transcript.Quote(id), there),
	}
}

// told is the refusal of who asks for the model before it is tried again.
func (f failure) told() *transcript.Error {
	refusal := *f.refusal
	refusal.RetryAfter = max(time.Second, time.Until(f.until))
	return &refusal
}

// first puts the model on the shelf with which the server starts.
func (sh *shelf) first(d *device) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.library == nil {
		sh.models = []Model{{ID: d.info.Model, Bytes: d.bytes, Multilingual: d.info.Multilingual, Translates: d.translates()}}
	}
	sh.devices[d.info.Model] = d
	sh.sizes[d.info.Model] = d.bytes
	if sh.memoryMax == 0 {
		sh.memoryMax = memoryShare(d)
	}
}

// memoryShare is how much memory models may take if nobody said: nearly all that the device has
// free besides the first, or most of what the machine has.
func memoryShare(d *device) int64 {
	const ofDevice, ofMachine = 0.9, 0.8 // a device has one process, a machine has others
	if d.info.GPU && d.info.DeviceFree > 0 {
		return d.bytes + int64(ofDevice*float64(d.info.DeviceFree))
	}
	if available := memoryAvailable(); available > 0 {
		return d.bytes + int64(ofMachine*float64(available))
	}
	return math.MaxInt64 // nothing is known: the engine says when there is no more
}

// errClosed is why a load ends that the shutdown of the server finds under way.
var errClosed = errors.New("the server is shutting down")
