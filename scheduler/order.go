package scheduler

import (
	"container/heap"
	"time"
)

// The order of the queue. Within a tenant jobs go by rank, which is the time of arrival plus what their
// band is worth. Between tenants goes first who was served least, so that one who sends a flood delays
// itself; but not across bands, unless the lower band has waited for long enough:
//
//	level of the band, turn of the tenant, rank, order of arrival
//
// Without priorities and tenants this is the order of arrival. Turns are the start tags of start-time fair
// queueing (Goyal, Vin and Cheng, SIGCOMM 1996) in seconds of service, which shares as deficit round robin
// does and has no round: jobs that stay behind, because they wait for a certain backend, would have to
// give back the turn that they did not use.

// bandWorth is what a band is worth in time of waiting.
const bandWorth = 30 * time.Second

// The bands, most urgent first.
const (
	interactive = iota
	ordinary
	batch
	bands
)

func bandOf(p Priority) int {
	switch p {
	case Interactive:
		return interactive
	case Batch:
		return batch
	default:
		return ordinary
	}
}

// rankOf orders the jobs of one tenant.
func rankOf(arrived Instant, band int) Instant {
	return arrived.Add(time.Duration(band-ordinary) * bandWorth)
}

// lift sets the levels of a class's bands. A band's level is its place, less one for each bandWorth that
// its eldest job has waited: from then on its tenants share with those of the band above.
func (s *Scheduler) lift(c *class) {
	levels := plainLevels
	if s.bandsWaiting() > 1 {
		for b := range levels {
			if c.waitingIn[b] > 0 {
				lifted := b - int(s.now.Sub(c.eldest(b))/bandWorth)
				levels[b] = max(lifted, 0)
			}
		}
	}
	if levels == c.levels {
		return
	}
	c.levels = levels
	for _, f := range c.flows {
		f.key = f.keyNow()
	}
	heap.Init(&c.flows)
}

// plainLevels are those of bands whose jobs have not waited for long.
var plainLevels = [bands]int{interactive, ordinary, batch}

// bandsWaiting is how many bands have jobs that wait.
func (s *Scheduler) bandsWaiting() (n int) {
	for _, waiting := range s.waitingIn {
		if waiting > 0 {
			n++
		}
	}
	return n
}

// eldest is the arrival of the first job of a band. Requires: it has one.
func (c *class) eldest(band int) Instant {
	eldest := never
	for _, f := range c.flows {
		if j := f.jobs[band].first; j != nil {
			eldest = min(eldest, j.arrived)
		}
	}
	return eldest
}
