package scheduler

import (
	"math"
	"time"
)

// The bounds of every Retry-After.
const (
	retryAfterMin = time.Second
	retryAfterMax = 60 * time.Second
)

// retryAfter rounds a time up to whole seconds within the bounds.
func retryAfter(d time.Duration) time.Duration {
	seconds := math.Ceil(d.Seconds())
	return min(max(time.Duration(seconds)*time.Second, retryAfterMin), retryAfterMax)
}

// admit refuses a job that arrived, could not be started at once, and for which there is no room or
// no hope of being in time.
func (s *Scheduler) admit(j *job) {
	if j == nil || !j.queued {
		return
	}
	queue := s.cfg.Queue
	if j.Tenant != 0 && queue.MaxPerTenant > 0 && j.tenant.waiting > queue.MaxPerTenant {
		wait, _, _ := s.expectedWait(j)
		s.settle(j, TenantFull, retryAfter(wait))
		return
	}
	if queue.MaxRequests > 0 && s.waiting > queue.MaxRequests {
		s.settle(j, QueueFull, s.drainHint(j))
		return
	}
	wait, service, ok := s.expectedWait(j)
	if !ok {
		return
	}
	if j.expected < 0 {
		j.expected = wait
	}
	switch {
	case queue.MaxWait > 0 && wait > queue.MaxWait:
		s.settle(j, WaitTooLong, retryAfter(wait-queue.MaxWait))
	case j.Deadline > 0 && s.now.Add(wait+service) > j.Deadline:
		s.settle(j, DeadlinePassed, retryAfter(wait))
	}
}

// missesDeadline says whether every candidate is expected to finish the job after its deadline; one
// whose speed is not known might make it.
func (s *Scheduler) missesDeadline(j *job, view *View) bool {
	for i := range view.Candidates {
		if c := &view.Candidates[i]; !c.Known || s.now.Add(c.FreeIn+view.Predicted(i)) <= j.Deadline {
			return false
		}
	}
	return true
}

// drain is the speed of a class's backends together.
type drain struct {
	rate    float64 // units of defaultCost per second
	free    float64 // seconds until the first slot is free
	fastest float64 // seconds per unit on the fastest
	known   bool    // some speed is
}

// expectedWait foretells how long a job that came last will wait, and its service time: what goes before
// it divided by the speed of the backends. False when no speed is known.
func (s *Scheduler) expectedWait(j *job) (wait, service time.Duration, ok bool) {
	own := s.drainOf(j.class, nil)
	if !own.known {
		return 0, 0, false
	}
	ahead := s.backlog(j.class, j.band, s.shareOf(j.tenant)) - defaultUnits(j.AudioSeconds)
	seconds := own.free + max(0, ahead)/own.rate
	return duration(min(seconds, math.MaxInt32)), duration(own.fastest * defaultUnits(j.AudioSeconds)), true
}

// backlog is what waits in a class and in those that share its backends, as far as these do it: bands above
// the one that is told whole, and of that band a share.
func (s *Scheduler) backlog(own *class, band int, share float64) (units float64) {
	for _, c := range s.classes {
		if c.waiting == 0 {
			continue
		}
		waiting := c.units[band] * share
		for above := range band {
			waiting += c.units[above]
		}
		if c == own {
			units += waiting
			continue
		}
		whole, shared := s.drainOf(c, nil), s.drainOf(c, own)
		if whole.known && shared.known {
			units += waiting * shared.rate / whole.rate
		}
	}
	return units
}

// shareOf is how much of what waits goes before a tenant's last job: its own jobs, and of each other tenant
// as much as that, since tenants take turns.
func (s *Scheduler) shareOf(t *tenant) float64 {
	if len(s.tenants) < 2 {
		return 1
	}
	all, before := 0.0, 0.0
	for _, o := range s.tenants {
		all += o.units
		before += min(o.units, t.units)
	}
	if all == 0 {
		return 1
	}
	return before / all
}

// drainOf adds up the backends that take jobs of a class, or of two classes alike. One whose speed is
// not known counts as the mean of those that are.
func (s *Scheduler) drainOf(c, shared *class) (d drain) {
	slots, unknown := 0, 0
	d.free, d.fastest = math.Inf(1), math.Inf(1)
	audio := referenceSeconds
	if c.waiting > 0 {
		audio = max(1, c.waitingUnits()/float64(c.waiting)-defaultUnits(0))
	}
	for _, b := range c.serving {
		if !b.takes(s.now) || shared != nil && !b.serves(shared) {
			continue
		}
		d.free = min(d.free, s.freeIn(b).Seconds())
		speed := s.speed(b, c.modelIndex)
		if !speed.Known() {
			unknown += b.slots()
			continue
		}
		perUnit := speed.Theta(b.slots()) * speed.Cost.Of(audio) / defaultUnits(audio)
		slots += b.slots()
		d.rate += float64(b.slots()) / perUnit
		d.fastest = min(d.fastest, speed.Theta(1)*speed.Cost.Of(audio)/defaultUnits(audio))
		d.known = true
	}
	if d.known {
		d.rate *= float64(slots+unknown) / float64(slots)
	}
	return d
}

// freeIn is how long it takes until a slot of the backend is free.
func (s *Scheduler) freeIn(b *backend) time.Duration {
	pause := max(0, b.health.pausedUntil.Sub(s.now))
	if len(b.running) < s.limit(b) {
		return pause
	}
	free := time.Duration(math.MaxInt64)
	for _, a := range b.running {
		free = min(free, a.remaining(s.now))
	}
	return max(free, pause)
}

// drainHint is the Retry-After of a job that waits and is refused because of others: until those are served.
func (s *Scheduler) drainHint(j *job) time.Duration {
	d := s.drainOf(j.class, nil)
	if !d.known {
		return retryAfterMin
	}
	others := max(0, s.backlog(j.class, batch, 1)-defaultUnits(j.AudioSeconds))
	return retryAfter(duration(min(d.free+others/d.rate, math.MaxInt32)))
}
