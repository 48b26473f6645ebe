package whispercpp

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
)

// GPU modes of [Config].
const (
	GPUAuto     = "auto"     // use the GPU where there is one
	GPURequired = "required" // refuse to start without one
	GPUOff      = "off"      // never
)

// decodersMax is whisper.cpp's own bound on beams and candidates (WHISPER_MAX_DECODERS).
const decodersMax = 8

// Config says which model to run and on what.
type Config struct {
	ModelPath string // a ggml file
	ModelID   string // the id under which it is served; "": from the file's name, "base" for ggml-base.bin
	Slots     int    // jobs at once, each with a state of its own, ready when New returns, or as many as fit; 0: 1
	SlotsMax  int    // the most that there can be later; 0: 64
	Threads   int    // CPU threads a slot; 0: the cores divided among the slots
	GPU       string // GPUAuto, GPURequired or GPUOff; "": GPUAuto
	GPUDevice int    // which GPU, from 0; only where one is used

	// FlashAttention is whisper.cpp's own default and the faster way (docs/backend.md has figures of CPUs).
	FlashAttention bool

	// ShortClips is ShortClipsAuto, ShortClipsOn or ShortClipsOff; "": ShortClipsAuto.
	ShortClips string
	// Cold leaves out the run on silence that each state does when it is made, so that the first client
	// does not wait for memory that is touched for the first time. On a GPU it is done in any case.
	Cold bool

	BeamSize    int // beams for requests that don't say; 0 or 1: greedy
	BestOf      int // candidates at a temperature above 0 for requests that don't say; 0: 2, as whisper-server has it
	MaxDecoders int // most beams or candidates that a request may ask for, 1 to 8; 0: 8. On a GPU each slot's memory is reserved for it

	Logger *slog.Logger // where the library's warnings go; nil: slog.Default(). One for the whole process: the last engine's
}

// Bounds of what is sensible; beyond, whisper.cpp runs out of memory or threads in its own way.
const (
	slotsMax   = 64
	threadsMax = 256
)

// withDefaults checks the configuration and fills in what was left out, for so many cores.
func (cfg Config) withDefaults(cores int) (Config, error) {
	if cfg.ModelPath == "" {
		return cfg, errors.New("no model file is named: get one with `make model` and name it")
	}
	if cfg.ModelID == "" {
		name := filepath.Base(cfg.ModelPath)
		cfg.ModelID = strings.TrimPrefix(strings.TrimSuffix(name, filepath.Ext(name)), "ggml-")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.GPU == "" {
		cfg.GPU = GPUAuto
	}
	if cfg.GPU != GPUAuto && cfg.GPU != GPURequired && cfg.GPU != GPUOff {
		return cfg, fmt.Errorf("the GPU mode is %q; it must be %s, %s or %s", cfg.GPU, GPUAuto, GPURequired, GPUOff)
	}
	if cfg.ShortClips == "" {
		cfg.ShortClips = ShortClipsAuto
	}
	if cfg.ShortClips != ShortClipsAuto && cfg.ShortClips != ShortClipsOn && cfg.ShortClips != ShortClipsOff {
		return cfg, fmt.Errorf("the short-clip mode is %q; it must be %s, %s or %s", cfg.ShortClips, ShortClipsAuto, ShortClipsOn, ShortClipsOff)
	}
	for _, field := range []struct {
		name           string
		value          *int
		byDefault, max int
	}{
		{"number of slots", &cfg.Slots, 1, slotsMax},
		{"largest number of slots", &cfg.SlotsMax, slotsMax, slotsMax},
		{"number of threads", &cfg.Threads, max(1, cores/max(cfg.Slots, 1)), threadsMax},
		{"limit on beams and candidates", &cfg.MaxDecoders, decodersMax, decodersMax},
		{"number of beams", &cfg.BeamSize, 1, decodersMax},
		{"number of candidates", &cfg.BestOf, 2, decodersMax},
	} {
		if *field.value == 0 {
			*field.value = field.byDefault
		}
		if *field.value < 1 || *field.value > field.max {
			return cfg, fmt.Errorf("the %s is %d; it must be from 1 to %d", field.name, *field.value, field.max)
		}
	}
	if cfg.Slots > cfg.SlotsMax {
		return cfg, fmt.Errorf("%d slots are more than the limit of %d", cfg.Slots, cfg.SlotsMax)
	}
	cfg.BestOf = min(cfg.BestOf, cfg.MaxDecoders)
	if cfg.BeamSize > cfg.MaxDecoders {
		return cfg, fmt.Errorf("%d beams are more than the limit of %d", cfg.BeamSize, cfg.MaxDecoders)
	}
	return cfg, nil
}
