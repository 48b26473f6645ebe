// Package emulator is an engine without a model: it takes as long as a GPU would by the law of
// package gpu, and answers with a text that says that it is no transcript. Load tests, demos and
// whoever has no GPU run the whole server with it; everything but the engine is the real thing.
package emulator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/transcript"
)

// Config says what to emulate.
type Config struct {
	Class   string  // of GPU; one that has a law, see [gpu.LawOf], unless Law is given
	Model   string  // whose law is obeyed, and the id under which it is served
	Slots   int     // jobs side by side, 1 or more; or as many of them as there is memory for
	Seed    uint64  // of all chance: the same seed and the same jobs in the same order take the same times
	SpeedUp float64 // divides all times; 0 means 1

	// Beside is another emulator on the same card, whose jobs slow this one's and are slowed by them as
	// those of one model are. nil: the card is this one's alone.
	Beside *Emulator

	// Memory is how many bytes the card has, for weights and slots. 0: as many as the class has, endless
	// where that is not known. It is the card's, so [Config.Beside] has it too.
	Memory int64

	Faults *Faults // of the whole server; nil: none

	// Law is obeyed in place of that of class and model, by audio that is speech to that share (0: 1).
	Law    *gpu.Law
	Speech float64

	Logger *slog.Logger // nil: slog.Default()
}

// Emulator is the engine. It must be made by [New].
type Emulator struct {
	cfg    Config
	law    gpu.Law
	card   *card
	memory gpu.Memory

	mu    sync.Mutex
	rng   *rand.Rand
	slots int
}

var _ backend.Transcriber = (*Emulator)(nil)

// New makes an emulator. The error says what is wrong with cfg, and for a class or model without a
// law, which have one.
func New(cfg Config) (*Emulator, error) {
	cfg.Class = string(gpu.ParseClass(cfg.Class))
	if cfg.SpeedUp == 0 {
		cfg.SpeedUp = 1
	}
	if cfg.Speech == 0 {
		cfg.Speech = 1
	}
	law, ok := gpu.LawOf(cfg.Class, cfg.Model)
	if cfg.Law != nil {
		law, ok = *cfg.Law, true
	}
	switch {
	case !ok:
		return nil, fmt.Errorf("nothing is known of the speed of model %q on class %q: emulate one of %s, with a model of the families tiny, base, small, medium, large or turbo",
			cfg.Model, cfg.Class, strings.Join(classesWithLaw(), ", "))
	case cfg.Slots < 1:
		return nil, errors.New("an emulator needs at least one slot")
	case !(cfg.SpeedUp > 0 && cfg.SpeedUp <= 1e6):
		return nil, fmt.Errorf("the speed-up must be more than 0 and at most a million, not %v", cfg.SpeedUp)
	}
	e := &Emulator{
		cfg: cfg, law: law, rng: rand.New(rand.NewPCG(cfg.Seed, 0)),
	}
	e.memory, _ = gpu.MemoryOfModel(cfg.Model)
	if cfg.Beside != nil {
		e.card = cfg.Beside.card
	} else {
		if cfg.Memory == 0 {
			cfg.Memory = gpu.MemoryOf(cfg.Class)
		}
		e.card = newCard(cfg.Memory, law.Pace)
	}
	if !e.card.allot(e.memory.Weights) {
		return nil, fmt.Errorf("the emulated %s is out of memory: %s needs %d MB and %d MB are free",
			cfg.Class, cfg.Model, e.memory.Weights/1e6, e.card.free()/1e6)
	}
	switch err := e.Resize(cfg.Slots); {
	case err != nil && e.slots > 0: // as an engine on a real card does
		cmp.Or(cfg.Logger, slog.Default()).Warn("fewer slots than asked for", "model", cfg.Model, "slots", e.slots, "asked", cfg.Slots, "error", err)
	case err != nil:
		_ = e.Close() // has no error
		return nil, err
	}
	return e, nil
}

func classesWithLaw() []string {
	var names []string
	for _, c := range gpu.Classes() {
		if _, ok := gpu.LawOf(string(c), "base"); ok {
			names = append(names, string(c))
		}
	}
	return names
}

// Info says what is emulated, and that it is.
func (e *Emulator) Info() backend.EngineInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	return backend.EngineInfo{
		Engine: "emulator", Model: e.cfg.Model, Multilingual: !strings.Contains(e.cfg.Model, ".en"),
		Slots: e.slots, SlotsMax: slotsMax, Device: "emulated " + e.cfg.Class,
		Bytes: uint64(e.bytes(e.slots)), DeviceFree: uint64(max(0, e.card.free())), DeviceTotal: uint64(e.card.total), //nolint:gosec // none is negative
		SystemInfo: fmt.Sprintf("times of %s on %s, %g times as fast", e.cfg.Model, e.cfg.Class, e.cfg.SpeedUp),
	}
}

// Transcribe takes the time that the emulated GPU would, longer when it shares it with other jobs,
// and ends at once with ctx.
func (e *Emulator) Transcribe(ctx context.Context, job backend.Job) (backend.Result, error) {
	t, err := e.transcribe(ctx, job.Samples, job.Params)
	if err == nil && job.Segment != nil {
		for _, s := range t.Segments {
			job.Segment(s)
		}
	}
	return backend.Result{Transcript: t}, err
}

func (e *Emulator) transcribe(ctx context.Context, samples []float32, p transcript.Params) (transcript.Transcript, error) {
	from, to := span(samples, p)
	cost := gpu.Job{
		Seconds: to - from, Speech: e.cfg.Speech, // no sample is looked at, so that all times follow from the law alone
		Detect: p.Language == "", Beams: p.BeamSize,
	}
	e.mu.Lock()
	work := e.law.Draw(cost, e.rng)
	e.mu.Unlock()
	factor, silent, err := e.cfg.Faults.onJob(ctx)
	if err == nil {
		err = e.card.run(ctx, time.Duration(float64(work)*factor/e.cfg.SpeedUp))
	}
	if err != nil {
		return transcript.Transcript{}, err
	}
	t := e.text(from, to, p)
	if silent {
		t = silence(t)
	}
	t.Duration = float64(len(samples)) / audio.SampleRate
	return t, nil
}

// slotsMax is how many slots an emulator takes where there is memory for them.
const slotsMax = 64

// Resize takes effect at once: slots that are made up need not be made.
func (e *Emulator) Resize(slots int) error {
	if slots < 1 || slots > slotsMax {
		return fmt.Errorf("an emulator has 1 to %d slots, not %d", slotsMax, slots)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.slots < slots {
		if !e.card.allot(e.memory.Slot) {
			return fmt.Errorf("slot %d of %d: the emulated %s is out of memory: a slot of %s needs %d MB and %d MB are free",
				e.slots+1, slots, e.cfg.Class, e.cfg.Model, e.memory.Slot/1e6, e.card.free()/1e6)
		}
		e.slots++
	}
	e.card.allot(-e.memory.Slot * int64(e.slots-slots))
	e.slots = slots
	return nil
}

// bytes is what the model takes with so many slots.
func (e *Emulator) bytes(slots int) int64 { return e.memory.Weights + int64(slots)*e.memory.Slot }

// Close gives the memory back.
func (e *Emulator) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.card.allot(-e.bytes(e.slots))
	e.slots = 0
	return nil
}

// span is the part of the audio to work on, in seconds.
func span(samples []float32, p transcript.Params) (from, to float64) {
	to = float64(len(samples)) / audio.SampleRate
	from = min(to, float64(p.OffsetMS)/1000)
	if p.DurationMS > 0 {
		to = min(to, from+float64(p.DurationMS)/1000)
	}
	return from, to
}
