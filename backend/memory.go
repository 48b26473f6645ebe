package backend

import (
	"math"
	"os"
	"strconv"
	"strings"
)

// memoryAvailable is how many bytes this process could still take: what the machine has, or less
// where its control group (a container) allows less. 0: not known.
func memoryAvailable() int64 {
	available := int64(math.MaxInt64)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if n, ok := meminfo(string(text), "MemAvailable"); ok {
			available = n
		}
	}
	const group = "/sys/fs/cgroup/" // of version 2, as seen from inside a container
	if limit, ok := number(group + "memory.max"); ok {
		used, _ := number(group + "memory.current")
		available = min(available, max(0, limit-used))
	}
	if available == math.MaxInt64 {
		return 0
	}
	return available
}

// meminfo finds a line of /proc/meminfo and returns its bytes.
func meminfo(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, name+":")
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		return n << 10, err == nil
	}
	return 0, false
}

// number reads a file with a number in it.
func number(path string) (int64, bool) {
	text, err := os.ReadFile(path) //nolint:gosec // one of the kernel's files, named above
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil // "max": no limit
}
