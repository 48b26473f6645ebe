package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// law is how long a fake takes for a clip.
type law struct {
	Fixed, PerSecond time.Duration
	Noise            float64 // share by which times differ, both ways
}

func (l law) of(seconds float64) time.Duration {
	return l.Fixed + time.Duration(seconds*float64(l.PerSecond))
}

// The kinds of server that a fake can be.
const (
	likeOurs          = "whisperpool"
	likeOpenAI        = "openai"
	likeWhisperServer = "whisper_server"
)

// act is how a fake answers a transcription.
type act func(c *call)

// fake is a backend whose faults can be switched, on a socket of its own. It works on as many jobs at
// a time as it has slots, lets others wait as whisper-server does, and counts that as an overrun.
type fake struct {
	name, address string
	dialect       string
	model         string
	slots         int
	law           law

	slow    atomic.Int64           // how many times as slow as its law, in thousandths
	act     atomic.Pointer[act]    // nil: serves
	health  atomic.Pointer[act]    // nil: is well
	loading atomic.Bool            // says so everywhere
	mute    atomic.Bool            // takes connections and requests, and answers nothing at all
	began   atomic.Int64           // transcriptions that run
	overrun atomic.Int64           // transcriptions that came while all slots were taken
	places  chan struct{}          // one for each slot that is free
	id      atomic.Pointer[string] // of its present life

	*listener
	server *http.Server

	mu      sync.Mutex
	records []*record
	probes  []time.Time // when it was asked for its health
}

// record is one transcription that was sent to a fake.
type record struct {
	clip    uint64 // 0: none of ours, such as a proxy's trial
	seconds float64
	bytes   int
	began   time.Time
	read    time.Time // its body was
	ended   time.Time // zero: it runs
	served  bool      // a whole answer was written
	left    time.Time // the client was seen to leave; zero: it was not
	conn    string
	format  string // that was asked for
	stream  bool
}

// call is a transcription as an act sees it.
type call struct {
	*record
	fake *fake
	w    http.ResponseWriter
	r    *http.Request
}

// fake starts one that serves.
func (e *env) fake(ctx context.Context, name string, law law, options ...func(*fake)) (*fake, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	f := &fake{name: name, address: fmt.Sprintf("127.0.0.1:%d", port), dialect: likeOurs, model: "base", slots: 1, law: law}
	for _, option := range options {
		option(f)
	}
	f.slow.Store(1000)
	f.places = make(chan struct{}, f.slots)
	for range f.slots {
		f.places <- struct{}{}
	}
	f.newLife()
	f.listener = newListener(f.address)
	f.server = &http.Server{Handler: http.HandlerFunc(f.serve), ReadHeaderTimeout: time.Minute, IdleTimeout: 75 * time.Second}
	if err := f.open(ctx); err != nil {
		return nil, err
	}
	go func() { _ = f.server.Serve(f.listener) }() // ends with close
	e.mu.Lock()
	e.fakes = append(e.fakes, f)
	e.mu.Unlock()
	return f, nil
}

func dialect(d string) func(*fake) { return func(f *fake) { f.dialect = d } }
func slots(n int) func(*fake)      { return func(f *fake) { f.slots = n } }
func at(address string) func(*fake) {
	return func(f *fake) { f.address = address }
}

func (f *fake) newLife() {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails, by its contract
	text := hex.EncodeToString(id)
	f.id.Store(&text)
}

// set changes how transcriptions are answered; nil: as they should be.
func (f *fake) set(a act) {
	if a == nil {
		f.act.Store(nil)
		return
	}
	f.act.Store(&a)
}

func (f *fake) slowBy(factor float64) { f.slow.Store(int64(1000 * factor)) }

// die closes the listener and resets every connection, as a process does that is killed.
func (f *fake) die() { f.shut(true) }

// rise makes it listen again, as another process.
func (f *fake) rise(ctx context.Context) error {
	f.newLife()
	return f.open(ctx)
}

func (f *fake) close() {
	f.shut(true)
	_ = f.server.Close() // whatever is open
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	if f.mute.Load() && r.Method != http.MethodPost {
		<-r.Context().Done()
		return
	}
	if f.dialect == likeWhisperServer {
		w.Header().Set("Server", "whisper.cpp")
	}
	if r.Method == http.MethodPost {
		f.transcribe(w, r)
		return
	}
	f.answerProbe(w, r)
}

func (f *fake) transcribe(w http.ResponseWriter, r *http.Request) {
	rec := &record{began: time.Now(), conn: r.RemoteAddr}
	running := f.began.Add(1)
	if running > int64(f.slots) {
		f.overrun.Add(1)
	}
	f.mu.Lock()
	f.records = append(f.records, rec)
	f.mu.Unlock()
	defer func() {
		f.began.Add(-1)
		f.mu.Lock()
		rec.ended = time.Now()
		f.mu.Unlock()
	}()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.note(func() { rec.left = time.Now() })
		return
	}
	id, seconds, _ := readMarker(body)
	f.note(func() {
		rec.clip, rec.seconds, rec.bytes, rec.format, rec.read = id, seconds, len(body), field(body, "response_format"), time.Now()
		rec.stream = field(body, "stream") == "true"
	})
	watched := make(chan struct{})
	stop := context.AfterFunc(r.Context(), func() {
		defer close(watched)
		f.note(func() {
			if !rec.served {
				rec.left = time.Now()
			}
		})
	})
	defer func() {
		if !stop() {
			<-watched
		}
	}()
	c := &call{rec, f, w, r}
	switch {
	case f.mute.Load():
		hanging(c)
		return
	case f.loading.Load():
		c.sayLoading()
		return
	}
	if a := f.act.Load(); a != nil {
		(*a)(c)
		return
	}
	c.serve()
}

func (f *fake) note(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// took is how long this clip takes at present. Chance is of the clip's length, so that the same requests take
// the same in a pool without the fault.
func (f *fake) took(seconds float64) time.Duration {
	noise := 1 + f.law.Noise*(2*mathrand.New(mathrand.NewPCG(math.Float64bits(seconds), 1)).Float64()-1)
	return time.Duration(float64(f.law.of(seconds)) * noise * float64(f.slow.Load()) / 1000)
}

// seen are copies of the records since a moment.
func (f *fake) seen(since time.Time) []record {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []record
	for _, r := range f.records {
		if !r.began.Before(since) {
			all = append(all, *r)
		}
	}
	return all
}

// between counts the clips that were sent in a span of time.
func (f *fake) between(from, to time.Time) int {
	n := 0
	for _, r := range f.seen(from) {
		if r.clip != 0 && r.began.Before(to) {
			n++
		}
	}
	return n
}

func (f *fake) answerProbe(w http.ResponseWriter, r *http.Request) {
	f.note(func() { f.probes = append(f.probes, time.Now()) })
	if a := f.health.Load(); a != nil {
		(*a)(&call{&record{}, f, w, r})
		return
	}
	c := &call{&record{}, f, w, r}
	if f.loading.Load() && r.URL.Path != "/load-report" {
		c.sayLoading()
		return
	}
	switch {
	case r.URL.Path == "/health":
		c.json(http.StatusOK, map[string]string{"status": "ok"})
	case r.URL.Path == "/load-report" && f.dialect == likeOurs:
		c.json(http.StatusOK, f.report())
	case r.URL.Path == "/v1/models" && f.dialect != likeWhisperServer:
		c.json(http.StatusOK, map[string]any{"object": "list", "data": []map[string]any{{"id": f.model, "object": "model"}}})
	case r.Method == http.MethodOptions && f.dialect == likeWhisperServer:
		w.WriteHeader(http.StatusOK)
	default:
		http.Error(w, "File Not Found ("+r.URL.Path+")", http.StatusNotFound)
	}
}

// report is a load report as our own backend writes it.
func (f *fake) report() map[string]any {
	loading := f.loading.Load()
	report := map[string]any{
		"server": "whisperpool", "version": "fake", "instance": *f.id.Load(), "ready": !loading, "loading": loading,
		"draining": false, "slots": 0, "busy": min(f.began.Load(), int64(f.slots)), "queued": max(0, f.began.Load()-int64(f.slots)),
		"queue_max": 16, "gpu_class": "", "engine": "fake", "device": "fake", "emulator": true, "models": []any{},
	}
	if !loading {
		report["slots"] = f.slots
		report["models"] = []any{map[string]any{"id": f.model, "multilingual": true, "translate": true, "words": true}}
	}
	return report
}

func (c *call) json(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("faults: an answer does not encode: " + err.Error())
	}
	c.write(status, "application/json", string(body)+"\n")
}

// write answers; a failure is the client's leaving, which is recorded elsewhere.
func (c *call) write(status int, contentType, body string) {
	c.w.Header().Set("Content-Type", contentType)
	if c.fake.dialect == likeOurs {
		c.w.Header().Set("X-Whisperpool-Instance", *c.fake.id.Load())
		c.w.Header().Set("X-Whisperpool-Emulator", "true")
	}
	c.w.WriteHeader(status)
	_, _ = io.WriteString(c.w, body)
}
