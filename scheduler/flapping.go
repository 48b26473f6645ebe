package scheduler

import (
	"fmt"
	"time"
)

// fall is what is remembered of a backend's going down, as its health check tells it. That takes a backend out
// without its breaker, and lets it back in at once, as is right for one that was restarted. One that comes and
// goes would catch a few jobs each time, for ever.
type fall struct {
	before bool    // it has gone down with nothing running there, so that it was no busy server's late answer
	rose   Instant // when it last came up after it was down
	again  bool    // the last time was soon after it came up; until its breaker closes
}

// fall notes that a backend which was up goes down. When it had not been well for long since it last came up,
// it flaps, and is left alone as for any other failure: longer each time. While attempts run there its health
// check may just starve, which says nothing.
func (s *Scheduler) fall(b *backend) {
	if len(b.running) > 0 {
		return
	}
	f, m := &b.health.fell, b.health.breaker
	well := s.now.Sub(max(f.rose, Instant(m.ClosedAt())))
	f.again = f.before && well < m.SoundFor()
	f.before = true
	if f.again {
		s.trip(b, Flapping, fmt.Sprintf("went down again %v after it came up", well.Round(100*time.Millisecond)))
	}
}
