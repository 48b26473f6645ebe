//go:build whispercpp

package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/backend/whispercpp"
)

// withoutGPU returns a model for a machine without a GPU.
func withoutGPU(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WHISPERPOOL_TEST_MODEL_DIR")
	if dir == "" {
		t.Skip("WHISPERPOOL_TEST_MODEL_DIR is not set; `make test` sets it")
	}
	if found, err := whispercpp.Device(whispercpp.GPUAuto, 0); err != nil || found.GPU {
		t.Skipf("this machine has a GPU: %+v, %v", found, err)
	}
	return filepath.Join(dir, "ggml-tiny.en.bin")
}

func TestRequiredGPUEndsTheProgramWithOneSentence(t *testing.T) {
	model := withoutGPU(t)
	for _, mode := range []string{"required", "0"} {
		program := exec.CommandContext(t.Context(), os.Args[0], "--model", model, "--gpu", mode, "--listen", "127.0.0.1:0")
		program.Env = append(os.Environ(), asProgram+"=1")
		var stderr bytes.Buffer
		program.Stderr = &stderr
		err := program.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
			t.Errorf("--gpu %s: %v", mode, err)
		}
		if said := stderr.String(); !strings.HasPrefix(said, "whisper-backend: a GPU is required, but ") || strings.Count(said, "\n") != 1 {
			t.Errorf("--gpu %s: %q", mode, said)
		}
	}
}

func TestAutoSaysFirstThatItRunsOnTheCPU(t *testing.T) {
	program := exec.CommandContext(t.Context(), os.Args[0], "--model", withoutGPU(t), "--gpu", "auto", "--listen", "127.0.0.1:0")
	program.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := program.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	first, err := bufio.NewReader(stderr).ReadString('\n')
	_ = program.Process.Kill()
	_ = program.Wait()
	if err != nil || !strings.Contains(first, `msg="running on the CPU" reason="`) {
		t.Errorf("%q, %v", first, err)
	}
}
