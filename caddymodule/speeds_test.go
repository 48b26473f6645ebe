package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

// TestRestartKeepsSpeeds: what one process has learned the next one knows before its first job; of another
// server at the address it knows nothing.
func TestRestartKeepsSpeeds(t *testing.T) {
	backend := newWhisper(t)
	config := "backend " + backend.address() + " T4"
	p := newProxy(t, config)
	p.ready(1)
	for range 3 {
		if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
	}
	learned := p.pool().dispatcher.Snapshot().Backends[0].Speeds[0]
	if learned.Observations != 3 {
		t.Fatalf("%d observations before the restart", learned.Observations)
	}
	restart := func() {
		t.Helper()
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		client.CloseIdleConnections()
		eventually(t, "the pool is gone", func() bool { _, ok := pools.References(defaultPoolName); return !ok })
		p.mustLoad(site(p.url, config))
	}
	restart()
	speeds := p.pool().dispatcher.Snapshot().Backends[0].Speeds
	if len(speeds) != 1 || speeds[0].Observations != 3 || speeds[0].TenSeconds != learned.TenSeconds {
		t.Errorf("known after the restart: %+v, before: %+v", speeds, learned)
	}
	if !strings.Contains(p.log(), `"speeds":1`) {
		t.Error("it is not logged")
	}
	p.ready(1)
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	restart()
	if got := p.pool().dispatcher.Snapshot().Backends[0].Speeds[0].Observations; got != 4 {
		t.Errorf("%d observations after the second restart", got)
	}
	config = "backend " + backend.address() + " H100" // another card
	restart()
	for _, s := range p.pool().dispatcher.Snapshot().Backends[0].Speeds {
		if s.Observations != 0 {
			t.Errorf("of another class: %+v", s)
		}
	}
}

// TestBrokenSpeeds: what can't be read is discarded with one line, and written anew.
func TestBrokenSpeeds(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"newer":    {`{"version":2,"pool":"default","machines":[]}`, "it is of version 2, and this program reads version 1"},
		"cut":      {`{"version":1,"pool":"default","sp`, "it is broken"},
		"empty":    {``, "it is broken"},
		"strange":  {`{"version":1,"pool":"default","saved":"2026-01-02T03:04:05Z","speeds":[{"Address":"a:1","Colour":"red"}]}`, "it is broken"},
		"nonsense": {`{"version":1,"pool":"default","saved":"2026-01-02T03:04:05Z","speeds":[{"Address":"a:1","Learned":{"Observations":-4}}]}`, "it is broken"},
		"foreign":  {`{"version":1,"pool":"other","saved":"2026-01-02T03:04:05Z","speeds":[]}`, "of the pool"},
	} {
		t.Run(name, func(t *testing.T) {
			backend := newWhisper(t)
			p := &proxy{t: t, url: "http://" + freeAddress(t), logs: filepath.Join(t.TempDir(), "caddy.log")}
			file := filepath.Join(filepath.Dir(p.logs), "storage", speedsKey(defaultPoolName))
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(c.text), 0o600)); err != nil {
				t.Fatal(err)
			}
			p.mustLoad(site(p.url, "backend "+backend.address()))
			p.ready(1)
			if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
				t.Errorf("status %d: %s", r.status, r.body)
			}
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(p.log(), "will be learned again"); n != 1 || !strings.Contains(p.log(), c.says) {
				t.Errorf("%d lines in the log, want one with %q", n, c.says)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			speeds, err := readSpeeds(text, defaultPoolName, time.Now())
			if err != nil || len(speeds) != 1 || speeds[0].Address != backend.address() {
				t.Errorf("written anew: %v, %v", speeds, err)
			}
		})
	}
}

// TestStorageThatFails: transcriptions are served all the same.
func TestStorageThatFails(t *testing.T) {
	backend := newWhisper(t)
	p := &proxy{t: t, url: "http://" + freeAddress(t), logs: filepath.Join(t.TempDir(), "caddy.log")}
	if err := os.WriteFile(filepath.Join(filepath.Dir(p.logs), "storage"), nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	p.mustLoad(site(p.url, "backend "+backend.address()))
	p.ready(1)
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"will be learned again", "can't be stored"} {
		if n := strings.Count(p.log(), line); n != 1 {
			t.Errorf("%q is %d times in the log", line, n)
		}
	}
}

var someSpeed = scheduler.SpeedRecord{
	Address: "10.0.0.1:80", Class: "T4", Model: "base", Instance: "one", Age: time.Minute,
	Learned: estimator.State{
		Cost: estimator.Cost{Fixed: 1, PerSecond: 2, PerWindow: 3}, Observations: 4, Fastest: 0.5,
		Levels: []estimator.Level{{Occupancy: 1, Theta: 0.25, Spread: 0.125, Observations: 4}},
	},
}

// TestSpeedsFormat pins the format: who changes it raises speedsVersion, and this.
func TestSpeedsFormat(t *testing.T) {
	saved := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	text, err := json.Marshal(speedsFile{speedsVersion, "main", saved, []scheduler.SpeedRecord{someSpeed}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":1,"pool":"main","saved":"2026-11-24T12:00:00Z","speeds":[{"Address":"10.0.0.1:80","Class":"T4","Model":"base",` +
		`"Instance":"one","Age":60000000000,"Learned":{"Cost":{"Fixed":1,"PerSecond":2,"PerWindow":3},` +
		`"Levels":[{"Occupancy":1,"Theta":0.25,"Spread":0.125,"Observations":4}],"Observations":4,"Fastest":0.5}}]}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	for now, age := range map[time.Time]time.Duration{
		saved: time.Minute, saved.Add(time.Hour): time.Hour + time.Minute, saved.Add(-time.Hour): time.Minute, // the clock was put back
	} {
		speeds, err := readSpeeds(text, "main", now)
		if err != nil || len(speeds) != 1 || speeds[0].Age != age || speeds[0].Instance != "one" {
			t.Errorf("at %v: %+v, %v, want age %v", now, speeds, err, age)
		}
	}
	for name, want := range map[string]string{
		"main": "whisperpool/speeds/main-", "../../etc/x": "whisperpool/speeds/______etc_x-", "..": "whisperpool/speeds/__-",
	} {
		if got := speedsKey(name); !strings.HasPrefix(got, want) || strings.Count(got, "/") != 2 {
			t.Errorf("%s is stored as %s", name, got)
		}
	}
	if speedsKey("a/b") == speedsKey("a_b") {
		t.Error("two pools have one key")
	}
}

// closet is a storage in memory that can fail or not answer.
type closet struct {
	mu     sync.Mutex
	text   []byte
	stores int
	fails  error
	stuck  chan struct{} // answers only when it is closed
}

func (c *closet) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fails = err
}

func (c *closet) stored() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stores
}

func (c *closet) Load(context.Context, string) ([]byte, error) {
	if c.stuck != nil {
		<-c.stuck
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text == nil {
		return nil, fs.ErrNotExist
	}
	return c.text, c.fails
}

func (c *closet) Store(_ context.Context, _ string, text []byte) error {
	c.mu.Lock()
	c.stores++
	c.mu.Unlock()
	if c.stuck != nil {
		<-c.stuck
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails == nil {
		c.text = text
	}
	return c.fails
}

// learned is what a pool has learned.
type learned struct {
	mu     sync.Mutex
	speeds []scheduler.SpeedRecord
}

func (l *learned) get() []scheduler.SpeedRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.speeds)
}

func (l *learned) set(speeds []scheduler.SpeedRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.speeds = speeds
}

func newKeeper(l *learned) (*speedKeeper, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return &speedKeeper{
		pool: "main", log: func() *zap.Logger { return zap.New(core) }, speeds: l.get, restore: l.set,
	}, logs
}

// TestSpeedsAreStoredNowAndThen: every 30 s at most, and only when something was learned.
func TestSpeedsAreStoredNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l learned
		to := &closet{}
		k, logs := newKeeper(&l)
		ctx, stop := context.WithCancel(t.Context())
		go k.run(ctx, func() storage { return to })
		pass := func(d time.Duration, stores int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := to.stored(); got != stores {
				t.Errorf("stored %d times, want %d", got, stores)
			}
		}
		some := someSpeed
		pass(5*time.Minute, 0) // nothing was learned
		l.set([]scheduler.SpeedRecord{some})
		pass(speedsEvery, 1)
		some.Age += time.Hour // as it does by itself
		l.set([]scheduler.SpeedRecord{some})
		pass(5*time.Minute, 1)
		some.Learned.Observations++
		l.set([]scheduler.SpeedRecord{some})
		to.fail(errors.New("no room"))
		pass(3*speedsEvery, 4) // tried again, and told once
		to.fail(nil)
		pass(5*time.Minute, 5)
		stop()
		synctest.Wait()
		if n := logs.FilterMessageSnippet("can't be stored").Len(); n != 1 || logs.FilterMessageSnippet("stored again").Len() != 1 {
			t.Errorf("log: %v", logs.All())
		}
		var again learned
		next, _ := newKeeper(&again)
		next.load(to)
		if got := again.get(); len(got) != 1 || got[0].Learned.Observations != 5 || got[0].Age < time.Hour+4*time.Minute {
			t.Errorf("read again: %+v", got)
		}
	})
}

// TestStorageThatDoesNotAnswer keeps nobody waiting for long.
func TestStorageThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l learned
		l.set([]scheduler.SpeedRecord{someSpeed})
		from, to := &closet{}, &closet{stuck: make(chan struct{})}
		k, logs := newKeeper(&l)
		k.save(from)
		from.stuck = make(chan struct{})
		l.set(nil)
		began := time.Now()
		k.load(from)
		if took := time.Since(began); took != startTimeout || len(l.get()) != 0 {
			t.Errorf("starting took %v, %d speeds", took, len(l.get()))
		}
		close(from.stuck)
		synctest.Wait()
		if n := len(l.get()); n != 1 { // what comes late is taken over late
			t.Errorf("%d speeds", n)
		}
		some := someSpeed
		some.Learned.Observations++
		l.set([]scheduler.SpeedRecord{some})
		for i := range 3 {
			began = time.Now()
			k.save(to)
			if took := time.Since(began); took != map[int]time.Duration{0: storageTimeout}[i] {
				t.Errorf("storing took %v", took)
			}
		}
		if n := to.stored(); n != 1 {
			t.Errorf("the storage was asked %d times, while it did not answer the first", n)
		}
		if n := logs.FilterMessageSnippet("can't be stored").Len(); n != 1 {
			t.Errorf("told %d times", n)
		}
		close(to.stuck)
		synctest.Wait()
		if k.save(to); to.stored() != 2 {
			t.Errorf("the storage was asked %d times, although it answers again", to.stored())
		}
	})
}
