package whispercpp

import (
	"strings"
	"testing"
)

func TestConfigDefaults(t *testing.T) {
	cfg, err := Config{ModelPath: "/models/ggml-tiny.en.bin", Slots: 3}.withDefaults(8)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.ModelID != "tiny.en" || cfg.Threads != 2 || cfg.GPU != GPUAuto || cfg.BeamSize != 1 || cfg.BestOf != 2 || cfg.MaxDecoders != 8 {
		t.Errorf("%+v", cfg)
	}
	if cfg, err = (Config{ModelPath: "x", Slots: 4}).withDefaults(2); err != nil || cfg.Threads != 1 {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestConfigMistakes(t *testing.T) {
	for want, cfg := range map[string]Config{
		"model file": {}, "slots": {ModelPath: "m", Slots: -1}, "threads": {ModelPath: "m", Threads: 1000},
		"GPU mode": {ModelPath: "m", GPU: "yes"}, "limit": {ModelPath: "m", MaxDecoders: 9},
		"beams": {ModelPath: "m", BeamSize: 5, MaxDecoders: 4}, "short-clip": {ModelPath: "m", ShortClips: "yes"},
		"more than the limit": {ModelPath: "m", Slots: 3, SlotsMax: 2}, "largest number": {ModelPath: "m", SlotsMax: 65},
	} {
		if _, err := cfg.withDefaults(2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want something about %s", cfg, err, want)
		}
	}
}

func TestDeviceIsTheOneAskedForOrAnError(t *testing.T) {
	cpu := device{name: "CPU", description: "AMD EPYC"}
	t4 := device{name: "CUDA0", description: "Tesla T4", gpu: true, index: 0}
	a10g := device{name: "CUDA1", description: "NVIDIA A10G", gpu: true, index: 1}
	for name, c := range map[string]struct {
		mode   string
		number int
		all    []device
		broken bool
		want   string // the label, or a part of the error
		fails  bool
	}{
		"auto without":       {GPUAuto, 0, []device{cpu}, false, "CPU", false},
		"auto with":          {GPUAuto, 0, []device{t4, a10g, cpu}, false, "CUDA0: Tesla T4", false},
		"the second":         {GPUAuto, 1, []device{t4, a10g, cpu}, false, "CUDA1: NVIDIA A10G", false},
		"off":                {GPUOff, 0, []device{t4, cpu}, false, "CPU", false},
		"required without":   {GPURequired, 0, []device{cpu}, false, "a GPU is required, but no driver", true},
		"beyond the last":    {GPUAuto, 2, []device{t4, a10g, cpu}, false, "no GPU 2", true},
		"required but stuck": {GPURequired, 0, []device{t4, cpu}, true, "cannot be used", true},
		"auto but stuck":     {GPUAuto, 0, []device{t4, cpu}, true, "CPU", false},
		"chosen but stuck":   {GPUAuto, 1, []device{t4, a10g, cpu}, true, "cannot be used", true},
	} {
		got, err := chooseDevice(c.mode, c.number, c.all, "no driver", func(device) bool { return !c.broken })
		if (err != nil) != c.fails {
			t.Errorf("%s: %v, %v", name, got, err)
			continue
		}
		if wanted := c.mode != GPUOff && !got.gpu; err == nil && wanted != (got.why != "") {
			t.Errorf("%s: on %s because %q", name, got.label(), got.why)
		}
		said := got.label()
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, c.want) {
			t.Errorf("%s: %q, want %q", name, said, c.want)
		}
	}
}

func TestSlotNeedsRoomOnTheCard(t *testing.T) {
	card := device{name: "CUDA0", description: "Tesla T4", gpu: true, free: 1000 << 20}
	for need, fits := range map[uint64]bool{0: true, 1000 << 20: true, 1001 << 20: false} {
		if err := roomForSlot(card, need, 3); (err == nil) != fits {
			t.Errorf("a need of %d MB: %v", need>>20, err)
		} else if err != nil && !strings.Contains(err.Error(), "3 slots") {
			t.Errorf("%q does not say what would fit", err)
		}
	}
	if err := roomForSlot(device{name: "CPU"}, 1<<40, 0); err != nil {
		t.Error(err)
	}
	if err := roomForSlot(card, 1001<<20, 0); err == nil || !strings.Contains(err.Error(), "quantised") {
		t.Errorf("no room for the first: %v", err)
	}
	m := memory{guess: 700 << 20}
	if m.ofSlot() != 700<<20 {
		t.Errorf("before any was seen, a slot takes %d", m.ofSlot())
	}
	m.sawSlot(600 << 20)
	if m.ofSlot() != 600<<20 {
		t.Errorf("a slot was seen to take 600 MB, not %d", m.ofSlot())
	}
}
