package stage

import (
	"maps"
	"math"
	"os"
	"strings"
	"testing"
)

func TestProcessorTimes(t *testing.T) {
	if _, _, _, ok := parseStat("12 (a"); ok {
		t.Error("half a line is read")
	}
	id, parent, seconds, ok := parseStat("12 (a (b) c) S 7 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0")
	if !ok || id != 12 || parent != 7 || seconds != 2 {
		t.Errorf("%d %d %v %v", id, parent, seconds, ok)
	}
	if _, err := os.Stat("/proc/stat"); err != nil {
		t.Skip("no /proc here")
	}
	before := CPUNow()
	for x := 0.0; CPUNow().ours < before.ours+0.05; x++ { // until the system has counted work
		_ = math.Sqrt(x)
	}
	own, others := CPUNow().Since(before)
	if own <= 0 || own > 1.01 || others < 0 || others > 1 {
		t.Errorf("own %v, others %v", own, others)
	}
	if CPUNow().ours > before.all {
		t.Error("more than there is")
	}
}

func TestAProgramThatEndsSaysWhy(t *testing.T) {
	ps := &Processes{Dir: t.TempDir()}
	defer ps.Stop()
	p, err := ps.Start("sh", "/bin/sh", "-c", "echo no such card; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(t.Context(), "http://127.0.0.1:1/"); err == nil || !strings.Contains(err.Error(), "no such card") {
		t.Errorf("%v", err)
	}
}

func TestOnlyProcessorsThatMayBeUsedCount(t *testing.T) {
	allowed := allowedProcessors("Name:\tx\nCpus_allowed:\t0d\nCpus_allowed_list:\t0,2-3\n")
	if !maps.Equal(allowed, map[int]bool{0: true, 2: true, 3: true}) {
		t.Fatalf("0,2-3 was read as %v", allowed)
	}
	const stat = "cpu  900 0 900 900 0 0 0 0 0 0\ncpu0 100 0 50 350 0 0 0 0 0 0\ncpu1 500 0 0 0 0 0 0 0 0 0\n" +
		"cpu2 0 100 0 300 100 0 0 0 7 7\nintr 1 2 3\n"
	if got := processorTimes(stat, allowed); got.all != 10 || got.busy != 2.5 {
		t.Errorf("%.2f s of which %.2f busy, want 10 and 2.5 without those of cpu1", got.all, got.busy)
	}
}

func TestKilobytes(t *testing.T) {
	if v, err := Kilobytes("VmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n", "VmRSS:"); v != 1024 || err != nil {
		t.Errorf("%v, %v", v, err)
	}
}
