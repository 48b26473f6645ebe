package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/scheduler"
)

// drainsVersion is that of drainsFile; others are discarded.
const drainsVersion = 1

// drainsFile is which backends of a pool an operator wants left alone, as it is kept in Caddy's storage. Names
// that the configuration does not have at present stay in it: a drain holds until it is taken back.
type drainsFile struct {
	Version int                   `json:"version"`
	Pool    string                `json:"pool"`
	Drained []scheduler.BackendID `json:"drained"`
}

func drainsKey(pool string) string { return "whisperpool/drains/" + fileName(pool) + ".json" }

// loadDrains takes over the drains of an earlier process, before anything is sent to those backends. A storage
// that takes long is not waited for, like that of speeds. Requires mu.
func (p *Pool) loadDrains(from storage) {
	loaded := make(chan []scheduler.BackendID, 1)
	go func() { loaded <- p.readDrains(from) }()
	select {
	case ids := <-loaded:
		p.addDrains(ids)
	case <-time.After(startTimeout):
		go func() {
			ids := <-loaded
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.addDrains(ids); len(ids) > 0 && p.current != nil && p.life.Err() == nil {
				p.refine()
			}
		}()
	}
}

func (p *Pool) addDrains(ids []scheduler.BackendID) {
	for _, id := range ids {
		p.drains[id] = true
	}
}

func (p *Pool) readDrains(from storage) []scheduler.BackendID {
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	text, err := from.Load(ctx, drainsKey(p.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var file drainsFile
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	switch {
	case err != nil:
	case file.Version != drainsVersion:
		err = fmt.Errorf("it is of version %d, and this program reads version %d", file.Version, drainsVersion)
	case file.Pool != p.name:
		err = fmt.Errorf("it is of the pool %q", file.Pool)
	default:
		if len(file.Drained) > 0 {
			p.log().Info("backends are drained as before", zap.Any("backends", file.Drained))
		}
		return file.Drained
	}
	p.log().Warn("which backends were drained can't be read; none is", zap.String("key", drainsKey(p.name)), zap.Error(err))
	return nil
}

var errUnconfigured = errors.New("the pool has no configuration at present")

// drain has a backend left alone, or used again, and keeps that over reloads and restarts. An error of the
// storage says that only the latter could not be done.
func (p *Pool) drain(id scheduler.BackendID, drained bool) error {
	p.storing.Lock()
	defer p.storing.Unlock()
	p.mu.Lock()
	if p.current == nil {
		p.mu.Unlock()
		return errUnconfigured
	}
	if drained {
		p.drains[id] = true
	} else {
		delete(p.drains, id)
	}
	p.refine()
	file := drainsFile{drainsVersion, p.name, slices.Sorted(maps.Keys(p.drains))}
	to := p.current.storage
	p.mu.Unlock()
	p.log().Info("a backend was "+map[bool]string{true: "drained", false: "undrained"}[drained], zap.String("backend", string(id)))
	return storeWithin(to, drainsKey(p.name), file)
}

// storeWithin stores JSON, and does not wait for a storage that does not keep to its context.
func storeWithin(to storage, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- to.Store(ctx, key, text)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		select { // it may have ended just now
		case err := <-done:
			return err
		default:
			return errors.New("the storage does not answer")
		}
	}
}

// drainedIDs are those that an operator has drained, configured or not.
func (p *Pool) drainedIDs() []scheduler.BackendID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.drains))
}
