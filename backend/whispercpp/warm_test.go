//go:build whispercpp

package whispercpp

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const warmChild = "WHISPERPOOL_TEST_WARM_CHILD"

// A slot runs once when it is made, so that the first client does not wait for memory to be had: its job
// takes thousands of new pages less than on a slot that is cold.
func TestFirstJobFindsItsMemory(t *testing.T) {
	if os.Getenv(warmChild) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestFirstJobFindsItsMemory$", "-test.v")
		// Every large piece of memory is new, whatever was freed before.
		child.Env = append(os.Environ(), warmChild+"=1", "MALLOC_MMAP_THRESHOLD_=65536")
		out, err := child.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	path, samples := writeSynthetic(t, syntheticModel(51865)), tone(1)
	faults := func(cold bool) int64 {
		e := open(t, Config{ModelPath: path, Slots: 1, Threads: 1, Cold: cold})
		before := pageFaults(t)
		mustTranscribe(t, e, samples, greedy())
		return pageFaults(t) - before
	}
	cold, warm := faults(true), faults(false)
	t.Logf("pages of the first job: %d cold, %d warm", cold, warm)
	if warm > cold-1000 { // 2200 less, counted without the race detector
		t.Errorf("the first job takes %d new pages on a slot that is warm, %d on one that is cold", warm, cold)
	}
}

// pageFaults are the pages that this process was given so far.
func pageFaults(t *testing.T) int64 {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return usage.Minflt
}
