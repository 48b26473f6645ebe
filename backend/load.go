package backend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// How long a load waits until there is memory for it.
const (
	roomPatience = 5 * time.Second  // while it waits for others to be idle; then new jobs of another model wait
	roomTime     = 60 * time.Second // until it is given up
)

// load makes a model ready, or remembers why it cannot be. patience is how long others may go on
// taking jobs where they are in the way.
func (sh *shelf) load(m Model, patience time.Duration, l *loading) {
	d, err := sh.open(m, patience)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.loads, m.ID)
	defer close(l.done)
	l.err = err
	if err == nil {
		delete(sh.failures, m.ID)
		sh.devices[m.ID] = d
		sh.sizes[m.ID] = d.bytes
		if l.chosen {
			sh.inference = m.ID
		}
		sh.signal()
		return
	}
	f := failure{refusal: loadRefusal(m.ID, err), pause: min(pauseMax, max(pauseMin, 2*sh.failures[m.ID].pause))}
	var room *roomError
	if errors.As(err, &room) {
		f.pause = time.Second // may be over any moment
	}
	f.until = time.Now().Add(f.pause)
	sh.failures[m.ID] = f
	if !errors.Is(err, errClosed) {
		sh.server.metrics.loadFailures.Inc()
		sh.server.log.Error("cannot load a model", "model", m.ID, "error", err, "again_in", f.pause)
	}
}

// loadRefusal is what clients are told of a model that could not be loaded: for now, since another
// server may have it and this one may have room later.
func loadRefusal(id string, err error) *transcript.Error {
	var room *roomError
	switch {
	case errors.Is(err, errClosed):
		return transcript.Unavailable("shutting_down", time.Second, "The server is shutting down.")
	case errors.As(err, &room):
		return transcript.Unavailable("no_room", time.Second, "%s", sentence(err.Error()))
	}
	// The reason names files of the machine, which are the operator's: it is in the log.
	return transcript.Unavailable("model_failed", time.Second, "The model %q could not be loaded; the server's log says why.", id)
}

// open loads a model when it is its turn and there is room.
func (sh *shelf) open(m Model, patience time.Duration) (*device, error) {
	select {
	case sh.turn <- struct{}{}:
	case <-sh.life.Done():
		return nil, errClosed
	}
	defer func() { <-sh.turn }()
	wanted := max(1, sh.server.slots.wanted())
	slots := sh.affordable(m, wanted)
	need := sh.estimate(m, slots)
	if err := sh.makeRoom(m, need, patience); err != nil {
		return nil, err
	}
	sh.server.log.Info("loading", "model", m.ID, "slots", slots)
	started := time.Now()
	engine, err := sh.library.Load(sh.life, m.ID, slots)
	if sh.life.Err() != nil {
		if err == nil {
			_ = engine.Close() // nobody will use it
		}
		return nil, errClosed
	}
	if err != nil {
		return nil, err
	}
	d, err := sh.server.newDevice(engine, need)
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	d.cannot = d.info.Slots < wanted // the engine said why, or affordable
	took := time.Since(started)
	sh.server.metrics.loads.Observe(took.Seconds())
	sh.server.log.Info("loaded", "model", m.ID, "device", d.info.Device, "slots", d.info.Slots, "bytes", d.bytes, "took", took)
	return d, nil
}

// affordable is how many of the wanted slots are within the limit of memory if nothing else is loaded, one at least.
func (sh *shelf) affordable(m Model, wanted int) int {
	sh.mu.Lock()
	limit := sh.memoryMax
	sh.mu.Unlock()
	if m.SlotBytes == 0 || limit == 0 {
		return wanted
	}
	slots := int(max(1, min(int64(wanted), (limit-m.Bytes)/m.SlotBytes)))
	if slots < wanted {
		sh.server.log.Warn("fewer slots than asked for", "model", m.ID, "slots", slots, "asked", wanted,
			"error", fmt.Sprintf("models may take %d MB", limit>>20))
	}
	return slots
}

// estimate is about how many bytes a model will take: what it took before, or its weights and slots.
func (sh *shelf) estimate(m Model, slots int) int64 {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if seen := sh.sizes[m.ID]; seen > 0 {
		return seen
	}
	return m.Bytes + m.SlotBytes*int64(slots)
}

// roomError says that there is no memory for a model.
type roomError struct{ text string }

func (e *roomError) Error() string { return e.text }

// makeRoom unloads idle models until another fits, and waits for busy ones to become idle. Once it
// has waited for patience it lets the least recently used take no more jobs, so that a model that is
// never idle cannot keep others out. The caller holds turn.
func (sh *shelf) makeRoom(m Model, need int64, patience time.Duration) error {
	started := time.Now()
	giveUp, cancel := context.WithTimeout(sh.life, roomTime)
	defer cancel()
	retire := time.NewTimer(patience)
	defer retire.Stop()
	for {
		fits, idle, busy, changed := sh.room(need)
		switch {
		case fits:
			sh.stay()
			return nil
		case idle != nil:
			sh.close(idle, "room for "+m.ID)
			continue
		case busy == nil:
			return &roomError{fmt.Sprintf("the model %q needs about %d MB, more than the %d MB that models may take here",
				m.ID, need>>20, sh.memoryMax>>20)}
		}
		select {
		case <-changed:
		case <-retire.C:
			sh.setLeaving(busy, true)
		case <-giveUp.Done():
			sh.stay()
			if sh.life.Err() != nil {
				return errClosed
			}
			return &roomError{fmt.Sprintf("there is no memory for the model %q: the others that are loaded were in use for %v",
				m.ID, time.Since(started).Round(time.Second))}
		}
	}
}

// room tells whether so many bytes more are within the limit and free on the device; if not, which
// idle model should go, or which busy one should be next, and what to wait for then. The default
// model goes last.
func (sh *shelf) room(need int64) (fits bool, idle, busy *device, changed <-chan struct{}) {
	free, freeKnown := sh.deviceFree()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	taken, standard := int64(0), sh.standard()
	before := func(a, b *device) bool { // a goes before b
		switch {
		case b == nil:
			return true
		case a.leaving != b.leaving:
			return a.leaving
		case (a.info.Model == standard) != (b.info.Model == standard):
			return b.info.Model == standard
		}
		return a.used.Before(b.used)
	}
	for _, d := range sh.devices {
		taken += d.bytes
		switch {
		case d.users > 0:
			if before(d, busy) {
				busy = d
			}
		case before(d, idle):
			idle = d
		}
	}
	fits = need <= sh.memoryMax-taken && (!freeKnown || need <= free)
	if taken == 0 && need > sh.memoryMax {
		idle, busy = nil, nil // it is not the others that are in the way
	}
	return fits, idle, busy, sh.changed
}

// deviceFree asks an engine how much memory the device has. The caller holds turn, so that none is
// closed meanwhile.
func (sh *shelf) deviceFree() (bytes int64, known bool) {
	for _, d := range sh.loaded() {
		if info := d.engine.Info(); info.DeviceFree > 0 {
			d.free.Store(int64(info.DeviceFree))
			return int64(info.DeviceFree), true
		}
	}
	return 0, false
}

// loaded are the devices.
func (sh *shelf) loaded() []*device {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	all := make([]*device, 0, len(sh.devices))
	for _, d := range sh.devices {
		all = append(all, d)
	}
	return all
}

func (sh *shelf) setLeaving(d *device, leaving bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	d.leaving = leaving
	sh.signal()
}

// stay takes back that models should go.
func (sh *shelf) stay() {
	for _, d := range sh.loaded() {
		sh.setLeaving(d, false)
	}
}

// close unloads a model unless it is used again. The caller holds turn.
func (sh *shelf) close(d *device, why string) {
	sh.mu.Lock()
	if d.users > 0 {
		sh.mu.Unlock()
		return
	}
	delete(sh.devices, d.info.Model)
	sh.mu.Unlock()
	err := d.engine.Close()
	for _, other := range sh.loaded() {
		other.cannot = false // there may be memory now
	}
	sh.mu.Lock()
	sh.signal()
	sh.mu.Unlock()
	sh.server.metrics.unloads.Inc()
	sh.server.log.Info("unloaded", "model", d.info.Model, "why", why)
	if err != nil {
		sh.server.log.Error("a model did not unload cleanly", "model", d.info.Model, "error", err)
	}
}

// unloadIdle unloads what nobody has used for long.
func (sh *shelf) unloadIdle(now time.Time) {
	if sh.library == nil {
		return
	}
	select {
	case sh.turn <- struct{}{}:
	default:
		return // a load is under way, which makes room itself
	}
	defer func() { <-sh.turn }()
	for _, d := range sh.loaded() {
		after := sh.server.cfg.UnloadAfter
		sh.mu.Lock()
		if after == 0 && d.info.Model != sh.standard() && d.info.Model != sh.inference {
			after = unloadAfterDefault
		}
		idle := d.users == 0 && after > 0 && now.Sub(d.used) >= after
		sh.mu.Unlock()
		if idle {
			sh.close(d, "idle for "+after.String())
		}
	}
}

// shut ends loads and closes all engines. No request may be inside.
func (sh *shelf) shut() error {
	sh.end()
	sh.turn <- struct{}{} // kept: nothing is opened any more
	var errs []error
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for id, d := range sh.devices {
		errs = append(errs, d.engine.Close())
		delete(sh.devices, id)
	}
	return errors.Join(errs...)
}
