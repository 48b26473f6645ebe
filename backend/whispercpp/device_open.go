//go:build whispercpp

package whispercpp

// #include "backends.h"
import "C"

// Device says what a model would run on with this mode (GPUAuto, GPURequired or GPUOff) and number of
// the card. The error is the one sentence to end with: it names what is missing.
func Device(mode string, number int) (DeviceFound, error) {
	d, err := openDevice(mode, number)
	return DeviceFound{Label: d.label(), GPU: d.gpu, Why: d.why}, err
}

// openDevice loads ggml's backends and picks the device. Where no GPU is to be used, nothing of CUDA
// is touched.
func openDevice(mode string, number int) (device, error) {
	if err := loadBackends(); err != nil {
		return device{}, err
	}
	missing := ""
	if mode != GPUOff {
		missing = loadGPU().missing()
	}
	return chooseDevice(mode, number, devices(), missing, device.opens)
}

// devices lists what the backends brought.
func devices() []device {
	all := make([]device, int(C.wp_found_count()))
	for i := range all {
		var d C.wp_found
		C.wp_found_get(C.int(i), &d)
		all[i] = device{name: C.GoString(&d.name[0]), description: C.GoString(&d.description[0]), gpu: bool(d.gpu), index: i}
	}
	return all
}

// uuid is the card's own name, "GPU-1f2e..."; "" on the CPU, and where the driver does not tell.
func (d device) uuid() string {
	if !d.gpu {
		return ""
	}
	var slot [64]C.char
	C.wp_found_slot(C.int(d.index), &slot[0], C.size_t(len(slot)))
	return uuidOf(driverFolder, C.GoString(&slot[0]))
}

func (d device) opens() bool { return bool(C.wp_found_opens(C.int(d.index))) }

// refreshed is the device with its memory as of now, where that matters.
func (d device) refreshed() device {
	if d.gpu {
		var free, total C.uint64_t
		C.wp_found_memory(C.int(d.index), &free, &total)
		d.free, d.total = uint64(free), uint64(total)
	}
	return d
}
