package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// env is what a scenario works with: a folder, the programs, and what it has started.
type env struct {
	kind     frontKind
	programs programs
	short    bool
	dir      string

	mu        sync.Mutex
	processes []*process
	fakes     []*fake
}

// run runs a scenario in a folder that is empty, and cleans up after it.
func (e *env) run(ctx context.Context, scenario func(context.Context, *env) (string, bool, error)) (measured string, held bool, err error) {
	if err := os.RemoveAll(e.dir); err != nil {
		return "", false, err
	}
	defer e.close()
	measured, held, err = scenario(ctx, e)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil && e.kind == ours { // no fault is worth a panic
		for _, p := range e.processes {
			if found := findLine(p.text(), "panic: ", "panic serving", "goroutine 1 [", `"panic"`); found != "" && p.name != expectedToCrash {
				return measured + "; a panic: " + found, false, nil
			}
		}
	}
	return measured, held, err
}

// expectedToCrash is the name of processes that are made to.
const expectedToCrash = "doomed"

// close stops all that was started, in the opposite order.
func (e *env) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := len(e.processes) - 1; i >= 0; i-- {
		e.processes[i].stop()
	}
	for _, f := range e.fakes {
		f.close()
	}
}

// pick is the full or the short length of something.
func pick[T any](e *env, full, short T) T {
	if e.short {
		return short
	}
	return full
}

// pool starts fake backends, named for what they are and numbered.
func (e *env) pool(ctx context.Context, n int, name string, law law, options ...func(*fake)) ([]*fake, error) {
	var all []*fake
	for i := range n {
		f, err := e.fake(ctx, fmt.Sprintf("%s-%d", name, i+1), law, options...)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// pause waits, or ends with ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// await waits until a condition holds, for at most so long, and tells how long that took and
// whether it came about.
func await(ctx context.Context, most time.Duration, holds func() bool) (took time.Duration, came bool) {
	began := time.Now()
	for {
		if holds() {
			return time.Since(began), true
		}
		if time.Since(began) > most {
			return most, false
		}
		select {
		case <-ctx.Done():
			return time.Since(began), false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// write puts a file into a folder of the scenario's.
func (e *env) write(name, content string) (path string, err error) {
	path = filepath.Join(e.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(content), 0o644)
}

// warmPool starts backends and a balancer in front of them that knows how fast they are.
func (e *env) warmPool(ctx context.Context, n int, law law, s setup, options ...func(*fake)) ([]*fake, *front, error) {
	fakes, err := e.pool(ctx, n, "card", law, options...)
	if err != nil {
		return nil, nil, err
	}
	f, err := e.front(ctx, "front", s, servers(fakes...))
	if err != nil {
		return nil, nil, err
	}
	slots := 0
	for _, one := range fakes {
		slots += one.slots
	}
	return fakes, f, f.warm(ctx, slots)
}
