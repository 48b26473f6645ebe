package scheduler

import (
	"math"
	"time"
)

// How many jobs side by side are useful is discovered where it is neither configured nor reported, and the
// configuration allows it: from 1 upward, one step at a time, while throughput rises.
const (
	// discoverJobs that ran while every slot was taken tell the throughput at a number of slots, compared with
	// as many that ran alone. With a spread of 0.2 it is then known within 5 %.
	discoverJobs = 20
	// gainWorth is the share of what more slots could gain at best that they have to: below it they make
	// jobs slower and hardly more.
	gainWorth = 0.25
	// trialMax is how long more slots than are proven are kept while there is not enough to do to judge them.
	trialMax = time.Minute
	// holdFirst is the time between a trial that failed and the next; it doubles up to holdMax.
	holdFirst = 5 * time.Minute
	holdMax   = time.Hour
	// refusedFor is how long a number of slots is not tried again that the backend has refused. It may have
	// done so because of somebody else's jobs.
	refusedFor = 10 * time.Minute
	// discoveredMax bounds what is tried.
	discoveredMax = 64
)

// discovery is what is known of a backend's useful slots.
type discovery struct {
	proven int     // slots that are worth having
	trial  int     // slots that are tried; 0: none
	since  Instant // the last job that was measured, or the trial's begin
	before float64 // the log of the throughput with the proven ones, when the trial began

	jobs int     // measured with the present slots
	sum  float64 // of the logs of their slowdown
	hold time.Duration
	next Instant // no trial before

	refused      int // the backend has refused so many side by side; 0: none
	refusedUntil Instant
}

// slots is how many jobs may run side by side.
func (d *discovery) slots() int {
	if d.trial > 0 {
		return d.trial
	}
	return max(d.proven, 1)
}

// discovers says whether the number of a backend's slots is its own finding.
func (b *backend) discovers() bool { return b.Discover && b.Slots == 0 && b.load.Slots <= 0 }

// discover takes in a job that succeeded on a backend: how long it took compared with one that runs alone, and
// how many ran side by side meanwhile, on average. Slots are judged by jobs during which all were taken.
//
//  1. Few jobs were measured so far: that is all.
//  2. More slots are tried, and throughput has risen as it should: they are proven.
//  3. They are tried in vain: back to those that are proven, and no trial for a while.
//  4. None are tried, and somebody waits: more are.
func (s *Scheduler) discover(b *backend, slowdown, occupancy float64) {
	d := &b.discovery
	if !b.discovers() || occupancy < float64(d.slots())-0.25 {
		return
	}
	d.since = s.now
	d.jobs, d.sum = d.jobs+1, d.sum+math.Log(slowdown)
	if d.jobs < discoverJobs { // (1)
		return
	}
	throughput := math.Log(float64(d.slots())) - d.sum/float64(d.jobs)
	if d.trial > 0 {
		if throughput-d.before < gainWorth*math.Log(float64(d.trial)/float64(d.slotsProven())) { // (3)
			d.hold = min(max(2*d.hold, holdFirst), holdMax)
			d.next = s.now.Add(d.hold)
			d.back()
			return
		}
		d.proven, d.trial, d.hold = d.trial, 0, 0 // (2)
	}
	if s.now >= d.next && s.wanted(b) { // (4)
		d.try(s.now, throughput)
		return
	}
	d.measureAgain()
}

func (d *discovery) slotsProven() int { return max(d.proven, 1) }

// try begins a trial of half as many slots more, at least one. Requires: none is under way.
func (d *discovery) try(now Instant, throughput float64) {
	proven := d.slotsProven()
	most := discoveredMax
	if d.refused > 0 && now < d.refusedUntil {
		most = d.refused - 1
	}
	d.measureAgain()
	if more := min(proven+max(1, proven/2), most); more > proven {
		d.trial, d.since, d.before = more, now, throughput
	}
}

// back ends a trial.
func (d *discovery) back() {
	d.trial = 0
	d.measureAgain()
}

func (d *discovery) measureAgain() { d.jobs, d.sum = 0, 0 }

// refused takes in that the backend turned away a job that has just ended, and says whether that tells how
// many jobs it takes side by side.
func (b *backend) refused(now Instant) bool {
	d, side := &b.discovery, len(b.running)+1
	if !b.discovers() || side < 2 { // alone, it was not for our jobs
		return false
	}
	d.refused, d.refusedUntil = side, now.Add(refusedFor)
	d.proven = min(d.slotsProven(), side-1)
	if d.trial >= side {
		d.trial = min(d.trial, side-1)
		if d.trial <= d.proven {
			d.back()
		}
	}
	return true
}

// lapse ends a trial that is not judged, since not all slots are taken.
func (b *backend) lapse(now Instant) {
	if d := &b.discovery; d.trial > len(b.running) && now.Sub(d.since) >= trialMax {
		d.back()
	}
}

// wanted says whether a job waits that could go to a backend.
func (s *Scheduler) wanted(b *backend) bool {
	for _, c := range s.classes {
		if c.waiting > 0 && b.serves(c) {
			return true
		}
	}
	return false
}
