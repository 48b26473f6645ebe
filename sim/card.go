package sim

import (
	"math"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// card is a GPU at work. As a whisper server it takes whatever it is sent, works on as many jobs as it
// has slots and keeps the rest in line inside; whoever stands before it sees only when each ends.
type card struct {
	Card
	index     int
	gain      func(k int) float64
	condition Condition
	factor    float64 // with Slow
	fault     Fault   // that made it so
	running   []*work
	inside    []*work           // in line
	since     scheduler.Instant // when what is left was last brought up to date

	tally
	counted tally // of the window
}

// tally is what a card has done.
type tally struct {
	sent   int // jobs that were sent to it
	served int
	busy   float64 // seconds of slots at work
}

// work is a job on a card.
type work struct {
	job    *job
	card   *card
	sent   scheduler.Instant
	began  scheduler.Instant // when a slot took it
	others int               // that the card had when it was sent
	left   float64           // seconds that it would take alone on the healthy card
	ended  bool

	attempt   scheduler.AttemptID // of the scheduler
	predicted time.Duration       // by the scheduler
	reason    scheduler.Reason
}

// pace is what a running job gets done in a second.
func (c *card) pace() float64 {
	if c.condition == Hung || len(c.running) == 0 {
		return 0
	}
	p := c.gain(len(c.running)) / float64(len(c.running))
	if c.condition == Slow {
		p /= c.factor
	}
	return p
}

// advance brings what is left up to date.
func (c *card) advance(now scheduler.Instant) {
	seconds := now.Sub(c.since).Seconds()
	c.since = now
	if len(c.running) == 0 || seconds == 0 {
		return
	}
	done := seconds * c.pace()
	for _, w := range c.running {
		w.left -= done
	}
	c.busy += seconds * float64(len(c.running))
}

// take has the card work on a job, or put it in line.
func (c *card) take(now scheduler.Instant, w *work) {
	c.advance(now)
	w.others = len(c.running) + len(c.inside)
	if len(c.running) == c.Slots {
		c.inside = append(c.inside, w)
		return
	}
	w.began = now
	c.running = append(c.running, w)
}

// next is the job that ends first, and when; nil when none will.
func (c *card) next() (*work, scheduler.Instant) {
	pace := c.pace()
	if pace == 0 {
		return nil, math.MaxInt64
	}
	first := c.running[0]
	for _, w := range c.running[1:] {
		if w.left < first.left {
			first = w
		}
	}
	return first, c.since.Add(time.Duration(math.Ceil(max(0, first.left) / pace * 1e9)))
}

// drop takes a job off the card, done or not, and starts the next in line.
func (c *card) drop(now scheduler.Instant, w *work) {
	c.advance(now)
	w.ended = true
	if i := slices.Index(c.inside, w); i >= 0 {
		c.inside = slices.Delete(c.inside, i, i+1)
		return
	}
	i := slices.Index(c.running, w)
	if i < 0 { // no slot ever took it
		return
	}
	c.running = slices.Delete(c.running, i, i+1)
	if len(c.inside) > 0 {
		first := c.inside[0]
		c.inside = slices.Delete(c.inside, 0, 1)
		first.began = now
		c.running = append(c.running, first)
	}
}

// become changes how the card is.
func (c *card) become(now scheduler.Instant, f Fault) {
	c.advance(now)
	c.condition, c.factor, c.fault = f.Becomes, f.Factor, f
}
