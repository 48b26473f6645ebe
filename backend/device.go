package backend

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/transcript"
)

// device is a loaded engine with its slots.
type device struct {
	engine Transcriber
	info   EngineInfo
	class  gpu.Class
	slots  *slots
	since  time.Time
}

// emulatorEngine is the name by which the emulator says what it is.
const emulatorEngine = "emulator"

func (d *device) emulator() bool { return d.info.Engine == emulatorEngine }

// translates: English-only models have nothing to translate from, and turbo was not trained to (it
// answers in the language that is spoken).
func (d *device) translates() bool {
	family, _ := gpu.FamilyOf(d.info.Model)
	return d.info.Multilingual && family != gpu.Turbo
}

// Use gives the server its engine, from which moment it is ready. The server closes the engine when
// it is shut down.
func (s *Server) Use(engine Transcriber) error {
	info := engine.Info()
	if info.Slots < 1 || info.Model == "" {
		return errors.New("the engine has no slots or no model")
	}
	d := &device{
		engine: engine, info: info, since: time.Now(),
		class: gpu.ParseClass(s.cfg.GPUClass), slots: newSlots(info.Slots, s.cfg.Queue),
	}
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
	if !s.device.CompareAndSwap(nil, d) {
		return errors.New("the server has an engine already")
	}
	s.metrics.useDevice(d, s.cfg.Version)
	s.log.Info("ready", "model", info.Model, "engine", info.Engine, "device", info.Device,
		"gpu_class", d.class, "slots", info.Slots, "threads", info.Threads)
	return nil
}

// adapt checks that the model can do what is asked, and completes the parameters for it.
func (d *device) adapt(p *transcript.Params) *transcript.Error {
	if p.API == transcript.OpenAI { // whisper.cpp's server ignores the model
		if refusal := d.serves(p.Model); refusal != nil {
			return refusal
		}
	}
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

// serves refuses a model that is not the served one, by its id or a name that means the default.
func (d *device) serves(model string) *transcript.Error {
	if model == d.info.Model || transcript.MeansDefault(model) && model != "" {
		return nil
	}
	return &transcript.Error{
		Status: http.StatusNotFound, Type: "invalid_request_error", Param: "model", Code: "model_not_found", Final: true,
		Message: fmt.Sprintf("The model %s does not exist here; there is %q.", transcript.Quote(model), d.info.Model),
	}
}
