package caddymodule

import (
	"math"
	"net/http"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

const (
	// autoscalePath is where the signal is.
	autoscalePath = "autoscale"
	// classUnnamed stands for the backends that have no GPU class, where a name is needed.
	classUnnamed = "unnamed"
	// utilisation is how busy slots are to be: what Knative's autoscaler aims at, so that there is room for what comes
	// while a backend starts.
	utilisation = 0.7
	// turnedAwayFor is how long it is told that nobody was there: who scales asks twice a minute, and requests wait for
	// seconds only.
	turnedAwayFor = time.Minute
)

// autoscale is what there is to do and who is there to do it, by pool and GPU class. It has names as keys, not lists, so
// that each number has a path which stays the same, whoever comes and goes. docs/autoscaling.md tells what for.
type autoscale struct {
	Pools map[string]poolScale `json:"pools"`
}

type poolScale struct {
	Work       int                   `json:"work"` // running + queued
	Running    int                   `json:"running"`
	Queued     int                   `json:"queued"`
	Unserved   float64               `json:"unserved"`    // of the queued, those that no backend can serve now
	TurnedAway int                   `json:"turned_away"` // requests of the last minute that no backend could serve, of those remembered
	OldestWait float64               `json:"oldest_wait_s"`
	Slots      int                   `json:"slots"`      // of the ready backends
	Saturation float64               `json:"saturation"` // work / slots; without slots as if there was one
	Ready      int                   `json:"ready"`      // backends that can be used
	Backends   int                   `json:"backends"`
	Classes    map[string]classScale `json:"classes"`
}

type classScale struct {
	Work            float64 `json:"work"` // running + queued
	Running         int     `json:"running"`
	Queued          float64 `json:"queued"` // those of the pool's that this class is predicted to serve
	Slots           int     `json:"slots"`
	Ready           int     `json:"ready"`
	Backends        int     `json:"backends"`
	SlotsPerBackend float64 `json:"slots_per_backend"`
	// Wanted is work / (slots_per_backend * 0.7), rounded up.
	Wanted int `json:"wanted_backends"`
}

// autoscaleOf reads the signal of some pools.
func autoscaleOf(some []*Pool) autoscale {
	out := autoscale{Pools: map[string]poolScale{}}
	for _, p := range some {
		out.Pools[p.name] = p.scale()
	}
	return out
}

func (p *Pool) scale() poolScale {
	s := p.dispatcher.Snapshot()
	out := poolScale{
		Work: s.Running + s.Queued, Running: s.Running, Queued: s.Queued, Unserved: s.Unserved, OldestWait: inSeconds(s.OldestWait),
		TurnedAway: p.memory.endedSince(time.Now().Add(-turnedAwayFor), scheduler.NoBackend.String()), Backends: len(s.Backends), Classes: map[string]classScale{},
	}
	slots := map[string]int{} // of all backends of the class
	for class, configured := range p.classes() {
		out.Classes[keyOf(class)] = classScale{SlotsPerBackend: float64(max(configured, 1))} // as long as there is none
	}
	for _, b := range s.Backends {
		c := out.Classes[keyOf(b.Class)]
		c.Backends++
		c.Running += b.Outstanding
		if b.Usable {
			c.Ready++
			c.Slots += b.Slots
			out.Ready++
			out.Slots += b.Slots
		}
		slots[keyOf(b.Class)] += b.Slots
		out.Classes[keyOf(b.Class)] = c
	}
	for class, queued := range s.Attributed {
		if class == "" {
			queued -= s.Unserved
		}
		if c, ok := out.Classes[keyOf(class)]; ok {
			c.Queued += max(0, queued)
			out.Classes[keyOf(class)] = c
		}
	}
	for key, c := range out.Classes {
		if c.Backends > 0 {
			c.SlotsPerBackend = float64(slots[key]) / float64(c.Backends)
		}
		c.Queued = math.Round(1000*c.Queued) / 1000
		c.Work = float64(c.Running) + c.Queued
		c.Wanted = int(math.Ceil(c.Work / (c.SlotsPerBackend * utilisation)))
		out.Classes[key] = c
	}
	out.Saturation = float64(out.Work) / float64(max(out.Slots, 1))
	return out
}

func keyOf(class string) string {
	if class == "" {
		return classUnnamed
	}
	return class
}

// classes are the GPU classes that the newest configuration has backends of, or a source of them, whether there are any
// now or not, each with the most slots that it gives to one; 0 where it leaves that open.
func (p *Pool) classes() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]int{}
	if p.current == nil {
		return out
	}
	for _, b := range p.current.backends {
		out[b.config.Class] = max(out[b.config.Class], b.config.Slots)
	}
	for _, d := range p.current.discoveries {
		out[d.config.Backend.Class] = max(out[d.config.Backend.Class], d.config.Backend.Slots)
	}
	return out
}

// serveAutoscale serves the signal of all pools.
func serveAutoscale(w http.ResponseWriter, r *http.Request) error {
	if err := onlyMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, autoscaleOf(allPools()))
	return nil
}
