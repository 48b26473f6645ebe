package scheduler

// A backend that comes back, or is new while there is work, is cold: its model may not be on the card yet, and
// whether it is well has not shown. So it starts with one job at a time, short ones first, and is taken for slower
// than it is.
const (
	slowStartAudioMax = 30.0 // seconds of audio of a short job
	// unprovenMax jobs are on a backend at a time that has not answered any yet: it may hang, with all that
	// it was given.
	unprovenMax = 2
)

// slowStart is how much slower than learned the backend is taken for, by the jobs that it still has to do.
var slowStart = [...]float64{1, 1.1, 1.25, 1.5}

// slowStartJobs is how many jobs it lasts.
const slowStartJobs = len(slowStart) - 1

// warmUp begins a slow start.
func (b *backend) warmUp() { b.cold = slowStartJobs }

// handicap is how much slower than learned placement takes the backend for.
func (b *backend) handicap(now Instant) float64 {
	return slowStart[b.cold] * b.health.slow.penaltyAt(now)
}

// limit is how many jobs may run there at present:
//
//  1. One during slow start.
//  2. A few while it has not answered any.
//  3. No more than run while it may hang, unless nobody else is there.
func (s *Scheduler) limit(b *backend) int {
	n := b.slots()
	if b.cold > 0 {
		n = 1 // (1)
	} else if !b.proven {
		n = min(n, unprovenMax) // (2)
	}
	if len(b.running) > 0 && len(b.running) < n && b.stalled(s.now) && s.hasPeer(b) { // (3)
		n = len(b.running)
	}
	return n
}

// hasPeer says whether for all that a backend does there is another.
func (s *Scheduler) hasPeer(b *backend) bool {
	for _, c := range s.classes {
		mine, others := false, false
		for _, o := range c.serving {
			mine, others = mine || o == b, others || o != b && o.sound(s.now)
		}
		if mine && !others {
			return false
		}
	}
	return true
}

// succeeded follows an attempt that has gone well.
func (b *backend) succeeded(now Instant) {
	b.proven = true
	b.cold = max(0, b.cold-1)
	w := &b.health.slow
	w.lastGood, w.any, w.givenUp = now, true, 0
}

// isShort says whether a job is short enough for a backend that is not trusted yet.
func (j *job) isShort() bool { return j.AudioSeconds <= slowStartAudioMax }

// mayWarm says whether a job may go to a member during its slow start: a long one only where no short one waits,
// or nobody else is there.
func (c *class) mayWarm(j *job) bool {
	if j.isShort() || c.shortOnes == 0 {
		return true
	}
	for i := range c.members {
		if m := &c.members[i]; !m.probing && m.backend.cold == 0 {
			return false
		}
	}
	return true
}
