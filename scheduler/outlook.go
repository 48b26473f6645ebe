package scheduler

import (
	"math"
	"time"

	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

// line is the predicted service time of a member as a function of the size, in nanoseconds.
type line struct{ fixed, perSecond, perWindow float64 }

// size is what of a job counts for its cost.
type size struct{ seconds, windows float64 }

func sizeOf(audioSeconds float64) size {
	return size{audioSeconds, estimator.Windows(audioSeconds)}
}

func (l *line) at(x size) time.Duration { return time.Duration(l.in(x)) }

func (l *line) in(x size) float64 { return l.fixed + l.perSecond*x.seconds + l.perWindow*x.windows }

// lane is a line that begins when the member is free: when a job would be done there. The lanes of free
// members and of busy ones lie apart, so that the innermost loop of all has one thing to do.
type lane struct {
	line
	member int
}

// first is the lane that ends first. Four are compared at a time, and looked at one by one only where one of
// them is better than what came before, which is seldom: this is the innermost loop of all.
func first(lanes []lane, x size) (c Completion) {
	best, at := math.Inf(1), -1
	i := 0
	for ; i+4 <= len(lanes); i += 4 {
		four := lanes[i : i+4 : i+4]
		a, b, c, d := four[0].in(x), four[1].in(x), four[2].in(x), four[3].in(x)
		if a >= best && b >= best && c >= best && d >= best {
			continue
		}
		for j, in := range [...]float64{a, b, c, d} {
			if in < best {
				best, at = in, i+j
			}
		}
	}
	for ; i < len(lanes); i++ {
		if in := lanes[i].in(x); in < best {
			best, at = in, i
		}
	}
	if at < 0 {
		return Completion{}
	}
	return Completion{Index: lanes[at].member, In: time.Duration(best), OK: true}
}

// outlook finds who would be done first with a job. Requires: the class is plain.
func (c *class) outlook(x size) Outlook {
	o := Outlook{Best: first(c.busy, x), Idle: first(c.free, x), Known: true}
	if o.Idle.OK && (!o.Best.OK || o.Idle.In <= o.Best.In) {
		o.Best = o.Idle
	}
	return o
}

// direct puts the lane of a member where it belongs.
func (c *class) direct(i int) {
	m := &c.members[i]
	idle := m.backend.idle > 0
	if m.lane >= 0 && m.free != idle {
		c.takeOut(m)
	}
	lanes := c.lanes(idle)
	if m.lane < 0 {
		m.free, m.lane = idle, len(*lanes)
		*lanes = append(*lanes, lane{})
	}
	l := lane{c.lines[i], i}
	l.fixed += float64(m.backend.freeIn)
	(*lanes)[m.lane] = l
}

// takeOut removes the lane of a member; the last one takes its place.
func (c *class) takeOut(m *member) {
	lanes := c.lanes(m.free)
	last := len(*lanes) - 1
	moved := (*lanes)[last]
	(*lanes)[m.lane] = moved
	c.members[moved.member].lane = m.lane
	*lanes = (*lanes)[:last]
	m.lane = -1
}

func (c *class) lanes(free bool) *[]lane {
	if free {
		return &c.free
	}
	return &c.busy
}
