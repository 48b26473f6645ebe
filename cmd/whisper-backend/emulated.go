package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/emulator"
	"github.com/whisperpool/whisperpool/gpu"
)

// emulatedModels are models that are no files, on one emulated card: the [backend.Library] of the
// emulator.
type emulatedModels struct {
	engines []emulator.Config // by model; the first is the default
	takes   time.Duration     // to load one

	mu    sync.Mutex
	first *emulator.Emulator // on whose card the others are
}

var _ backend.Library = (*emulatedModels)(nil)

// emulated makes the emulated models, and completes cfg.
func (o *options) emulated(cfg *backend.Config, log *slog.Logger) error {
	faults, err := o.faults(log)
	if err != nil {
		return err
	}
	l := &emulatedModels{takes: time.Duration(float64(o.emulateLoad) / o.speedUp)}
	law, slots, err := o.emulations(l, cfg)
	if err != nil {
		return err
	}
	if o.slots+o.maxSlots == 0 {
		cfg.MinSlots, cfg.MaxSlots = slots, slots
	} else {
		cfg.MinSlots, cfg.MaxSlots, _ = o.slotsAndThreads(slotsMax, o.emulateClass, "") // needs no cores
	}
	var models []string
	for i := range l.engines {
		e := &l.engines[i]
		e.Seed, e.SpeedUp, e.Faults, e.Memory, e.Logger = o.seed, o.speedUp, faults, int64(o.emulateMemory), log
		if slices.Contains(models, e.Model) {
			return fmt.Errorf("the model %s is to be emulated twice", e.Model)
		}
		models = append(models, e.Model)
		tried, err := l.emulate(e.Model, 1)
		if err != nil {
			return err
		}
		if cfg.MemoryMax == 0 { // not the machine's, which is not used
			cfg.MemoryMax = int64(tried.Info().DeviceTotal) //nolint:gosec // no card has 2^63 bytes
		}
		if err := tried.Close(); err != nil {
			return err
		}
	}
	cfg.Wrap = faults.Handler
	log.Info("emulating a GPU: texts are made up", "gpu_class", l.engines[0].Class, "models", strings.Join(models, " "), "law", law)
	cfg.Library = l
	return nil
}

// faults are those that the flags put on from the start.
func (o *options) faults(log *slog.Logger) (*emulator.Faults, error) {
	var all []emulator.Fault
	for _, text := range o.emulateFaults {
		some, err := emulator.ParseFaults([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("--fault %s: %w", text, err)
		}
		all = append(all, some...)
	}
	if slices.ContainsFunc(all, emulator.Fault.AtOnce) {
		return nil, errors.New(`--fault: exit would end the server at the start; say "on": "transcriptions" with it`)
	}
	faults := emulator.NewFaults(log)
	if len(all) > 0 {
		faults.Set(all)
	}
	return faults, nil
}

// emulations are what the flags want emulated, where the laws of it come from, and how many slots the
// first of them has.
func (o *options) emulations(l *emulatedModels, cfg *backend.Config) (law string, slots int, err error) {
	if len(o.profiles) == 0 {
		models := o.emulateModels
		if len(models) == 0 {
			models = []string{"base"}
		}
		for _, model := range models {
			l.engines = append(l.engines, emulator.Config{Class: o.emulateClass, Model: model})
		}
		slots, _ = parallelism(0, 0, slotsMax, o.emulateClass, models[0])
		return "estimated", slots, nil
	}
	for i, path := range o.profiles {
		p, err := gpu.ReadProfile(path)
		if err != nil {
			return "", 0, err
		}
		measured := p.Law.Law()
		e := emulator.Config{Class: p.Class, Model: p.Model, Law: &measured, Speech: p.Speech}
		if e.Class == "" {
			e.Class = "device"
		}
		if i == 0 {
			slots = p.Slots
			if slots == 0 {
				slots = measured.UsefulSlots(slotsMax)
			}
			if cfg.GPUClass == "" {
				cfg.GPUClass = p.Class
			}
		}
		l.engines = append(l.engines, e)
	}
	return strings.Join(o.profiles, " "), slots, nil
}

// Models implements [backend.Library].
func (l *emulatedModels) Models() []backend.Model {
	all := make([]backend.Model, len(l.engines))
	for i, e := range l.engines {
		multilingual := !strings.Contains(e.Model, ".en")
		family, _ := gpu.FamilyOf(e.Model)
		memory, _ := gpu.MemoryOfModel(e.Model)
		all[i] = backend.Model{
			ID: e.Model, Multilingual: multilingual, Translates: multilingual && family != gpu.Turbo,
			Bytes: memory.Weights, SlotBytes: memory.Slot,
		}
	}
	return all
}

// Load implements [backend.Library].
func (l *emulatedModels) Load(ctx context.Context, id string, slots int) (backend.Transcriber, error) {
	timer := time.NewTimer(l.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	e, err := l.emulate(id, slots)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// emulate makes a model at once.
func (l *emulatedModels) emulate(id string, slots int) (*emulator.Emulator, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.engines, func(e emulator.Config) bool { return e.Model == id })
	if i < 0 {
		return nil, fmt.Errorf("no model %q is emulated", id)
	}
	cfg := l.engines[i]
	cfg.Slots, cfg.Beside = slots, l.first
	e, err := emulator.New(cfg)
	if err != nil {
		return nil, err
	}
	if l.first == nil {
		l.first = e
	}
	return e, nil
}
