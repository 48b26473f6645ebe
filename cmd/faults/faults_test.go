package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestClipsAreKnownByTheirMarker(t *testing.T) {
	for _, seconds := range []float64{0, 0.5, 12.25, 7200} {
		c := newClip(seconds)
		body, _ := c.form("model", "base", "response_format", "srt")
		id, got, ok := readMarker(body)
		if !ok || id != c.id || got != seconds {
			t.Errorf("a clip of %v s: %d of %v s, %v", seconds, id, got, ok)
		}
		if field(body, "response_format") != "srt" || field(body, "prompt") != "" {
			t.Errorf("fields %q and %q", field(body, "response_format"), field(body, "prompt"))
		}
	}
	if _, _, ok := readMarker([]byte("RIFF....WAVE")); ok {
		t.Error("other audio has a marker")
	}
}

func TestQuantile(t *testing.T) {
	var all []time.Duration
	for i := range 200 {
		all = append(all, time.Duration(i+1))
	}
	for share, want := range map[float64]time.Duration{0.99: 198, 0.5: 100, 1: 200, 0: 1} {
		if got := quantile(all, share); got != want {
			t.Errorf("quantile %v is %d, want %d", share, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("of nothing")
	}
}

func TestIdleWaitSeesWaitingBesideAnIdleBackend(t *testing.T) {
	began := time.Now()
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	a, b := &fake{}, &fake{}
	a.records = []*record{{clip: 1, began: at(0), ended: at(1000)}, {clip: 2, began: at(1000), ended: at(1500)}}
	b.records = []*record{{clip: 3, began: at(0), ended: at(300)}}
	got := &tally{began: began, all: []answer{{clip: clip{id: 1}, began: at(0)}, {clip: clip{id: 2}, began: at(100)}, {clip: clip{id: 3}, began: at(0)}}}
	// Clip 2 waited from 300 to 1000 ms while b was idle.
	wait, of := idleWait(got, nil, a, b)
	if wait != 700*time.Millisecond || of.clip.id != 2 {
		t.Errorf("waited %v, clip %d", wait, of.clip.id)
	}
	if wait, _ := idleWait(got, map[uint64]bool{2: true}, a, b); wait != 0 {
		t.Errorf("without the one that was caught %v", wait)
	}
	if n := together([]record{*a.records[0], *b.records[0], *a.records[1]}); n != 2 {
		t.Errorf("%d together", n)
	}
}

func TestRanOnceCountsWhatIsServedTwice(t *testing.T) {
	began := time.Now()
	a, b := &fake{}, &fake{}
	a.records = []*record{{clip: 1, began: began, served: true}, {clip: 2, began: began, left: began}}
	b.records = []*record{{clip: 1, began: began, served: true}, {clip: 2, began: began, served: true}, {began: began, served: true}}
	if twice, off := ranOnce(&tally{began: began}, a, b); twice != 1 || off != 1 {
		t.Errorf("%d twice, %d broken off", twice, off)
	}
}

// A fake does what its switches say, on a real socket.
func TestFakesHaveTheirFaults(t *testing.T) {
	e := &env{dir: t.TempDir()}
	defer e.close()
	f, err := e.fake(t.Context(), "card", law{Fixed: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + f.address
	if a := transcribe(t.Context(), url, newClip(1)); !a.served() {
		t.Fatalf("without a fault: %s", a)
	}
	for _, c := range []struct {
		name string
		act  act
		want func(answer) bool
	}{
		{"500", serverError, func(a answer) bool { return a.status == 500 }},
		{"cut short", raw(response(500, "{"), byClose), func(a answer) bool { return a.err == io.ErrUnexpectedEOF }},
		{"reset", raw("", byReset), func(a answer) bool { return a.status == 0 && strings.Contains(a.err.Error(), "reset") }},
		{"Retry-After", turning(503, 10*time.Second), func(a answer) bool { return a.status == 503 && a.header.Get("Retry-After") == "10" }},
		{"another's", func(c *call) { c.answer(clipText(c.clip + 1)) }, func(a answer) bool { return a.status == 200 && !a.served() }},
	} {
		f.set(c.act)
		if a := transcribe(t.Context(), url, newClip(1)); !c.want(a) {
			t.Errorf("%s: %s", c.name, a)
		}
	}
	f.set(nil)
	f.loading.Store(true)
	if status, _, err := head(t.Context(), url+"/health"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("while loading: %d, %v", status, err)
	}
	f.loading.Store(false)
	f.die()
	if a := transcribe(t.Context(), url, newClip(1)); a.err == nil {
		t.Errorf("dead: %s", a)
	}
	if err := f.rise(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := transcribe(t.Context(), url, newClip(1)); !a.served() {
		t.Errorf("risen: %s", a)
	}
}

func TestScenariosAreTold(t *testing.T) {
	seen := map[string]bool{}
	byTheme := map[theme]int{}
	for _, s := range scenarios() {
		if seen[s.ID] || s.ID == "" || s.Name == "" || s.Criterion == "" || s.Run == nil || !slices.Contains(themes, s.Theme) {
			t.Errorf("scenario %q is incomplete, or there twice", s.ID)
		}
		seen[s.ID] = true
		if s.Short {
			byTheme[s.Theme]++
		}
	}
	for _, th := range themes {
		if byTheme[th] == 0 {
			t.Errorf("the short form has nothing of %s", th)
		}
	}
}

func TestChangeChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	text := []byte(strings.Repeat("abcdef", 20))
	same := 0
	for range 100 {
		if bytes.Equal(change(rng, text), text) {
			same++
		}
	}
	if same > 5 {
		t.Errorf("%d of 100 unchanged", same)
	}
}

func TestGoroutinesAreCountedWithoutKeptConnections(t *testing.T) {
	profile := "goroutine profile: total 7\n3 @ 0x1 0x2\n#\t0x1\tmain.work+0x1\tmain.go:1\n\n2 @ 0x3\n#\t0x3\tnet/http.(*persistConn).readLoop+0x171\tx.go:1\n\n2 @ 0x4\n#\t0x4\tmain.more\n"
	if n := countGoroutines(profile); n != 5 {
		t.Errorf("%d goroutines, want 5", n)
	}
}
