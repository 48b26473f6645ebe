//go:build whispercpp

package whispercpp

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeDriver is as much of an NVIDIA driver as is asked before CUDA's libraries are loaded. CUDA itself
// finds that it is none.
const fakeDriver = `
#include <stdlib.h>
static int number(const char * name) { const char * text = getenv(name); return text ? atoi(text) : 0; }
int cuInit(unsigned flags) { return number("FAKE_INIT"); }
int cuDriverGetVersion(int * out) { *out = number("FAKE_CUDA"); return 0; }
int cuDeviceGetCount(int * out) { *out = number("FAKE_CARDS"); return 0; }
int cuGetErrorName(int code, const char ** out) { *out = code == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_UNKNOWN"; return 0; }
`

// asChild in the environment makes this test binary look for a GPU in the folder that it names, since
// what was loaded once stays for the life of a process.
const asChild = "WHISPERCPP_FIND_GPU_IN"

func TestFindGPUChild(t *testing.T) {
	folder := os.Getenv(asChild)
	if folder == "" {
		t.Skip("run by TestGPUThatIsNotThere")
	}
	if err := loadBackends(); err != nil {
		t.Fatal(err)
	}
	found := findGPU(folder, true)
	for _, mode := range []string{GPURequired, GPUAuto} {
		d, err := chooseDevice(mode, 0, devices(), found.missing(), device.opens)
		fmt.Printf("%s: %s, because %s; error %v\n", mode, d.label(), d.why, err)
	}
}

// cudaBuild is a folder with ggml's real CUDA backend, where one was built.
func cudaBuild(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WHISPERPOOL_TEST_CUDA")
	if dir == "" {
		t.Skip("no CUDA build is cached: WHISPERPOOL_TEST_CUDA is not set")
	}
	return dir
}

func buildFakeDriver(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "driver.c")
	if err := os.WriteFile(source, []byte(fakeDriver), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", filepath.Join(dir, "libcuda.so.1"), source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// findIn runs the child and returns what it says of each mode.
func findIn(t *testing.T, folder string, env ...string) (required, auto string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestFindGPUChild$")
	child.Env = append(append(os.Environ(), asChild+"="+folder), env...)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, GPURequired+": "); ok {
			required = rest
		}
		if rest, ok := strings.CutPrefix(line, GPUAuto+": "); ok {
			auto = rest
		}
	}
	return required, auto
}

func skipWithDriver(t *testing.T) {
	t.Helper()
	if probeDriver().present {
		t.Skip("this machine has an NVIDIA driver")
	}
}

func expectMissing(t *testing.T, folder, want string, env ...string) {
	t.Helper()
	required, auto := findIn(t, folder, env...)
	if !strings.Contains(required, "error a GPU is required, but ") || !strings.Contains(required, want) {
		t.Errorf("required says %q, want an error with %q", required, want)
	}
	if !strings.HasPrefix(auto, "CPU, because ") || !strings.Contains(auto, want) || !strings.Contains(auto, "error <nil>") {
		t.Errorf("auto says %q, want the CPU because of %q", auto, want)
	}
}

func TestGPUThatIsNotThere(t *testing.T) {
	skipWithDriver(t)
	fake := "LD_LIBRARY_PATH=" + buildFakeDriver(t)
	empty, broken := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, gpuLibrary), []byte("not a library at all, though it is named as one"), 0o600); err != nil {
		t.Fatal(err)
	}
	expectMissing(t, empty, "no NVIDIA driver is here (libcuda.so.1: cannot open shared object file")
	expectMissing(t, empty, "finds no card", fake, "FAKE_INIT=100")
	expectMissing(t, empty, "does not work (CUDA_ERROR_UNKNOWN)", fake, "FAKE_INIT=999")
	expectMissing(t, empty, "finds no card", fake, "FAKE_CARDS=0")
	expectMissing(t, empty, gpuLibrary+" is not in "+empty, fake, "FAKE_CARDS=1")
	expectMissing(t, broken, "cannot be loaded: ", fake, "FAKE_CARDS=1")
}

func TestCUDABuildOnAMachineWithoutGPU(t *testing.T) {
	skipWithDriver(t)
	build := cudaBuild(t)
	fake := "LD_LIBRARY_PATH=" + buildFakeDriver(t)
	expectMissing(t, build, "no NVIDIA driver is here (libcuda.so.1: cannot open shared object file")
	expectMissing(t, build, "finds no card", fake, "FAKE_INIT=100")

	// The library itself, without those of CUDA beside it.
	alone := t.TempDir()
	if err := os.Symlink(filepath.Join(build, gpuLibrary), filepath.Join(alone, gpuLibrary)); err != nil {
		t.Fatal(err)
	}
	expectMissing(t, alone, "cannot open shared object file", fake, "FAKE_CARDS=1", "FAKE_CUDA=13000")

	// Everything there, and a driver with which CUDA cannot work.
	expectMissing(t, build, "CUDA can use no card (", fake, "FAKE_CARDS=1", "FAKE_CUDA=13000")
	expectMissing(t, build, "the driver is made for CUDA 12.4", fake, "FAKE_CARDS=1", "FAKE_CUDA=12040")
}

func TestCPUBackendIsTheOneThatSuits(t *testing.T) {
	if err := loadBackends(); err != nil {
		t.Fatal(err)
	}
	if all := devices(); len(all) == 0 {
		t.Error("no device after loading")
	}
	if err := loadCPU(t.TempDir()); err == nil || !strings.Contains(err.Error(), "lib folder") {
		t.Errorf("an empty folder: %v", err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "libggml-cpu-haswell.so"), []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := loadCPU(broken); err == nil || !strings.Contains(err.Error(), "cannot be loaded") {
		t.Errorf("a broken library: %v", err)
	}
}
