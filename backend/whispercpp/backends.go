//go:build whispercpp

package whispercpp

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "backends.h"
import "C"

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// loadBackends makes ggml ready for its first use: whisper.cpp loads no backend by itself and ends
// the process without one. Only the first call does anything. The error is one sentence.
var loadBackends = sync.OnceValue(func() error {
	routeLog() // ggml tells what it loads
	folder, ok := libraryFolder()
	if !ok {
		return nil // linked into the binary, backends included
	}
	return loadCPU(folder)
})

// libraryFolder is where the dynamic linker found ggml: its backends lie beside it. It is false where
// ggml is part of the binary.
func libraryFolder() (string, bool) {
	path := (*C.char)(C.malloc(C.WP_PATH_SIZE))
	defer C.free(unsafe.Pointer(path))
	if !C.wp_library_folder(path) {
		return "", false
	}
	folder, err := filepath.Abs(C.GoString(path))
	return folder, err == nil
}

// loadCPU loads the code that suits this processor best of what lies in folder.
func loadCPU(folder string) error {
	paths, err := filepath.Glob(filepath.Join(folder, "libggml-cpu*.so"))
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("whisper.cpp's code for processors, libggml-cpu*.so, is not in %s: put the whole lib folder there", folder)
	}
	slices.Sort(paths)
	best, bestScore, reasons := "", 0, []string(nil)
	for _, path := range paths {
		score, reason := scoreOf(path)
		switch {
		case score < 0:
			reasons = append(reasons, reason)
		case score > bestScore:
			best, bestScore = path, score
		}
	}
	if best == "" && len(reasons) > 0 {
		return fmt.Errorf("whisper.cpp's code for this processor cannot be loaded: %s", reasons[0])
	}
	if best == "" {
		return fmt.Errorf("none of whisper.cpp's %d kinds of code for processors in %s runs on this one", len(paths), folder)
	}
	if _, reason := loadBackend(best); reason != "" {
		return fmt.Errorf("%s cannot be loaded: %s", best, reason)
	}
	return nil
}

func scoreOf(path string) (score int, reason string) {
	return withReason(path, func(path, reason *C.char) C.int { return C.wp_backend_score(path, reason) })
}

// loadBackend returns how many devices the backend brought, or why there is none.
func loadBackend(path string) (devices int, reason string) {
	return withReason(path, func(path, reason *C.char) C.int { return C.wp_backend_load(path, reason) })
}

func withReason(path string, call func(path, reason *C.char) C.int) (int, string) {
	cPath, cReason := C.CString(path), (*C.char)(C.calloc(1, C.WP_REASON_SIZE))
	defer C.free(unsafe.Pointer(cPath))
	defer C.free(unsafe.Pointer(cReason))
	n := int(call(cPath, cReason))
	return n, strings.TrimSpace(C.GoString(cReason))
}

// loadGPU loads the GPU backend, once, and tells what is there and what is missing. Without a driver
// or a card it loads nothing: CUDA's libraries are 600 MB.
var loadGPU = sync.OnceValue(func() gpuFound {
	folder, ok := libraryFolder()
	return findGPU(folder, ok)
})

func findGPU(folder string, loadable bool) gpuFound {
	found := gpuFound{folder: folder, driver: probeDriver()}
	if !loadable || !found.driver.usable() {
		return found
	}
	found.library = gpuLibraryIn(folder)
	if found.library == "" {
		return found
	}
	libraryLog.forget()
	found.devices, found.reason = loadBackend(found.library)
	if found.devices == 0 {
		found.reason = libraryLog.firstError()
	}
	return found
}

func probeDriver() driver {
	var d C.wp_driver
	C.wp_driver_probe(&d)
	return driver{
		present: bool(d.present), works: bool(d.works), cuda: int(d.version), cards: int(d.devices),
		reason: C.GoString(&d.reason[0]),
	}
}
