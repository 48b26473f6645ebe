package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/emulator"
	"github.com/whisperpool/whisperpool/gpu"
)

// emulatedModels are models that are no files, on one emulated card: the [backend.Library] of the
// emulator.
type emulatedModels struct {
	models []string
	engine emulator.Config

	mu    sync.Mutex
	first *emulator.Emulator // on whose card the others are
}

var _ backend.Library = (*emulatedModels)(nil)

// emulated makes the emulated models, and completes cfg.
func (o *options) emulated(cfg *backend.Config, log *slog.Logger) error {
	l := &emulatedModels{
		models: o.emulateModels,
		engine: emulator.Config{Class: o.emulateClass, Seed: o.seed, SpeedUp: o.speedUp, Faults: emulator.NewFaults(log)},
	}
	if len(l.models) == 0 {
		l.models = []string{"base"}
	}
	cfg.MinSlots, cfg.MaxSlots, _ = o.slotsAndThreads(slotsMax, o.emulateClass, l.models[0]) // needs no cores
	for i, model := range l.models {
		if slices.Contains(l.models[:i], model) {
			return fmt.Errorf("--emulate-model %s is given twice", model)
		}
		if _, err := l.Load(context.Background(), model, 1); err != nil {
			return err
		}
	}
	cfg.Wrap = l.engine.Faults.Handler
	log.Info("emulating a GPU: texts are made up", "gpu_class", l.engine.Class, "models", strings.Join(l.models, " "))
	cfg.Library = l
	return nil
}

// Models implements [backend.Library].
func (l *emulatedModels) Models() []backend.Model {
	all := make([]backend.Model, len(l.models))
	for i, id := range l.models {
		multilingual := !strings.Contains(id, ".en")
		family, _ := gpu.FamilyOf(id)
		all[i] = backend.Model{ID: id, Multilingual: multilingual, Translates: multilingual && family != gpu.Turbo}
	}
	return all
}

// Load implements [backend.Library].
func (l *emulatedModels) Load(_ context.Context, id string, slots int) (backend.Transcriber, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cfg := l.engine
	cfg.Model, cfg.Slots = id, slots
	cfg.Beside = l.first
	e, err := emulator.New(cfg)
	if err == nil && l.first == nil {
		l.first = e
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}
