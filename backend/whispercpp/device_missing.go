package whispercpp

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// gpuLibrary is ggml's CUDA backend. It is looked for beside libggml.so.
const gpuLibrary = "libggml-cuda.so"

// gpuFound is what a GPU needs and what of it is there.
type gpuFound struct {
	driver  driver
	folder  string // where the library was looked for; "" where ggml is part of the binary
	library string // its path; "" where there is none
	devices int    // that the library brought; -1 if it could not be loaded
	reason  string // why it could not be, or why it brought none, in others' words; "" if they said nothing
}

// driver is what the NVIDIA driver says of itself.
type driver struct {
	present, works bool
	cuda           int    // the newest CUDA that it can do, 12040 for 12.4; 0 where not known
	cards          int    // that this process may use
	reason         string // why it is not there or doesn't work
}

func (d driver) usable() bool { return d.present && d.works && d.cards > 0 }

// missing says in a part of a sentence what keeps a GPU from being used and what to do; "" if nothing
// does. What is needed first is named first.
func (f gpuFound) missing() string {
	d := f.driver
	switch {
	case !d.present:
		return fmt.Sprintf("no NVIDIA driver is here (%s): install it, or hand the card into the container (docker run --gpus all)", d.reason)
	case !d.works && d.reason != "CUDA_ERROR_NO_DEVICE":
		return fmt.Sprintf("the NVIDIA driver does not work (%s): see what `nvidia-smi` says", d.reason)
	case d.cards == 0:
		return "the NVIDIA driver finds no card" + hidden() + ": see what `nvidia-smi` lists"
	case f.library == "":
		where := "built into it"
		if f.folder != "" {
			where = "in " + f.folder
		}
		return fmt.Sprintf("this whisper-backend has no CUDA library (%s is not %s): build it with `make build CUDA=1`, or take the release with its whole lib folder", gpuLibrary, where)
	case f.devices < 0:
		return fmt.Sprintf("the CUDA library %s cannot be loaded: %s", f.library, f.reason)
	case f.devices == 0:
		return "CUDA can use no card" + because(f.reason) + f.tooOld() + ": see what `nvidia-smi` says"
	}
	return ""
}

// hidden names the variable that hides cards, where it is set.
func hidden() string {
	if cards, set := os.LookupEnv("CUDA_VISIBLE_DEVICES"); set {
		return fmt.Sprintf(", and CUDA_VISIBLE_DEVICES is %q", cards)
	}
	return ""
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// tooOld says which driver the library needs where the one that is there is older. Within one major
// version of CUDA every driver does (NVIDIA, CUDA Compatibility, "minor version compatibility").
func (f gpuFound) tooOld() string {
	needs := cudaOf(f.library)
	if f.driver.cuda == 0 || needs == 0 || f.driver.cuda/1000 >= needs {
		return ""
	}
	return fmt.Sprintf("; the driver is made for CUDA %d.%d and the library for CUDA %d, so a newer driver is needed",
		f.driver.cuda/1000, f.driver.cuda%1000/10, needs)
}

// cudaOf is the major version of CUDA that a library was built with, 0 where it does not say so.
func cudaOf(path string) int {
	file, err := elf.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = file.Close() }() // only read
	needed, _ := file.ImportedLibraries()
	for _, name := range needed {
		if version, ok := strings.CutPrefix(name, "libcudart.so."); ok {
			major, _, _ := strings.Cut(version, ".")
			n, _ := strconv.Atoi(major)
			return n
		}
	}
	return 0
}

// gpuLibraryIn is the library's path, "" if it is not in folder.
func gpuLibraryIn(folder string) string {
	path := filepath.Join(folder, gpuLibrary)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
