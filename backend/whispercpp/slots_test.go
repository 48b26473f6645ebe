//go:build whispercpp

package whispercpp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
)

func TestResizeMakesAndFrees(t *testing.T) {
	e := openSynthetic(t, 51864, 2)
	for _, count := range []int{2, 4, 1, 0, 3} {
		if err := e.Resize(count); err != nil {
			t.Fatal(err)
		}
		if info := e.Info(); info.Slots != count || info.SlotsMax != slotsMax {
			t.Errorf("after Resize(%d): %d slots of at most %d", count, info.Slots, info.SlotsMax)
		}
		if idle := len(e.slots.free); idle != count {
			t.Errorf("after Resize(%d) %d are idle", count, idle)
		}
	}
	want, err := e.Transcribe(t.Context(), backend.Job{Samples: tone(1), Params: greedy()})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // they are taken in turn
		got, err := e.Transcribe(t.Context(), backend.Job{Samples: tone(1), Params: greedy()})
		if err != nil || textOf(got.Transcript) != textOf(want.Transcript) {
			t.Errorf("%q, %v; another slot said %q", textOf(got.Transcript), err, textOf(want.Transcript))
		}
	}
	for _, count := range []int{-1, slotsMax + 1} {
		if err := e.Resize(count); err == nil || e.Info().Slots != 3 {
			t.Errorf("Resize(%d): %v, %d slots", count, err, e.Info().Slots)
		}
	}
}

// Resize waits for no job: a busy slot that is one too many goes when its job ends, unless it is wanted
// again by then.
func TestResizeLeavesBusySlotsTheirJobs(t *testing.T) {
	e := openSynthetic(t, 51864, 3)
	var busy []*slot
	for range 3 {
		s, err := e.slots.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		busy = append(busy, s)
	}
	if err := e.Resize(1); err != nil || e.Info().Slots != 1 {
		t.Fatalf("%v, %d slots", err, e.Info().Slots)
	}
	e.slots.release(busy[0])
	if err := e.Resize(2); err != nil || e.Info().Slots != 2 {
		t.Fatalf("%v, %d slots", err, e.Info().Slots)
	}
	e.slots.release(busy[1])
	e.slots.release(busy[2])
	if made, idle := len(e.slots.all), len(e.slots.free); made != 2 || idle != 2 {
		t.Errorf("%d slots, %d idle; the first to end should be gone and no other", made, idle)
	}
	if _, err := e.Transcribe(t.Context(), backend.Job{Samples: tone(1), Params: greedy()}); err != nil {
		t.Error(err)
	}
}

func TestSlotThatCannotBeMadeCostsNoOther(t *testing.T) {
	e := openSynthetic(t, 51864, 1)
	build := e.slots.make
	left := 1
	e.slots.make = func() (*slot, error) {
		if left--; left < 0 {
			return nil, errors.New("the card is full")
		}
		return build()
	}
	if err := e.Resize(4); err == nil || !strings.Contains(err.Error(), "slot 3 of 4: the card is full") {
		t.Errorf("%v", err)
	}
	if e.Info().Slots != 2 || len(e.slots.free) != 2 {
		t.Errorf("%d slots, %d idle", e.Info().Slots, len(e.slots.free))
	}
	e.slots.make = build
	if err := e.Resize(4); err != nil || e.Info().Slots != 4 {
		t.Errorf("once there is room again: %v, %d slots", err, e.Info().Slots)
	}
}

func TestNoSlotIsWaitedForAsLongAsTheClient(t *testing.T) {
	e := openSynthetic(t, 51864, 1)
	if err := e.Resize(0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.slots.take(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestInfoTellsTheMemory(t *testing.T) {
	e := openSynthetic(t, 51865, 1)
	one := e.Info().Bytes
	// The caches alone: f16, two each but for the padding; 3 text layers, 64 wide.
	caches := uint64(2 * (2*3*64*512 + 2*3*64*1536 + 64*1536))
	if slot := one - e.memory.weights; e.memory.weights < 5<<20 || slot < caches || slot > 500<<20 {
		t.Errorf("weights of %d and a slot of %d bytes, caches alone %d", e.memory.weights, slot, caches)
	}
	if err := e.Resize(3); err != nil {
		t.Fatal(err)
	}
	if three := e.Info().Bytes; three-e.memory.weights != 3*(one-e.memory.weights) {
		t.Errorf("three slots: %d, one: %d", three, one)
	}
}

// Where some of the slots that are asked for cannot be made, the engine serves with the others and says
// so, once; where none can, it does not start.
func TestEngineBeginsWithTheSlotsThatFit(t *testing.T) {
	e := openSynthetic(t, 51864, 1)
	build := e.slots.make
	for fit := range 4 {
		if err := e.Resize(0); err != nil {
			t.Fatal(err)
		}
		left := fit
		e.slots.make = func() (*slot, error) {
			if left--; left < 0 {
				return nil, errors.New("the card is full")
			}
			return build()
		}
		var log bytes.Buffer
		err := e.begin(Config{ModelID: "m", Slots: 3, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if fit == 0 {
			if err == nil || !strings.Contains(err.Error(), "slot 1 of 3: the card is full") || log.Len() > 0 {
				t.Errorf("without a slot: %v, logged %s", err, &log)
			}
			continue
		}
		if err != nil || e.Info().Slots != fit {
			t.Fatalf("%d slots fit: %v, there are %d", fit, err, e.Info().Slots)
		}
		if _, err := e.Transcribe(t.Context(), backend.Job{Samples: tone(1), Params: greedy()}); err != nil {
			t.Errorf("%d slots: %v", fit, err)
		}
		want := ""
		if fit < 3 {
			want = fmt.Sprintf("level=WARN msg=\"fewer slots than asked for\" model=m slots=%d asked=3 error=\"slot %d of 3: the card is full\"\n", fit, fit+1)
		}
		if _, said, _ := strings.Cut(log.String(), " "); said != want {
			t.Errorf("%d slots: logged %q, want %q", fit, said, want)
		}
	}
}
