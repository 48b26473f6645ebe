package whispercpp

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// device is one device that the library found.
type device struct {
	name, description string // "CUDA0", "NVIDIA A10G"
	gpu               bool
	index             int    // among all devices
	free, total       uint64 // bytes of memory, where it was asked for
	why               string // no GPU is used though one was looked for; part of a sentence
}

// label is how the engine names its device to clients.
func (d device) label() string {
	if !d.gpu {
		return "CPU"
	}
	if d.description == "" {
		return d.name
	}
	return d.name + ": " + d.description
}

// driverFolder is where NVIDIA's driver tells of its cards on Linux.
const driverFolder = "/proc/driver/nvidia/gpus"

// uuidOf reads the UUID of the card that sits in a slot of the PCI bus, by which NVIDIA's tools and their exporters
// name it too; "" where the driver has no such file, as in WSL.
func uuidOf(folder, slot string) string {
	text, err := os.ReadFile(filepath.Join(folder, filepath.Base(strings.ToLower(slot)), "information"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "GPU UUID" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// DeviceFound is what a model would run on.
type DeviceFound struct {
	Label string // "CPU", "CUDA0: NVIDIA A10G"
	GPU   bool
	Why   string // no GPU is used though one was looked for, as part of a sentence; "" otherwise
}

// chooseDevice picks what the model runs on. whisper.cpp itself falls back to the CPU without a
// word, and a GPU that does nothing is found out weeks later; so what was asked for is there or
// it is an error. missing says why all has no GPU; opens tells whether a device can be used at all.
func chooseDevice(mode string, number int, all []device, missing string, opens func(device) bool) (device, error) {
	cpu := device{name: "CPU"}
	if mode == GPUOff {
		return cpu, nil
	}
	var gpus []device
	for _, d := range all {
		if d.gpu {
			gpus = append(gpus, d)
		}
	}
	switch {
	case len(gpus) == 0 && mode == GPURequired:
		return device{}, fmt.Errorf("a GPU is required, but %s", missing)
	case len(gpus) == 0:
		cpu.why = missing
		return cpu, nil
	case number < 0 || number >= len(gpus):
		return device{}, fmt.Errorf("there is no GPU %d: CUDA sees %d, counted from 0 (the first is %s)", number, len(gpus), gpus[0].label())
	}
	chosen := gpus[number]
	if !opens(chosen) {
		why := fmt.Sprintf("the GPU %s cannot be used: is its memory full, or does another process hold it exclusively? See `nvidia-smi`", chosen.label())
		if mode == GPURequired || number != 0 {
			return device{}, fmt.Errorf("a GPU is required, but %s", why)
		}
		cpu.why = why
		return cpu, nil
	}
	return chosen, nil
}

// roomForSlot refuses a slot for which the device has too little free memory, in bytes: past a
// certain point whisper.cpp ends the process instead of saying no. A need of 0 is not known yet.
func roomForSlot(d device, need uint64, made int) error {
	if !d.gpu || need == 0 || d.free >= need {
		return nil
	}
	advice := "use a smaller or a quantised model, or allow fewer beams and candidates"
	if made > 0 {
		advice = fmt.Sprintf("start it with %d slots, or with fewer beams and candidates allowed", made)
	}
	return fmt.Errorf("%s has %d MB free and a slot takes about %d MB: %s", d.label(), d.free>>20, need>>20, advice)
}
