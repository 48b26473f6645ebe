package whispercpp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatAGPULacksIsNamed(t *testing.T) {
	t.Setenv("CUDA_VISIBLE_DEVICES", "7")
	ready := driver{present: true, works: true, cuda: 13000, cards: 1}
	for name, c := range map[string]struct {
		found gpuFound
		want  []string
	}{
		"driver":  {gpuFound{driver: driver{reason: "libcuda.so.1: cannot open"}}, []string{"no NVIDIA driver", "libcuda.so.1: cannot open", "--gpus"}},
		"works":   {gpuFound{driver: driver{present: true, reason: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}}, []string{"does not work", "DRIVER_MISMATCH", "nvidia-smi"}},
		"card":    {gpuFound{driver: driver{present: true, reason: "CUDA_ERROR_NO_DEVICE"}}, []string{"finds no card", `CUDA_VISIBLE_DEVICES is "7"`}},
		"none":    {gpuFound{driver: driver{present: true, works: true}}, []string{"finds no card", "nvidia-smi"}},
		"library": {gpuFound{driver: ready, folder: "/opt/lib"}, []string{"has no CUDA library", "/opt/lib", "CUDA=1"}},
		"linked":  {gpuFound{driver: ready}, []string{"has no CUDA library", "built into it"}},
		"loading": {gpuFound{driver: ready, library: "/opt/lib/libggml-cuda.so", devices: -1, reason: "libcublas.so.13: cannot open"}, []string{"cannot be loaded", "libcublas.so.13: cannot open"}},
		"CUDA":    {gpuFound{driver: ready, library: "/opt/lib/libggml-cuda.so", reason: "driver is insufficient"}, []string{"CUDA can use no card (driver is insufficient)"}},
	} {
		got := c.found.missing()
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q does not say %q", name, got, want)
			}
		}
		if strings.ContainsAny(got, "\n") || strings.HasSuffix(got, ".") {
			t.Errorf("%s: %q is no part of a sentence", name, got)
		}
	}
	if got := (gpuFound{driver: ready, library: "x", devices: 1}).missing(); got != "" {
		t.Errorf("all is there, and yet: %s", got)
	}
}

func TestGPULibraryIsLookedForInItsFolder(t *testing.T) {
	dir := t.TempDir()
	if got := gpuLibraryIn(dir); got != "" {
		t.Errorf("found %s in an empty folder", got)
	}
	path := filepath.Join(dir, gpuLibrary)
	if err := os.WriteFile(path, []byte("not ELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := gpuLibraryIn(dir); got != path {
		t.Errorf("%q", got)
	}
	if got := cudaOf(path); got != 0 {
		t.Errorf("CUDA %d in what is no library", got)
	}
}
