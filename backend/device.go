package backend

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/transcript"
)

// device is a loaded model: an engine, what it is and who uses it.
type device struct {
	engine Transcriber
	info   EngineInfo // as it was when the model was loaded
	class  gpu.Class
	since  time.Time
	bytes  int64        // of memory that it takes, measured where the engine can, else estimated
	free   atomic.Int64 // bytes of its device's memory that are free, as last looked at; 0: not known
	lane   lane
	cannot bool // some slots could not be made, which was logged; guarded by shelf.turn

	// Guarded by shelf.mu.
	users   int       // jobs that hold it: it is not unloaded while there are any
	used    time.Time // when the last of them let go
	leaving bool      // makes room for another: new jobs wait until it is gone
}

// emulatorEngine is the name by which the emulator says what it is.
const emulatorEngine = "emulator"

func (d *device) emulator() bool { return d.info.Engine == emulatorEngine }

// translates: English-only models have nothing to translate from, and turbo was not trained to (it
// answers in the language that is spoken).
func (d *device) translates() bool { return translates(d.info.Model, d.info.Multilingual) }

func translates(model string, multilingual bool) bool {
	family, _ := gpu.FamilyOf(model)
	return multilingual && family != gpu.Turbo
}

// newDevice takes an engine that was just made.
func (s *Server) newDevice(engine Transcriber, estimate int64) (*device, error) {
	info := engine.Info()
	if info.Slots < 1 || info.Model == "" {
		return nil, errors.New("the engine has no slots or no model")
	}
	now := time.Now()
	d := &device{
		engine: engine, info: info, since: now, used: now, class: gpu.ParseClass(s.cfg.GPUClass),
		bytes: estimate, lane: lane{limit: info.Slots},
	}
	if info.Bytes > 0 {
		d.bytes = int64(info.Bytes)
	}
	d.free.Store(int64(info.DeviceFree))
	found, _ := gpu.FromDevice(info.Device)
	switch {
	case d.class == "":
		d.class = found
	case d.class.Known() && d.class != gpu.CPU && found == gpu.CPU:
		// The classic failure: libraries without CUDA. Proxies must not count on a GPU here.
		s.log.Warn("the model runs on the CPU, which is told to proxies instead of the GPU class that was given",
			"gpu_class", d.class, "device", info.Device)
		d.class = gpu.CPU
	}
	return d, nil
}

// Use gives the server its engine, from which moment it is ready. The server closes the engine when
// it is shut down. Where there is a [Library], what it has besides is loaded on demand.
func (s *Server) Use(engine Transcriber) error {
	d, err := s.newDevice(engine, 0)
	if err != nil {
		return err
	}
	if !s.used.CompareAndSwap(false, true) {
		return errors.New("the server has an engine already")
	}
	d.cannot = d.info.Slots < s.cfg.MinSlots // the engine said why
	s.slots.want(max(d.info.Slots, s.cfg.MinSlots))
	s.slots.resize(d.info.Slots)
	s.shelf.first(d)
	s.metrics.useDevice(d, s.cfg.Version)
	s.device.Store(d) // last: from now on requests are let in
	s.log.Info("ready", "model", d.info.Model, "engine", d.info.Engine, "device", d.info.Device,
		"gpu_class", d.class, "slots", d.info.Slots, "threads", d.info.Threads)
	if s.cfg.Ready != nil {
		s.cfg.Ready()
	}
	return nil
}

// adapt checks that the model can do what is asked, and completes the parameters for it.
func (d *device) adapt(p *transcript.Params) *transcript.Error {
	if p.Task == transcript.Translate && !d.translates() {
		return transcript.Invalid("model", "unsupported_task",
			"The model %q does not translate; send the audio to /v1/audio/transcriptions.", d.info.Model)
	}
	if d.info.Multilingual {
		return nil
	}
	if p.Language != "" && p.Language != "en" {
		return transcript.Invalid("language", "unsupported_language",
			"The model %q knows English only, not %q.", d.info.Model, p.Language)
	}
	p.Language = "en" // detection on an English-only model yields nonsense
	return nil
}
