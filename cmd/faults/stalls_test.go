package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestStallsOfATime(t *testing.T) {
	began := time.Now()
	var s stalls
	for _, late := range []time.Duration{-time.Second, time.Second, 3 * time.Second, 20 * time.Second} {
		s.note(stall{began.Add(late), 500 * time.Millisecond})
	}
	if share := s.share(began, began.Add(10*time.Second)); share != 0.1 {
		t.Errorf("%v of the time, want 0.1: what was before and after does not count", share)
	}
}

func TestSecondTry(t *testing.T) {
	for name, c := range map[string]struct {
		firstStalled, stalled float64
		held                  bool
		verdict               string
		all                   bool
	}{
		"held then":               {0, 0, true, "held at the second try", true},
		"twice not":               {0, 0, false, "NOT HELD", false},
		"busy at first only":      {0.5, 0, false, "NOT HELD", false},
		"too busy to tell, twice": {0.5, 0.5, false, "undecided", true},
	} {
		r := newRun(options{short: true}, io.Discard)
		r.note(result{ID: "x", Front: string(ours), Measured: "one", Stalled: c.firstStalled})
		if r.held() {
			t.Errorf("%s: held before the second try", name)
		}
		r.note(result{ID: "x", Front: string(ours), Measured: "two", Held: c.held, Stalled: c.stalled})
		if len(r.results) != 1 || r.results[0].verdict() != c.verdict || r.held() != c.all {
			t.Errorf("%s: %+v, held: %v", name, r.results, r.held())
		}
		if text := r.results[0].text(); !strings.Contains(text, "two") || !strings.Contains(text, "the first time: one") {
			t.Errorf("%s: %s", name, text)
		}
	}
}
