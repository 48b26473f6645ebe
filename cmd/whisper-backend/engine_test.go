package main

import (
	"os"
	"runtime"
	"strconv"
	"testing"
)

func TestParallelism(t *testing.T) {
	for _, c := range []struct {
		name                   string
		slots, threads, cores  int
		class, model           string
		wantSlots, wantThreads int
	}{
		{"a small CPU", 0, 0, 2, "CPU", "base", 1, 2},
		{"a desktop", 0, 0, 8, "CPU", "base", 1, 8},
		{"a large CPU", 0, 0, 32, "cpu", "base", 4, 8},
		{"a huge CPU", 0, 0, 192, "CPU", "base", 8, 8},
		{"an unknown GPU", 0, 0, 16, "", "base", 1, 8},
		{"a GPU without a law", 0, 0, 16, "L4", "base", 1, 8},
		{"a T4 with large", 0, 0, 16, "T4", "large-v3", 2, 8},
		{"an A10G with large", 0, 0, 16, "A10G", "large-v3", 2, 8},
		{"an H100 with large", 0, 0, 16, "H100", "large-v3", 5, 3},
		{"an H100 with few cores", 0, 0, 2, "H100", "large-v3", 2, 1},
		{"slots given", 4, 0, 8, "CPU", "base", 4, 2},
		{"threads given", 0, 4, 8, "A10G", "base", 2, 4},
		{"both given, more than there is", 4, 4, 2, "CPU", "base", 4, 4},
		{"more slots than cores", 4, 0, 2, "CPU", "base", 4, 1},
	} {
		slots, threads := parallelism(c.slots, c.threads, c.cores, c.class, c.model)
		if slots != c.wantSlots || threads != c.wantThreads {
			t.Errorf("%s: %d slots of %d threads, want %d of %d", c.name, slots, threads, c.wantSlots, c.wantThreads)
		}
		if (c.slots == 0 || c.threads == 0) && c.slots <= c.cores && slots*threads > c.cores {
			t.Errorf("%s: %d x %d is more than %d cores", c.name, slots, threads, c.cores)
		}
	}
}

func TestSlotsAndThreads(t *testing.T) {
	for _, c := range []struct {
		o                    options
		cores                int
		least, most, threads int
	}{
		{options{}, 16, 2, 2, 8},
		{options{slots: 4}, 16, 4, 4, 4},
		{options{maxSlots: 8}, 16, 1, 8, 2},
		{options{minSlots: 2, maxSlots: 8}, 16, 2, 8, 2},
		{options{minSlots: 2, maxSlots: 8, threads: 1}, 16, 2, 8, 1},
	} {
		least, most, threads := c.o.slotsAndThreads(c.cores, "CPU", "base")
		if least != c.least || most != c.most || threads != c.threads {
			t.Errorf("%+v: %d to %d slots of %d threads, want %d to %d of %d", c.o, least, most, threads, c.least, c.most, c.threads)
		}
	}
}

// Hyper-threads count once, and only those that the process may run on.
func TestPhysicalCores(t *testing.T) {
	siblings := func(of ...string) func(string) ([]byte, error) {
		return func(path string) ([]byte, error) {
			if path == "/proc/self/status" {
				return []byte("Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t" + of[0] + "\nMems_allowed:\t1\n"), nil
			}
			for cpu, list := range of[1:] {
				if path == "/sys/devices/system/cpu/cpu"+strconv.Itoa(cpu)+"/topology/thread_siblings_list" {
					return []byte(list + "\n"), nil
				}
			}
			return nil, os.ErrNotExist
		}
	}
	for want, read := range map[int]func(string) ([]byte, error){
		2: siblings("0-3", "0-1", "0-1", "2-3", "2-3"),
		4: siblings("0-3", "0", "1", "2", "3"),
		1: siblings("0,2", "0,2", "1,3", "0,2", "1,3"),
		0: siblings("0-7", "0"), // not told of all: not known
	} {
		if got := physicalCores(read); got != want {
			t.Errorf("%d cores, want %d", got, want)
		}
	}
	if n := coresUsable(); n < 1 || n > runtime.NumCPU() {
		t.Errorf("this machine: %d cores", n)
	}
}
