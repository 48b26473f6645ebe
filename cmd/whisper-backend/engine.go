package main

import (
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/emulator"
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

// loader makes the function that makes the engine. What can be wrong without loading a model is an
// error at once.
func (o *options) loader(log *slog.Logger) (func() (backend.Transcriber, error), error) {
	if o.engine == "emulator" {
		slots, _ := parallelism(o.slots, 1, slotsMax, o.emulateClass, o.emulateModel) // needs no cores
		e, err := emulator.New(emulator.Config{
			Class: o.emulateClass, Model: o.emulateModel, Slots: slots, Seed: o.seed, SpeedUp: o.speedUp,
		})
		return func() (backend.Transcriber, error) { return e, nil }, err
	}
	if _, err := whispercpp.CheckModel(o.model); err != nil {
		return nil, err
	}
	cores := runtime.GOMAXPROCS(0)
	class := o.gpuClass
	if o.gpu == "off" {
		class = string(gpu.CPU)
	}
	slots, threads := parallelism(o.slots, o.threads, cores, class, o.id())
	if class == string(gpu.CPU) && slots*threads > cores {
		log.Warn("more threads than cores slow each other down", "slots", slots, "threads", threads, "cores", cores)
	}
	cfg := whispercpp.Config{
		ModelPath: o.model, ModelID: o.id(), Slots: slots, Threads: threads,
		GPU: o.gpu, GPUDevice: o.gpuDevice, FlashAttention: true, MaxDecoders: o.beamSizeMax, Logger: log,
	}
	return func() (backend.Transcriber, error) {
		log.Info("loading", "model", cfg.ModelID, "slots", slots, "threads", threads)
		return whispercpp.New(cfg)
	}, nil
}

// id is the name under which the model is served.
func (o *options) id() string {
	if o.modelID != "" {
		return o.modelID
	}
	name := filepath.Base(o.model)
	name = strings.TrimSuffix(name, filepath.Ext(name))
	return strings.TrimPrefix(name, "ggml-")
}

// What is chosen when the operator does not: more threads than threadsMax do not make whisper.cpp
// faster, and more slots than slotsMax cost more memory than they gain.
const (
	threadsMax = 8
	slotsMax   = 8
)

// parallelism chooses what is 0, so that slots * threads stays within the cores. On a GPU with a
// law the slots are those up to which it gains from another; on other GPUs 1, since there it may
// gain nothing; on the CPU, as many as leave each threadsMax threads.
func parallelism(slots, threads, cores int, class, model string) (int, int) {
	if slots == 0 {
		slots = 1
		if law, ok := gpu.LawOf(class, model); ok {
			for slots < slotsMax && law.Gain(slots+1) > law.Gain(slots) {
				slots++
			}
		} else if gpu.ParseClass(class) == gpu.CPU {
			slots = min(slotsMax, cores/threadsMax)
		}
		if threads > 0 {
			slots = min(slots, cores/threads)
		}
		slots = max(1, min(slots, cores))
	}
	if threads == 0 {
		threads = max(1, min(threadsMax, cores/slots))
	}
	return slots, threads
}

// serverConfig is what the flags say about the server.
func (o *options) serverConfig(log *slog.Logger) (backend.Config, error) {
	cfg := backend.Config{
		GPUClass: o.gpuClass, Version: programVersion(), Queue: o.queue, UploadMax: int64(o.uploadMax),
		AudioMax: o.audioMax, BeamSizeMax: o.beamSizeMax, Grace: o.grace, Log: log,
	}
	if o.queue == 0 {
		cfg.Queue = -1 // none waits; the zero value means the default
	}
	var err error
	switch o.ffmpeg {
	case "off":
	case "auto":
		if cfg.FFmpeg, err = exec.LookPath("ffmpeg"); err != nil {
			log.Info("no ffmpeg found: MP4, M4A and AAC are refused")
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
