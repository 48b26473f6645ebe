// Package stage starts the programs that a measurement compares, and says which machine they ran on
// and what else it did meanwhile.
package stage

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Machine is where it was measured.
type Machine struct {
	CPU    string  `json:"cpu"`
	CPUs   int     `json:"cpus"`
	Memory int64   `json:"memory_mb,omitempty"`
	Load   float64 `json:"load_average"` // of a minute, at the beginning; -1 where the system does not tell
}

func (m Machine) String() string {
	return fmt.Sprintf("%d x %s, load average %.1f at the beginning", m.CPUs, m.CPU, m.Load)
}

// ThisMachine is the one that this runs on.
func ThisMachine() Machine {
	m := Machine{CPU: runtime.GOARCH, CPUs: runtime.NumCPU(), Load: LoadAverage()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if kb, err := Kilobytes(string(text), "MemTotal:"); err == nil {
			m.Memory = kb >> 10
		}
	}
	return m
}

// LoadAverage is that of the last minute, -1 where the system does not tell.
func LoadAverage() float64 {
	load := -1.0
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &load) // stays -1 when it is something else
	}
	return load
}

// Kilobytes is the value of a line such as "VmHWM:  1234 kB".
func Kilobytes(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name && fields[2] == "kB" {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("there is no line %s", name)
}

// OthersMost is the share of the processors that others may use before figures are not to be published.
const OthersMost = 0.05

// CPUTimes are seconds of processor time since the system began to count.
type CPUTimes struct {
	all, busy float64 // of the processors that this program may use
	ours      float64 // of this program and of all that descend from it
}

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Go runs on.
const ticksPerSecond = 100

// CPUNow reads them; all are 0 where the system does not tell. Others that are kept on other
// processors (taskset) hardly disturb what is measured, so only those that we may use count.
func CPUNow() CPUTimes {
	stat, err1 := os.ReadFile("/proc/stat")
	status, err2 := os.ReadFile("/proc/self/status")
	if err1 != nil || err2 != nil {
		return CPUTimes{}
	}
	t := processorTimes(string(stat), allowedProcessors(string(status)))
	t.ours = FamilySeconds(os.Getpid())
	return t
}

// allowedProcessors reads the line "Cpus_allowed_list:	0,2-3" of /proc/PID/status.
func allowedProcessors(status string) map[int]bool {
	allowed := map[int]bool{}
	for line := range strings.Lines(status) {
		name, list, _ := strings.Cut(line, ":")
		if name != "Cpus_allowed_list" {
			continue
		}
		for span := range strings.SplitSeq(strings.TrimSpace(list), ",") {
			from, to, isRange := strings.Cut(span, "-")
			first, err1 := strconv.Atoi(from)
			last := first
			var err2 error
			if isRange {
				last, err2 = strconv.Atoi(to)
			}
			for i := first; i <= last && err1 == nil && err2 == nil; i++ {
				allowed[i] = true
			}
		}
	}
	return allowed
}

// processorTimes adds up the lines of /proc/stat of those processors:
// "cpu0 user nice system idle iowait irq softirq steal", and guest times that are in user already.
func processorTimes(stat string, of map[int]bool) CPUTimes {
	var t CPUTimes
	for line := range strings.Lines(stat) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		number, found := strings.CutPrefix(fields[0], "cpu")
		if i, err := strconv.Atoi(number); !found || err != nil || !of[i] {
			continue
		}
		for i, field := range fields[1:] {
			v, err := strconv.ParseFloat(field, 64)
			if err != nil || i > 7 {
				break
			}
			t.all += v / ticksPerSecond
			if i != 3 && i != 4 {
				t.busy += v / ticksPerSecond
			}
		}
	}
	return t
}

// FamilySeconds is the processor time of a process and of its descendants that live.
func FamilySeconds(pid int) float64 {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	parent, used := map[int]int{}, map[int]float64{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		id, ppid, seconds, ok := parseStat(string(text))
		if ok {
			parent[id], used[id] = ppid, seconds
		}
	}
	total := 0.0
	for id := range used {
		for up := id; up > 1; up = parent[up] {
			if up == pid {
				total += used[id]
				break
			}
		}
	}
	return total
}

// parseStat reads id, parent and processor time of /proc/PID/stat. The name in it may hold anything,
// so what follows is counted from the last parenthesis.
func parseStat(text string) (id, parent int, seconds float64, ok bool) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return 0, 0, 0, false
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 13 {
		return 0, 0, 0, false
	}
	id, err1 := strconv.Atoi(strings.TrimSpace(text[:open]))
	parent, err2 := strconv.Atoi(fields[1])
	user, err3 := strconv.ParseFloat(fields[11], 64)
	system, err4 := strconv.ParseFloat(fields[12], 64)
	ok = !slices.ContainsFunc([]error{err1, err2, err3, err4}, func(err error) bool { return err != nil })
	return id, parent, (user + system) / ticksPerSecond, ok
}

// Since is the share of the processors that programs of others used between two moments, and own the
// share that this program and all that it started did.
func (t CPUTimes) Since(before CPUTimes) (own, others float64) {
	all := t.all - before.all
	if all <= 0 {
		return 0, 0
	}
	own = (t.ours - before.ours) / all
	return own, max(0, (t.busy-before.busy)/all-own)
}
