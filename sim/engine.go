package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// front is what stands between the clients and the cards: the scheduler, or a peer.
type front interface {
	// arrive takes a job in; settle is called for it once, now or later.
	arrive(j *job)
	// leave tells that the client of a job that is not settled has gone.
	leave(j *job)
	// ended tells that a card is done with a job, or that the job failed on it.
	ended(w *work, how scheduler.Outcome)
	// measure tells that what happens from now on is measured.
	measure()
	// changed tells that a card's condition is another.
	changed(c *card)
	// wake is when the front wants to be asked again, if nothing happens before; false: never.
	wake() (scheduler.Instant, bool)
	awake()
	// finds says whether it is the one that is to discover slots.
	finds() bool
	// finish is called at the end, and says what does not add up.
	finish() []string
	// describe adds to the result what the front alone knows.
	describe(r *Result)
}

// How failures look to who sent the job.
const (
	refusedAfter = time.Millisecond     // a connection that is refused
	failsAfter   = 5 * time.Millisecond // an error that is answered at once
	waitsFor     = 60 * time.Second     // peers and clients give up on a server that does not answer
)

// part is a share of a job's work.
type part struct {
	job   *job
	share float64
}

// parts are what is done already of the jobs that run.
func (e *engine) parts() (all []part) {
	for _, c := range e.cards {
		c.advance(e.now)
		for _, w := range c.running {
			if w.job.trial() {
				continue
			}
			if alone := e.alone(c.index, w.job); alone > 0 {
				all = append(all, part{w.job, 1 - max(0, w.left)/alone})
			}
		}
	}
	return all
}

// engine runs a scenario in virtual time.
type engine struct {
	*workload
	now    scheduler.Instant
	agenda agenda
	cards  []*card
	front  front
	source source

	began                 bool // what arrives is measured
	closed                bool // the first job after what is measured has arrived
	start                 scheduler.Instant
	end                   scheduler.Instant // of the window, when closed
	arrivals, settledJobs int
	pending               int    // measured jobs that are not settled
	measured              []*job // arrived
	done                  []*job // served between start and end
	before                []part // what was done at start of the jobs that ran then,
	beyond                []part // and at end
	failures              uint64 // drawn
}

func newEngine(sc *Scenario) *engine {
	e := &engine{workload: newWorkload(sc)}
	for i, told := range sc.Cards {
		e.cards = append(e.cards, &card{
			Card: told, index: i, condition: Healthy,
			gain: func(k int) float64 { return e.gain(i, k) },
		})
	}
	e.beginGone()
	e.source = newSource(e)
	return e
}

// run goes on until every measured job is settled.
func (e *engine) run() error {
	e.source.begin()
	for !e.over() {
		at, what := e.next()
		if what == nil {
			return fmt.Errorf("nothing happens any more after %v, and %d jobs are not served: what they wait for will never come", time.Duration(e.now), e.pending)
		}
		e.now = at
		what()
	}
	e.close()
	return nil
}

func (e *engine) over() bool { return e.source.exhausted() && e.pending == 0 }

// next is what happens next: a card's work ends, something on the agenda, the front wakes; in this
// order at one time.
func (e *engine) next() (at scheduler.Instant, what func()) {
	at = math.MaxInt64
	var first *work
	for _, c := range e.cards {
		if w, ends := c.next(); w != nil && ends < at {
			first, at = w, ends
		}
	}
	if first != nil {
		what = func() { e.complete(first) }
	}
	if when, ok := e.agenda.first(); ok && when < at {
		at = when
		what = func() { e.agenda.next()() }
	}
	if when, ok := e.front.wake(); ok && when < at {
		at, what = max(when, e.now), e.front.awake
	}
	return at, what
}

// complete ends a job that a card has done.
func (e *engine) complete(w *work) {
	w.card.drop(e.now, w)
	if !w.job.trial() {
		w.card.served++
	}
	w.job.waited = w.began.Sub(w.job.arrived).Seconds()
	e.front.ended(w, scheduler.Outcome{Result: scheduler.Success, Words: w.job.recorded == nil || w.job.recorded.Words, AudioSeconds: w.job.audio})
}

// send gives a job to a card, in whatever condition that is.
func (e *engine) send(c *card, w *work) {
	w.card, w.sent, w.left = c, e.now, e.alone(c.index, w.job)
	if !w.job.trial() {
		c.sent++
	}
	switch {
	case c.condition.away():
		e.fail(w, refusedAfter, scheduler.Outcome{Result: scheduler.Died, Unreached: true, Detail: "connection refused"})
	case c.condition == Busy:
		e.fail(w, refusedAfter, scheduler.Outcome{Result: scheduler.Busy, RetryAfter: c.fault.RetryAfter, Detail: "status 503"})
	case c.condition == Failing && e.fails(c):
		e.fail(w, failsAfter, scheduler.Outcome{Result: scheduler.Failed, Detail: "status 500"})
	default:
		if e.sc.Discover && len(c.running) == c.Slots && e.front.finds() {
			e.fail(w, refusedAfter, scheduler.Outcome{Result: scheduler.Busy, Detail: "status 503"})
			return
		}
		c.take(e.now, w)
	}
}

// fails says whether a failing card fails the next job.
func (e *engine) fails(c *card) bool {
	e.failures++
	return c.fault.Share == 0 || stream(e.sc.Seed, streamFailures, e.failures).Float64() < c.fault.Share
}

// fail ends a job that no slot took.
func (e *engine) fail(w *work, after time.Duration, how scheduler.Outcome) {
	e.agenda.at(e.now.Add(after), func() {
		if !w.ended {
			w.ended = true
			e.front.ended(w, how)
		}
	})
}

// giveUp ends a job if it still runs after a time.
func (e *engine) giveUp(w *work, after time.Duration, detail string) {
	e.agenda.at(e.now.Add(after), func() {
		if !w.ended {
			w.card.drop(e.now, w)
			e.front.ended(w, scheduler.Outcome{Result: scheduler.Failed, Detail: detail})
		}
	})
}

// strike changes a card's condition; what runs on one that dies dies with it.
func (e *engine) strike(f Fault) {
	for _, c := range e.cards {
		if c.Name != f.Card {
			continue
		}
		c.become(e.now, f)
		if f.Becomes == Dead {
			for len(c.running) > 0 {
				w := c.running[0]
				c.drop(e.now, w)
				e.front.ended(w, scheduler.Outcome{Result: scheduler.Died, Detail: "connection reset"})
			}
		}
		e.front.changed(c)
	}
}

// arriveNext has the next job arrive now.
func (e *engine) arriveNext() {
	j := e.job(e.arrivals)
	e.arrivals++
	j.arrived = e.now
	if j.number == e.sc.WarmUp {
		e.measure()
	}
	if e.counts(j) {
		e.measured = append(e.measured, j)
		e.pending++
	} else if e.began {
		e.close()
	}
	e.front.arrive(j)
	e.leaveLater(j)
}

// measure begins what is measured.
func (e *engine) measure() {
	e.began, e.start, e.before = true, e.now, e.parts()
	for _, c := range e.cards {
		c.advance(e.now)
		c.sent, c.served, c.busy = 0, 0, 0
	}
	e.front.measure()
	for _, f := range e.sc.Faults {
		e.agenda.at(e.now.Add(f.At), func() { e.strike(f) })
	}
}

// close ends the window over which throughput and the cards' work are counted.
func (e *engine) close() {
	if e.closed {
		return
	}
	e.closed, e.end, e.beyond = true, e.now, e.parts()
	for _, c := range e.cards {
		c.advance(e.now)
		c.counted = tally{c.sent, c.served, c.busy}
	}
}

// counts says whether a job that arrives now is measured.
func (e *engine) counts(j *job) bool {
	if !e.began {
		return false
	}
	if n := e.sc.measured(); n > 0 {
		return j.number < e.sc.WarmUp+n
	}
	return e.now < e.start.Add(e.sc.Duration)
}

// settle ends a job: its client has an answer, or an error.
func (e *engine) settle(j *job, served bool) {
	if j.settled {
		panic(fmt.Sprintf("sim: job %d was settled twice", j.number))
	}
	e.settledJobs++
	j.settled, j.served, j.took = true, served, e.now.Sub(j.arrived).Seconds()
	if e.began && !e.closed && served {
		e.done = append(e.done, j)
	}
	if e.isMeasured(j) {
		e.pending--
	}
	e.source.settled(j)
}

func (e *engine) isMeasured(j *job) bool {
	n := len(e.measured)
	return n > 0 && j.number >= e.measured[0].number && j.number <= e.measured[n-1].number
}
