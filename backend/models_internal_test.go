package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// shelfLibrary is a library of engines that do nothing.
type shelfLibrary struct {
	mu     sync.Mutex
	models []Model
	fail   map[string]error
	takes  time.Duration // a load
	loads  map[string]int
	open   map[string]*shelfEngine
	free   func() uint64
	fit    int32 // slots that a model is loaded with at most; 0: any number
}

type shelfEngine struct {
	library *shelfLibrary
	id      string
	bytes   uint64
	slots   atomic.Int32
	most    int32 // slots that there is memory for; 0: any number
	resizes atomic.Int32
}

func newShelfLibrary(ids ...string) *shelfLibrary {
	l := &shelfLibrary{takes: time.Second, loads: map[string]int{}, open: map[string]*shelfEngine{}, fail: map[string]error{}}
	for _, id := range ids {
		l.models = append(l.models, Model{ID: id, Path: "/models/ggml-" + id + ".bin", Bytes: 100})
	}
	return l
}

func (l *shelfLibrary) Models() []Model {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.models)
}

func (l *shelfLibrary) Load(_ context.Context, id string, slots int) (Transcriber, error) {
	<-time.After(l.takes)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads[id]++
	if err := l.fail[id]; err != nil {
		return nil, err
	}
	if l.open[id] != nil {
		return nil, errors.New("loaded twice")
	}
	e := &shelfEngine{library: l, id: id, bytes: 100}
	e.slots.Store(int32(slots)) //nolint:gosec // a few
	if l.fit > 0 && e.slots.Load() > l.fit {
		e.slots.Store(l.fit)
	}
	l.open[id] = e
	return e, nil
}

func (l *shelfLibrary) loaded() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for id := range l.open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func (l *shelfLibrary) count(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loads[id]
}

func (e *shelfEngine) Transcribe(context.Context, Job) (Result, error) { return Result{}, nil }

func (e *shelfEngine) Resize(n int) error {
	e.resizes.Add(1)
	if e.most > 0 && int32(n) > e.most {
		e.slots.Store(e.most)
		return fmt.Errorf("there is memory for %d slots only", e.most)
	}
	e.slots.Store(int32(n))
	return nil
}

func (e *shelfEngine) Info() EngineInfo {
	info := EngineInfo{Engine: "test", Model: e.id, Multilingual: true, Slots: int(e.slots.Load()), Bytes: e.bytes}
	if e.library != nil && e.library.free != nil {
		info.DeviceFree = e.library.free()
	}
	return info
}

func (e *shelfEngine) Close() error {
	e.library.mu.Lock()
	defer e.library.mu.Unlock()
	delete(e.library.open, e.id)
	return nil
}

// shelved is a server with the library's first model loaded.
func shelved(t *testing.T, cfg Config, l *shelfLibrary) *Server {
	t.Helper()
	cfg.Library = l
	s, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.load(s.loadDefault); err != nil {
		t.Fatal(err)
	}
	return s
}

// borrow takes a model that must come.
func borrow(t *testing.T, s *Server, id string) func() {
	t.Helper()
	d, release, refusal := s.model(t.Context(), id)
	if refusal != nil {
		t.Fatalf("%s: %v", id, refusal)
	}
	if id != "" && !transcript.MeansDefault(id) && d.info.Model != id {
		t.Fatalf("asked for %s, got %s", id, d.info.Model)
	}
	return release
}

func wantLoaded(t *testing.T, l *shelfLibrary, want string) {
	t.Helper()
	if got := l.loaded(); got != want {
		t.Errorf("loaded: %q, want %q", got, want)
	}
}

func TestAModelIsLoadedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "large")
		s := shelved(t, Config{}, l)
		wantLoaded(t, l, "base")
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { borrow(t, s, "large")() })
		}
		synctest.Wait()
		started := time.Now()
		borrow(t, s, "base")() // serves on
		if took := time.Since(started); took != 0 {
			t.Errorf("the model that was loaded had to wait %v for another", took)
		}
		if r := s.Report(); !r.Models[1].Loading || r.Models[1].Loaded || !r.Models[0].Loaded || !r.Models[0].Default {
			t.Errorf("%+v", r.Models)
		}
		wg.Wait()
		wantLoaded(t, l, "base large")
		if l.count("large") != 1 {
			t.Errorf("loaded %d times", l.count("large"))
		}
		if err := s.shelf.shut(); err != nil {
			t.Error(err)
		}
		wantLoaded(t, l, "")
	})
}

// Who asks for base gets it as it is there: quantised, where nothing else is.
func TestANameMeansAQuantisedModelToo(t *testing.T) {
	known := []Model{
		{ID: "base.en-q5_0", Bytes: 5}, {ID: "base", Bytes: 15}, {ID: "base-q8_0", Bytes: 8}, {ID: "small-q5_1", Bytes: 5},
		{ID: "small-q8_0", Bytes: 8}, {ID: "small-q4_k", Bytes: 4}, {ID: "base.en-q8_0", Bytes: 8}, {ID: "large-v3-turbo-q5_0"},
		{ID: "tiny-question"},
	}
	sh := &shelf{}
	for id, want := range map[string]string{
		"base": "base", "base-q8_0": "base-q8_0", "base-q5_0": "", "small": "small-q8_0", "small-q4_k": "small-q4_k",
		"base.en": "base.en-q5_0", "whisper-1": "base.en-q5_0", "large-v3-turbo": "large-v3-turbo-q5_0", "large-v3": "", "tiny": "",
		"-q8_0": "", "medium": "",
	} {
		if m, found := sh.among(known, id); m.ID != want || found != (want != "") {
			t.Errorf("%s means %q, want %q", id, m.ID, want)
		}
	}
}

// A limit of memory that is too small for all slots of a model is enough for the model with fewer.
func TestAModelIsLoadedWithTheSlotsThatItMayHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "large", "huge")
		l.models[0].SlotBytes, l.models[1].SlotBytes = 200, 300
		l.models[2].Bytes, l.models[2].SlotBytes = 900, 300
		var log strings.Builder
		s := shelved(t, Config{MinSlots: 4, MaxSlots: 4, MemoryMax: 1000, Log: slog.New(slog.NewTextHandler(&log, nil))}, l)
		if n := l.open["base"].slots.Load(); n != 4 {
			t.Errorf("base fits with 4 slots, it has %d", n)
		}
		borrow(t, s, "large")()
		wantLoaded(t, l, "large")
		s.shelf.keepSlots(4)
		if n, tried := l.open["large"].slots.Load(), l.open["large"].resizes.Load(); n != 3 || tried != 0 {
			t.Errorf("large has %d slots, more were tried %d times", n, tried)
		}
		if said := strings.Count(log.String(), "fewer slots than asked for"); said != 1 {
			t.Errorf("said %d times:\n%s", said, &log)
		}
		if _, _, refusal := s.model(t.Context(), "huge"); refusal == nil || !strings.Contains(refusal.Message, "more than") {
			t.Errorf("one that does not fit with a slot: %v", refusal)
		}
		if err := s.shelf.shut(); err != nil {
			t.Error(err)
		}
	})
}

// A model that came with fewer slots than wanted serves with those; more are tried once there may be memory.
func TestAModelServesWithTheSlotsThatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "large")
		l.fit = 2
		s := shelved(t, Config{MinSlots: 4, MaxSlots: 4}, l)
		borrow(t, s, "large")()
		s.shelf.keepSlots(4)
		base, large := l.open["base"], l.open["large"]
		if s.slots.now() != 2 || base.resizes.Load() != 0 || large.resizes.Load() != 0 {
			t.Errorf("%d slots, tried again %d and %d times", s.slots.now(), base.resizes.Load(), large.resizes.Load())
		}
		s.shelf.turn <- struct{}{}
		s.shelf.close(s.shelf.devices["large"], "test")
		<-s.shelf.turn
		s.shelf.keepSlots(4)
		if s.slots.now() != 4 || base.slots.Load() != 4 {
			t.Errorf("once there is memory: %d slots, the engine has %d", s.slots.now(), base.slots.Load())
		}
		if err := s.shelf.shut(); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatNamesMean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "large", "whisper-1")
		s := shelved(t, Config{}, l)
		for id, want := range map[string]string{"": "base", "gpt-4o-transcribe": "base", "large": "large", "whisper-1": "whisper-1"} {
			d, release, refusal := s.model(t.Context(), id)
			if refusal != nil || d.info.Model != want {
				t.Errorf("%q: %v %v", id, d, refusal)
			}
			release()
		}
		_, _, refusal := s.model(t.Context(), "tiny")
		if refusal == nil || refusal.Status != 404 || refusal.Message != `The model "tiny" does not exist here; there are "base", "large", "whisper-1".` {
			t.Errorf("%+v", refusal)
		}
		<-time.After(rereadEvery)
		l.mu.Lock()
		l.models = append(l.models, Model{ID: "tiny"})
		l.mu.Unlock()
		borrow(t, s, "tiny")() // a file that was put there since
		_ = s.shelf.shut()
	})
}

func TestTheLeastRecentlyUsedMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "a", "b", "c")
		s := shelved(t, Config{MemoryMax: 350}, l)
		borrow(t, s, "a")()
		borrow(t, s, "b")()
		<-time.After(time.Second)
		borrow(t, s, "a")()
		borrow(t, s, "c")()
		wantLoaded(t, l, "a base c") // b goes, and not the default model, though that was used least
		l.mu.Lock()
		l.models = append(l.models, Model{ID: "huge", Bytes: 351}, Model{ID: "big", Bytes: 350})
		l.mu.Unlock()
		<-time.After(rereadEvery)
		if _, _, refusal := s.model(t.Context(), "huge"); refusal == nil || refusal.Code != "no_room" || !strings.Contains(refusal.Message, "more than") {
			t.Errorf("%+v", refusal)
		}
		borrow(t, s, "big")()
		wantLoaded(t, l, "big") // the default model goes when nothing else helps
		<-time.After(time.Second)
		borrow(t, s, "whisper-1")()
		wantLoaded(t, l, "base big") // it took 100 in truth, as the engine says
		_ = s.shelf.shut()
	})
}

func TestADeviceWithoutMemoryUnloadsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "a", "b")
		l.free = func() uint64 { return uint64(260 - 100*len(strings.Fields(l.loaded()))) }
		s := shelved(t, Config{MemoryMax: 1 << 40}, l)
		borrow(t, s, "a")()
		borrow(t, s, "b")()
		wantLoaded(t, l, "b base")
		_ = s.shelf.shut()
	})
}

func TestAModelInUseIsNotUnloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "a")
		s := shelved(t, Config{MemoryMax: 150}, l)
		release := borrow(t, s, "base")
		_, _, refusal := s.model(t.Context(), "a") // for which it would have to go
		if refusal == nil || refusal.Code != "no_room" || refusal.RetryAfter == 0 {
			t.Errorf("%+v", refusal)
		}
		wantLoaded(t, l, "base")
		borrow(t, s, "base")() // and is not kept from new jobs any longer
		release()
		<-time.After(2 * time.Second)
		borrow(t, s, "a")()
		wantLoaded(t, l, "a")
		_ = s.shelf.shut()
	})
}

// Two models that do not fit side by side, both asked for all the time: each gets its turn.
func TestAModelThatIsNeverIdleLetsOthersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "a")
		s := shelved(t, Config{MemoryMax: 150}, l)
		ctx, stop := context.WithCancel(t.Context())
		var served [2]atomic.Int32
		var wg sync.WaitGroup
		for i, id := range []string{"base", "a"} {
			for range 2 {
				wg.Go(func() {
					for ctx.Err() == nil {
						_, release, refusal := s.model(ctx, id)
						if refusal != nil {
							if refusal.Status != statusClientGone {
								t.Errorf("%s: %v", id, refusal)
							}
							return
						}
						<-time.After(700 * time.Millisecond)
						served[i].Add(1)
						release()
					}
				})
			}
		}
		<-time.After(2 * time.Minute)
		stop()
		wg.Wait()
		for i := range served {
			if n := served[i].Load(); n < 50 { // of some 270 that there is time for
				t.Errorf("%d jobs of model %d", n, i)
			}
		}
		if n := l.count("a"); n < 5 || n > 30 { // turns of some seconds, unless both clients happen to be between jobs
			t.Errorf("loaded %d times in two minutes", n)
		}
		_ = s.shelf.shut()
	})
}

func TestAFailedLoadIsNotTriedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "broken")
		l.fail["broken"] = errors.New("the file /models/secret is cut short")
		s := shelved(t, Config{}, l)
		try := func(within time.Duration) time.Duration {
			t.Helper()
			_, _, refusal := s.model(t.Context(), "broken")
			if refusal == nil || refusal.Status != 503 || refusal.Code != "model_failed" || refusal.RetryAfter > within || strings.Contains(refusal.Message, "/models") {
				t.Fatalf("%+v", refusal)
			}
			return refusal.RetryAfter
		}
		for range 20 {
			try(pauseMin)
		}
		if n := l.count("broken"); n != 1 {
			t.Errorf("tried %d times", n)
		}
		for range 10 {
			<-time.After(try(pauseMax))
		}
		if n := l.count("broken"); n < 9 || n > 11 {
			t.Errorf("tried %d times after the pauses", n)
		}
		l.mu.Lock()
		delete(l.fail, "broken")
		l.mu.Unlock()
		<-time.After(pauseMax)
		borrow(t, s, "broken")()
		_ = s.shelf.shut()
	})
}

func TestIdleModelsAreUnloaded(t *testing.T) {
	for _, c := range []struct {
		after, wait time.Duration
		want        string
	}{
		{0, 9 * time.Minute, "base large"},
		{0, 11 * time.Minute, "base"},
		{time.Minute, 59 * time.Second, "base large"},
		{time.Minute, 61 * time.Second, ""},
		{-1, 1000 * time.Hour, "base large"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newShelfLibrary("base", "large")
			s := shelved(t, Config{UnloadAfter: c.after}, l)
			hold := borrow(t, s, "large")
			s.shelf.unloadIdle(time.Now().Add(2000 * time.Hour)) // it is in use
			if got := l.loaded(); !strings.Contains(got, "large") {
				t.Errorf("%v: unloaded in use", c)
			}
			borrow(t, s, "base")()
			hold()
			s.shelf.unloadIdle(time.Now().Add(c.wait))
			wantLoaded(t, l, c.want)
			borrow(t, s, "base")() // comes back when it is wanted
			_ = s.shelf.shut()
		})
	}
}

func TestAClientNeedNotWaitForALoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "large")
		l.takes = time.Minute
		s := shelved(t, Config{Queue: 2}, l)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, refusal := s.model(ctx, "large")
		if refusal == nil || refusal.Status != statusClientGone {
			t.Fatalf("%+v", refusal)
		}
		for range 3 { // a slot and two places in the queue
			go func() { _, _, _ = s.model(t.Context(), "large") }()
		}
		synctest.Wait()
		if _, _, refusal = s.model(t.Context(), "large"); refusal == nil || refusal.Code != "queue_full" || refusal.RetryAfter == 0 {
			t.Errorf("one more than may wait: %+v", refusal)
		}
		<-time.After(time.Minute)
		wantLoaded(t, l, "base large")
	})
}

func TestShutdownEndsALoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "a", "b")
		l.takes = time.Minute
		s := shelved(t, Config{}, l)
		refusals := make(chan *transcript.Error, 2)
		for _, id := range []string{"a", "b"} {
			go func() {
				_, _, refusal := s.model(t.Context(), id)
				refusals <- refusal
			}()
		}
		synctest.Wait()
		if err := s.shelf.shut(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if refusal := <-refusals; refusal == nil || refusal.Code != "shutting_down" {
				t.Errorf("%+v", refusal)
			}
		}
		wantLoaded(t, l, "")
	})
}

// The limit of memory holds for slots, too.
func TestSlotsTakeMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base")
		l.models[0].SlotBytes = 50
		s := shelved(t, Config{MinSlots: 1, MaxSlots: 8, MemoryMax: 275}, l)
		e := l.open["base"]
		s.shelf.keepSlots(8)
		if got := s.slots.now(); got != 4 || e.slots.Load() != 4 { // 100 that it takes, and three times 50 more
			t.Errorf("%d slots, the engine has %d", got, e.slots.Load())
		}
		s.shelf.keepSlots(8)
		if n := e.resizes.Load(); n != 1 {
			t.Errorf("resized %d times", n)
		}
		s.shelf.keepSlots(2)
		if got := s.slots.now(); got != 2 || e.slots.Load() != 2 {
			t.Errorf("%d slots, the engine has %d", got, e.slots.Load())
		}
		_ = s.shelf.shut()
	})
}

func TestKeepingSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShelfLibrary("base", "large")
		s := shelved(t, Config{MinSlots: 2, MaxSlots: 8}, l)
		borrow(t, s, "large")()
		base, large := l.open["base"], l.open["large"]
		check := func(what string, slots, baseSlots, largeSlots int) {
			t.Helper()
			if got := s.slots.now(); got != slots || int(base.slots.Load()) != baseSlots || int(large.slots.Load()) != largeSlots {
				t.Errorf("%s: %d slots, engines have %d and %d", what, got, base.slots.Load(), large.slots.Load())
			}
		}
		check("at first", 2, 2, 2)
		s.shelf.keepSlots(4)
		check("more", 4, 4, 4)
		large.most = 3
		s.shelf.keepSlots(5)
		check("no memory for more of one", 5, 5, 3)
		n := large.resizes.Load()
		s.shelf.keepSlots(5)
		if large.resizes.Load() != n {
			t.Error("tried again at once")
		}
		base.slots.Store(3) // two were lost
		s.shelf.keepSlots(4)
		check("made anew", 4, 4, 3)
		s.shelf.keepSlots(1)
		check("fewer", 1, 1, 1)
		_ = s.shelf.shut()
	})
}
