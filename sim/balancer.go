package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim/peers"
)

// peerCheck is how long a peer's health check takes to notice that a server is gone, or back.
const peerCheck = 2 * time.Second

// balancer is a peer as the front of a simulation: a rule that picks a server for each job, and a queue
// for those rules that let jobs wait. Failures are not retried: a peer's client sees them.
type balancer struct {
	e     *engine
	rule  peers.Balancer
	pool  []peers.Server
	queue []*job
	// impatient: a server will hang, so requests are given up after a time, as every proxy does.
	impatient bool
}

func newBalancer(e *engine, p peers.Peer) *balancer {
	b := &balancer{e: e, impatient: slices.ContainsFunc(e.sc.Faults, func(f Fault) bool { return f.Becomes == Hung })}
	sample := e.sample()
	for i, c := range e.cards {
		b.pool = append(b.pool, peers.Server{Up: true, Slots: c.Slots, Rate: e.rate(i, sample)})
	}
	b.rule = p.New(b.pool, stream(e.sc.Seed, streamBalancer, 0))
	return b
}

func (b *balancer) arrive(j *job) {
	b.queue = append(b.queue, j)
	b.pick()
}

// pick sends what waits, in order, for as long as the rule has a server for it.
func (b *balancer) pick() {
	for len(b.queue) > 0 {
		j := b.queue[0]
		if !b.anyUp() {
			b.queue = b.queue[1:]
			b.e.settle(j, false)
			continue
		}
		server, ok := b.rule.Pick(time.Duration(b.e.now), b.pool)
		if !ok {
			return
		}
		b.queue = b.queue[1:]
		b.pool[server].Outstanding++
		w := &work{job: j}
		b.e.send(b.e.cards[server], w)
		if b.impatient {
			b.e.giveUp(w, waitsFor, "timed out")
		}
	}
}

func (b *balancer) anyUp() bool {
	for i := range b.pool {
		if b.pool[i].Up {
			return true
		}
	}
	return false
}

func (b *balancer) ended(w *work, how scheduler.Outcome) {
	b.pool[w.card.index].Outstanding--
	if how.Result == scheduler.Success {
		b.rule.Ended(time.Duration(b.e.now), w.card.index, b.e.now.Sub(w.sent), w.others)
	}
	b.e.settle(w.job, how.Result == scheduler.Success)
	b.pick()
}

func (b *balancer) changed(c *card) {
	b.e.agenda.at(b.e.now.Add(peerCheck), func() {
		b.pool[c.index].Up = c.condition != Dead
		b.pick()
	})
}

func (b *balancer) measure()                        {}
func (b *balancer) wake() (scheduler.Instant, bool) { return 0, false }
func (b *balancer) awake()                          {}
func (b *balancer) finds() bool                     { return false }
func (b *balancer) describe(*Result)                {}

// finish checks that jobs are neither made nor lost.
func (b *balancer) finish() []string {
	outstanding := len(b.queue)
	for i := range b.pool {
		outstanding += b.pool[i].Outstanding
	}
	if held := b.e.arrivals - b.e.settledJobs; held != outstanding {
		return []string{fmt.Sprintf("%d jobs have arrived and are not settled, %d wait or run", held, outstanding)}
	}
	return nil
}
