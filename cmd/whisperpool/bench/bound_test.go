package bench

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The bounds of a closed loop over 4 A10G (0.08 s + 1/40 of the audio) and 4 H100 (0.05 s + 1/160),
// lengths lognormal with median 12 s and sigma 1.2, that a model of its own has calculated: 0.204 s
// for 4 clients, 0.298 for 8, 0.596 for 16, 2.385 for 64.
func TestBoundsOfAClosedLoop(t *testing.T) {
	l := mustLengths(t, "lognormal:12,1.2,3600")
	rng := rand.New(rand.NewPCG(1, 1))
	a10g, h100 := Kind{Slots: 4}, Kind{Slots: 4}
	for range 200_000 {
		x := l.next(rng)
		a10g.Seconds = append(a10g.Seconds, 0.08+x/40)
		h100.Seconds = append(h100.Seconds, 0.05+x/160)
	}
	for clients, want := range map[int]float64{4: 0.204, 8: 0.298, 16: 0.596, 64: 2.385} {
		for _, kinds := range [][]Kind{{a10g, h100}, {h100, a10g}} {
			if b := Bounds(Load{Clients: clients, Requests: 1}, kinds, nil); math.Abs(b.Mean/want-1) > 0.015 {
				t.Errorf("%d clients: %v (%s), want %v", clients, b.Mean, b.What, want)
			}
		}
	}
}

// A burst of equal jobs, with the slots' finish times counted one by one.
func TestBoundOfABurst(t *testing.T) {
	kinds := []Kind{{Slots: 2, Seconds: slices.Repeat([]float64{0.6}, 7)}, {Slots: 1, Seconds: slices.Repeat([]float64{0.13}, 7)}}
	b := Bounds(Load{Burst: 7}, kinds, nil)
	// The fast slot ends at .13, .26, .39, .52, .65, .78; the slow ones at .6, .6.
	if want := []float64{.13, .26, .39, .52, .6, .6, .65}; !closeTo(b.sorted, want) || math.Abs(b.Mean-mean(want)) > 1e-12 || b.P95 != b.sorted[6] {
		t.Errorf("%+v, want %v", b, want)
	}
	if b := Bounds(Load{Burst: 1}, []Kind{{Slots: 3, Seconds: []float64{2}}}, nil); b.Mean != 2 {
		t.Errorf("one job: %+v", b)
	}
}

func closeTo(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) < 1e-9 })
}

// One kind of slot, so that prices do not matter: the shortest remaining work first, by hand.
func TestBoundOfAnOpenLoop(t *testing.T) {
	kinds := []Kind{{Slots: 2, Seconds: []float64{4, 1, 1}}}
	// At twice the speed: job 0 runs from 0, has 1 s left at 1, when job 1 (0.5 s) comes and goes
	// first; job 2 comes at 1.25 and waits for 1.5, runs till 2, then job 0 till 3.
	b := Bounds(Load{Rate: 1, Requests: 3}, kinds, []time.Duration{0, time.Second, 1250 * time.Millisecond})
	// 3, 0.5 and 0.75 make less than each alone does: 4, 1 and 1.
	if math.Abs(b.Mean-2) > 1e-12 || !strings.Contains(b.What, "alone") {
		t.Errorf("%+v, want 2 s", b)
	}
	kinds[0].Slots = 1
	// Alone: 0..1, then job 1 till 2, job 2 till 3, job 0 till 6.
	b = Bounds(Load{Rate: 1, Requests: 3}, kinds, []time.Duration{0, time.Second, 1250 * time.Millisecond})
	if want := (6 + 1 + 1.75) / 3; math.Abs(b.Mean-want) > 1e-12 || !strings.Contains(b.What, "one server") {
		t.Errorf("%+v, want %v", b, want)
	}
}

// No schedule that a simple list scheduler finds for unequal jobs is better than the bound.
func TestNoScheduleBeatsTheBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		n := 1 + rng.IntN(40)
		kinds := []Kind{{Slots: 1 + rng.IntN(3)}, {Slots: 1 + rng.IntN(3)}}
		for range n {
			x := rng.ExpFloat64()
			kinds[0].Seconds = append(kinds[0].Seconds, 0.1+4*x)
			kinds[1].Seconds = append(kinds[1].Seconds, 0.3+x)
		}
		b := Bounds(Load{Burst: n}, kinds, nil)
		if got := listSchedule(kinds); got < b.Mean-1e-9 {
			t.Fatalf("a schedule with a mean of %v, the bound is %v", got, b.Mean)
		}
	}
}

// listSchedule places the shortest job first, each where it ends first; the mean of the ends.
func listSchedule(kinds []Kind) float64 {
	jobs := make([]int, len(kinds[0].Seconds))
	for i := range jobs {
		jobs[i] = i
	}
	slices.SortFunc(jobs, func(a, b int) int { return int(1e9 * (kinds[1].Seconds[a] - kinds[1].Seconds[b])) })
	free := make([][]float64, len(kinds))
	for i, k := range kinds {
		free[i] = make([]float64, k.Slots)
	}
	sum := 0.0
	for _, j := range jobs {
		best, kind, slot := math.Inf(1), 0, 0
		for i, k := range kinds {
			for s, at := range free[i] {
				if at+k.Seconds[j] < best {
					best, kind, slot = at+k.Seconds[j], i, s
				}
			}
		}
		free[kind][slot] = best
		sum += best
	}
	return sum / float64(len(jobs))
}

func TestPools(t *testing.T) {
	write := func(pool string) string {
		path := filepath.Join(t.TempDir(), "pool.json")
		text := `{"model": "large-v3", "pool": ` + pool + `, "load": {"burst": 1}, "audio": {"fixed_s": 5}}`
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	p, err := ReadPool(write(`[{"class": "T4", "count": 2}, {"name": "own", "law": {"fixed_s": 0.2, "speed": 25, "outliers": {"share": 0.1, "factor": 3}}, "slots": 3},
		{"name": "shared", "law": {"fixed_s": 1, "speed": 1000}, "slots": 4, "gain": 2}]`), 2)
	if err != nil || len(p.cards) != 4 {
		t.Fatalf("%+v, %v", p, err)
	}
	for i, want := range map[int]float64{
		0: 0.629 / 2,             // 60 ms + 1.1 * 1.105 * (230 + 110/6 * 13) ms
		2: (0.2 + 0.2) * 1.2 / 2, // a tenth takes three times as long
		3: 1.005 * 2 / 2,         // four slots do the work of two
	} {
		if got := p.seconds(p.cards[i], 5); math.Abs(got/want-1) > 0.005 {
			t.Errorf("5 s take card %d %v s, want %v", i, got, want)
		}
	}
	samples := []Sample{{Job: Job{Index: 1, Seconds: 5}}, {Job: Job{Index: 0, Seconds: 5}}, {Outcome: Outcome{Class: Abandoned}}}
	if b := p.Bound(Load{Burst: 3}, samples); math.Abs(b.Mean-0.24) > 1e-9 || !strings.Contains(b.What, "exact") {
		t.Errorf("%+v", b)
	}
	if b := p.Bound(Load{Burst: 3}, samples[2:]); b != nil {
		t.Errorf("a bound of nothing: %+v", b)
	}
	for _, bad := range []string{`[]`, `[{"class": "L4"}]`, `[{"count": "two"}]`, `[`} {
		if _, err := ReadPool(write(bad), 1); err == nil || !strings.Contains(err.Error(), "pool.json") {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}
