package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/whisperpool/whisperpool/gpu"
)

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

// coresUsable is how many cores this process can keep busy: no more than its control group gives
// it time for, which GOMAXPROCS knows, and each once, since the second thread of a core gains
// matrix multiplications nothing.
func coresUsable() int {
	n := runtime.GOMAXPROCS(0)
	if physical := physicalCores(os.ReadFile); physical > 0 {
		n = min(n, physical)
	}
	return n
}

// physicalCores counts the cores that this process may run on, as Linux tells them. 0: not known.
func physicalCores(read func(path string) ([]byte, error)) int {
	status, err := read("/proc/self/status")
	if err != nil {
		return 0
	}
	allowed := ""
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "Cpus_allowed_list:"); found {
			allowed = strings.TrimSpace(rest)
		}
	}
	cores := map[string]bool{}
	for _, cpu := range numbers(allowed) {
		siblings, err := read(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
		if err != nil {
			return 0
		}
		cores[strings.TrimSpace(string(siblings))] = true
	}
	return len(cores)
}

// numbers reads Linux's notation of a set, such as 0-3,8.
func numbers(text string) []int {
	var all []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		if err != nil {
			return nil
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(last); err != nil || to-from > 1<<16 {
				return nil
			}
		}
		for n := from; n <= to; n++ {
			all = append(all, n)
		}
	}
	return all
}
