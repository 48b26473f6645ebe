package backend

import (
	"context"
	"fmt"
	"math"
	"time"
)

// scaler decides how many slots there should be, as Ray Serve does for replicas: enough for a target
// number of jobs each, changed only after that was so for a while without a break.
type scaler struct {
	least, most int
	target      float64 // jobs for each slot, running and waiting ones together
	up, down    time.Duration

	since     time.Time // for how long more, or fewer, slots have been wanted
	direction int       // 1: more, -1: fewer, 0: neither
}

// decide returns how many slots there should be from now on.
func (s *scaler) decide(now time.Time, ongoing, slots int) int {
	desired := min(s.most, max(s.least, int(math.Ceil(float64(ongoing)/s.target))))
	direction, delay := 0, time.Duration(0)
	switch {
	case desired > slots:
		direction, delay = 1, s.up
	case desired < slots:
		direction, delay = -1, s.down
	}
	if direction != s.direction {
		s.direction, s.since = direction, now
	}
	if direction == 0 || now.Sub(s.since) < delay {
		return slots
	}
	s.direction = 0
	return desired
}

// tendEvery is how often the server looks whether slots or models should come or go.
const tendEvery = time.Second

// tend keeps slots and models as they should be until ctx ends.
func (s *Server) tend(ctx context.Context) {
	tick := time.NewTicker(s.tendEvery)
	defer tick.Stop()
	sc := scaler{
		least: s.cfg.MinSlots, most: s.cfg.MaxSlots, target: s.cfg.TargetOngoing,
		up: s.cfg.UpscaleDelay, down: s.cfg.DownscaleDelay,
	}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if s.device.Load() == nil {
				continue // loading
			}
			s.shelf.reread()
			s.shelf.unloadIdle(now)
			want := s.slots.wanted()
			if sc.most > 0 {
				busy, queued := s.slots.load()
				want = sc.decide(now, busy+queued, want)
			}
			s.shelf.keepSlots(want)
		}
	}
}

// keepSlots has each loaded model have so many slots, as far as there is memory: made and freed when
// the number has changed, and made anew where one was lost. What cannot be made is logged once, and
// tried again when a model was unloaded.
func (sh *shelf) keepSlots(want int) {
	select {
	case sh.turn <- struct{}{}:
	default:
		return // a load is under way
	}
	defer func() { <-sh.turn }()
	slots := sh.server.slots
	before := slots.wanted()
	changed := want != before
	if changed {
		sh.server.log.Info("slots", "wanted", want, "before", before)
	}
	slots.want(want) // fewer: no more jobs start before the engines free what they had
	open := 0
	for _, d := range sh.loaded() {
		d.cannot = d.cannot && !changed
		info := d.engine.Info()
		if info.Slots > want || info.Slots < want && !d.cannot {
			if err := sh.resize(d, info.Slots, want); err != nil {
				d.cannot = true
				sh.server.log.Warn("not as many slots as wanted", "model", d.info.Model, "wanted", want, "error", err)
			}
			info = d.engine.Info()
		}
		sh.weigh(d, info)
		slots.setLimit(&d.lane, min(info.Slots, want))
		open = max(open, min(info.Slots, want))
	}
	if open > 0 { // nothing is loaded: as many as the next model will have
		slots.resize(open)
	}
}

// resize makes or frees slots of a model, as many as are within the limit of memory.
func (sh *shelf) resize(d *device, now, want int) error {
	n := want
	if each := sh.slotBytes(d.info.Model); each > 0 && want > now {
		sh.mu.Lock()
		left := sh.memoryMax
		for _, other := range sh.devices {
			left -= other.bytes
		}
		sh.mu.Unlock()
		n = now + int(min(int64(want-now), max(0, left)/each))
	}
	if n != now {
		if err := d.engine.Resize(n); err != nil {
			return err
		}
	}
	if n < want {
		return fmt.Errorf("the memory that models may take is enough for %d slots", n)
	}
	return nil
}

// slotBytes is about what a slot of a model takes, 0 where that is not known.
func (sh *shelf) slotBytes(id string) int64 {
	for _, m := range sh.known() {
		if m.ID == id {
			return m.SlotBytes
		}
	}
	return 0
}

// weigh takes down how much memory a model has now.
func (sh *shelf) weigh(d *device, info EngineInfo) {
	d.free.Store(int64(info.DeviceFree)) //nolint:gosec // no device has 2^63 bytes
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if info.Bytes > 0 {
		d.bytes = int64(info.Bytes) //nolint:gosec // likewise
		sh.sizes[d.info.Model] = d.bytes
	}
}
