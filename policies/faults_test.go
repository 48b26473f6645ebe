package policies_test

import (
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// faulty runs a closed loop of 16 clients on 4 A10G and 4 H100, one of which breaks after 10 s for the rest
// of the 4000 jobs. It returns the world and the attempts that the broken one got after that.
func faulty(t *testing.T, f fault, seed uint64) (w *world, picks int) {
	w = newWorld(t, "latency_aware", seed, cards(4, a10g, 4, h100))
	broken := w.gpus[7]
	sent, before := 0, 0
	w.settled = func(scheduler.JobID) {
		if w.now > scheduler.Instant(10*time.Second) && broken.fault == healthy {
			broken.fault, before = f, broken.picks
		}
		if sent < 4000 {
			sent++
			w.arrive(w.now, length(w.rnd))
		}
	}
	for range 16 {
		w.settled(0)
	}
	w.run()
	if w.lost > 0 {
		t.Errorf("%d jobs lost", w.lost)
	}
	return w, broken.picks - before
}

func TestFaultsCostNobodyATranscript(t *testing.T) {
	for name, c := range map[string]struct {
		fault fault
		share float64 // of the attempts, at most
	}{
		"black hole": {blackHole, 0.01}, "hung": {hung, 0.01}, "gray": {gray, 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				sound, _ := faulty(t, healthy, seed+1)
				w, picks := faulty(t, c.fault, seed+1)
				share := float64(picks) / 4000
				t.Logf("%d attempts went there (%.2f %%), mean %.2f s and p99 %.2f s against %.2f s and %.2f s without the fault",
					picks, 100*share, mean(w.took), quantile(w.took, 0.99), mean(sound.took), quantile(sound.took, 0.99))
				if share > c.share {
					t.Errorf("%d of 4000 attempts went to the broken backend", picks)
				}
			}
		})
	}
}
