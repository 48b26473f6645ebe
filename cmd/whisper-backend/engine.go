package main

import (
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"runtime/debug"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/whispercpp"
	"github.com/whisperpool/whisperpool/gpu"
)

// version is set by the linker in releases.
var version string

// programVersion is what the linker or the module system knows of this build.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// library makes the models that the flags name, and completes cfg with what goes by them and by what
// they run on. What can be wrong without loading a model is an error at once.
func (o *options) library(cfg *backend.Config, log *slog.Logger) error {
	if o.engine == "emulator" {
		return o.emulated(cfg, log)
	}
	files := &modelFiles{
		fixed: o.models, fixID: o.modelID, dir: o.modelsDir, log: log, seen: map[string]seenFile{}, header: whispercpp.CheckModel,
		engine: whispercpp.Config{FlashAttention: true, MaxDecoders: o.beamSizeMax, ShortClips: o.shortClips, Logger: log},
	}
	if err := files.check(); err != nil {
		return err
	}
	class, err := o.device(&files.engine, log)
	if err != nil {
		return err
	}
	cores := coresUsable()
	var threads int
	cfg.MinSlots, cfg.MaxSlots, threads = o.slotsAndThreads(cores, class, files.Models()[0].ID)
	if class == string(gpu.CPU) && cfg.MaxSlots*threads > cores {
		log.Warn("more threads than cores slow each other down", "slots", cfg.MaxSlots, "threads", threads, "cores", cores)
	}
	files.engine.SlotsMax, files.engine.Threads = cfg.MaxSlots, threads
	cfg.Library = files
	return o.detectors(cfg, min(cfg.MaxSlots, cores), log)
}

// detectors makes as many that tell speech from silence, if that is wanted. Each is a thread while it works, and
// takes 3 MB.
func (o *options) detectors(cfg *backend.Config, count int, log *slog.Logger) error {
	if o.vadModel == "" {
		return nil
	}
	for range max(1, count) {
		d, err := whispercpp.NewDetector(o.vadModel, log)
		if err != nil {
			return err
		}
		cfg.Detectors = append(cfg.Detectors, d)
	}
	return nil
}

// device finds out what models will run on, says so in the log, and returns its class.
func (o *options) device(engine *whispercpp.Config, log *slog.Logger) (class string, err error) {
	engine.GPU, engine.GPUDevice, err = o.gpuChoice()
	if err != nil {
		return "", err
	}
	found, err := whispercpp.Device(engine.GPU, engine.GPUDevice)
	if err != nil {
		return "", err
	}
	switch {
	case found.GPU:
		log.Info("running on a GPU", "device", found.Label)
	case engine.GPU == whispercpp.GPUOff:
		log.Info("running on the CPU", "reason", "--gpu off")
	default:
		log.Info("running on the CPU", "reason", found.Why)
	}
	if !found.GPU {
		return string(gpu.CPU), nil
	}
	if o.gpuClass != "" {
		return o.gpuClass, nil
	}
	known, _ := gpu.FromDevice(found.Label)
	return string(known), nil
}

// slotsAndThreads chooses what the flags leave open; least and most slots are the same where they do
// not come and go.
func (o *options) slotsAndThreads(cores int, class, model string) (least, most, threads int) {
	if o.maxSlots > 0 {
		_, threads = parallelism(o.maxSlots, o.threads, cores, class, model)
		return max(1, o.minSlots), o.maxSlots, threads
	}
	most, threads = parallelism(o.slots, o.threads, cores, class, model)
	return most, most, threads
}

// serverConfig is what the flags say about the server.
func (o *options) serverConfig(log *slog.Logger) (backend.Config, error) {
	cfg := backend.Config{
		GPUClass: o.gpuClass, Version: programVersion(), Queue: o.queue, UploadMax: int64(o.uploadMax),
		AudioMax: o.audioMax, BeamSizeMax: o.beamSizeMax, Grace: o.grace, Log: log,
		TargetOngoing: o.target, UpscaleDelay: o.upDelay, DownscaleDelay: o.downDelay,
		VAD: o.vad, ModelsDir: o.modelsDir, MemoryMax: int64(o.memoryMax), UnloadAfter: o.unloadAfter, KeyFile: o.keyFile,
	}
	if o.queue == 0 {
		cfg.Queue = -1 // none waits; the zero value means the default
	}
	var err error
	switch o.ffmpeg {
	case "off":
	case "auto":
		if cfg.FFmpeg, err = exec.LookPath("ffmpeg"); err != nil {
			cfg.FFmpeg, err = "", nil
		}
	default:
		if cfg.FFmpeg, err = exec.LookPath(o.ffmpeg); err != nil {
			return cfg, fmt.Errorf("--ffmpeg %s is no program that can be run", o.ffmpeg)
		}
	}
	return cfg, err
}

// logger writes to w in the chosen format.
func (o *options) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(o.logLevel)) // checked before
	opts := &slog.HandlerOptions{Level: level}
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
