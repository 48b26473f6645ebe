package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/whispercpp"
	"github.com/whisperpool/whisperpool/gpu"
)

// modelFiles are the ggml files that the flags name, each served under an id of its own: the
// [backend.Library] of whisper.cpp.
type modelFiles struct {
	fixed  []string // --model, in order
	fixID  string   // of the first of them; "": from its name
	dir    string   // --models-dir, "" for none
	engine whispercpp.Config
	log    *slog.Logger
	header func(path string) (whispercpp.Model, error) // checks a file and reads its header

	mu       sync.Mutex
	seen     map[string]seenFile // by path
	standard string              // path of the default model: the first that ever was
}

// seenFile is what was found in a file, for as long as it stays the same.
type seenFile struct {
	size  int64
	time  time.Time
	model backend.Model
	err   error
}

var _ backend.Library = (*modelFiles)(nil)

// Models implements [backend.Library]. Files that are no models are left out, and logged once.
func (l *modelFiles) Models() []backend.Model {
	l.mu.Lock()
	defer l.mu.Unlock()
	paths := slices.Concat(l.fixed, l.inDir())
	if at := slices.Index(paths, l.standard); at > 0 {
		paths = slices.Concat([]string{l.standard}, paths[:at], paths[at+1:])
	}
	var models []backend.Model
	for i, path := range paths {
		if slices.Contains(paths[:i], path) {
			continue
		}
		m, err := l.look(path)
		if err != nil {
			continue
		}
		twin := slices.IndexFunc(models, func(other backend.Model) bool { return other.ID == m.ID })
		if twin < 0 {
			models = append(models, m)
		}
	}
	if len(models) > 0 && l.standard == "" {
		l.standard = models[0].Path
	}
	return models
}

// inDir are the files in the folder that may be models, by name.
func (l *modelFiles) inDir() []string {
	if l.dir == "" {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(escaped(l.dir), "*.bin"))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(found, func(path string) bool {
		return strings.HasPrefix(filepath.Base(path), "ggml-silero") // which tells speech from silence
	})
}

// escaped is a folder's name in a pattern.
func escaped(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// look checks a file, unless it is the same as last time. The caller holds mu.
func (l *modelFiles) look(path string) (backend.Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		delete(l.seen, path)
		return backend.Model{}, err
	}
	if old, ok := l.seen[path]; ok && old.size == info.Size() && old.time.Equal(info.ModTime()) {
		return old.model, old.err
	}
	now := seenFile{size: info.Size(), time: info.ModTime()}
	header, err := l.header(path)
	switch {
	case err != nil:
		now.err = err
		l.log.Warn("a file is left out", "error", err)
	default:
		id := l.id(path)
		family, _ := gpu.FamilyOf(id)
		now.model = backend.Model{
			ID: id, Path: path, Bytes: info.Size(), SlotBytes: header.SlotBytes(l.engine.MaxDecoders),
			Multilingual: header.Multilingual(), Translates: header.Multilingual() && family != gpu.Turbo,
		}
	}
	l.seen[path] = now
	return now.model, now.err
}

// id is the name under which a file is served.
func (l *modelFiles) id(path string) string {
	if l.fixID != "" && len(l.fixed) > 0 && path == l.fixed[0] {
		return l.fixID
	}
	return modelID(path)
}

// modelID is base for ggml-base.bin.
func modelID(path string) string {
	name := filepath.Base(path)
	return strings.TrimPrefix(strings.TrimSuffix(name, filepath.Ext(name)), "ggml-")
}

// Load implements [backend.Library].
func (l *modelFiles) Load(_ context.Context, id string, slots int) (backend.Transcriber, error) {
	for _, m := range l.Models() {
		if m.ID == id {
			cfg := l.engine
			cfg.ModelPath, cfg.ModelID, cfg.Slots = m.Path, m.ID, slots
			return whispercpp.New(cfg)
		}
	}
	return nil, fmt.Errorf("the file of the model %q is gone", id)
}

// check finds out at the start what would otherwise be found out by the first client.
func (l *modelFiles) check() error {
	for _, path := range l.fixed {
		if _, err := l.header(path); err != nil {
			return err
		}
	}
	if l.dir != "" {
		if _, err := os.ReadDir(l.dir); err != nil {
			return fmt.Errorf("the folder of --models-dir cannot be read: %w", err)
		}
	}
	models := l.Models()
	if len(models) == 0 {
		return fmt.Errorf("there is no ggml model (*.bin) in %s: get one with `make model`", l.dir)
	}
	for i, path := range l.fixed {
		for _, other := range l.fixed[:i] {
			if l.id(path) == l.id(other) {
				return fmt.Errorf("%s and %s would both be called %q; give the first another name with --model-id", other, path, l.id(path))
			}
		}
	}
	return nil
}
