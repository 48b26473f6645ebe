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
	e    *engine
	rule peers.Balancer
	pool []peers.Server
	// queues are by class of jobs, of which there is one but in recordings: others' rules know no models, so
	// whoever has several puts a balancer before the servers of each. able are the cards that do a class.
	queues  [][]*job
	able    [][]bool
	seen    []peers.Server // scratch: the pool as a class sees it
	blocked []bool         // scratch: there is no server now for the first job of the class
	// impatient: a server will hang, so requests are given up after a time, as every proxy does.
	impatient bool
}

func newBalancer(e *engine, p peers.Peer) *balancer {
	b := &balancer{e: e, impatient: slices.ContainsFunc(e.sc.Faults, func(f Fault) bool { return f.Becomes == Hung })}
	sample := e.sample()
	for i, c := range e.cards {
		b.pool = append(b.pool, peers.Server{Up: !c.condition.away(), Slots: c.Slots, Rate: e.rate(i, sample)})
	}
	b.rule = p.New(b.pool, stream(e.sc.Seed, streamBalancer, 0))
	b.queues = make([][]*job, 1)
	if r := e.sc.Recorded; r != nil {
		b.queues = make([][]*job, len(r.Classes))
		b.able = e.able()
	}
	b.blocked = make([]bool, len(b.queues))
	return b
}

func (b *balancer) arrive(j *job) {
	class := j.class()
	b.queues[class] = append(b.queues[class], j)
	b.pick()
}

// pick sends what waits, in order, for as long as the rule has a server for it.
func (b *balancer) pick() {
	clear(b.blocked)
	for {
		class := -1
		for c, queue := range b.queues {
			if len(queue) > 0 && !b.blocked[c] && (class < 0 || queue[0].number < b.queues[class][0].number) {
				class = c
			}
		}
		if class < 0 {
			return
		}
		b.blocked[class] = !b.offer(class)
	}
}

// offer sends the first job of a class to a server, or fails it when there is none; false: it waits.
func (b *balancer) offer(class int) bool {
	j, pool := b.queues[class][0], b.poolOf(class)
	if !anyUp(pool) {
		b.queues[class] = b.queues[class][1:]
		b.e.settle(j, false)
		return true
	}
	server, ok := b.rule.Pick(time.Duration(b.e.now), pool)
	if !ok {
		return false
	}
	b.queues[class] = b.queues[class][1:]
	b.pool[server].Outstanding++
	w := &work{job: j}
	b.e.send(b.e.cards[server], w)
	if b.impatient {
		b.e.giveUp(w, waitsFor, "timed out")
	}
	return true
}

// poolOf is the pool as a class sees it: what does not do such jobs is down.
func (b *balancer) poolOf(class int) []peers.Server {
	if b.able == nil {
		return b.pool
	}
	b.seen = append(b.seen[:0], b.pool...)
	for i := range b.seen {
		b.seen[i].Up = b.seen[i].Up && b.able[class][i]
	}
	return b.seen
}

func anyUp(pool []peers.Server) bool {
	for i := range pool {
		if pool[i].Up {
			return true
		}
	}
	return false
}

// leave takes a job away: out of the queue, or off its card.
func (b *balancer) leave(j *job) {
	class := j.class()
	if i := slices.Index(b.queues[class], j); i >= 0 {
		b.queues[class] = slices.Delete(b.queues[class], i, i+1)
		b.e.settle(j, false)
		return
	}
	for _, c := range b.e.cards {
		for _, w := range slices.Concat(c.running, c.inside) {
			if w.job == j {
				c.drop(b.e.now, w)
				b.ended(w, scheduler.Outcome{Result: scheduler.Aborted})
				return
			}
		}
	}
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
	after := peerCheck
	if b.e.sc.Recorded != nil { // it is then that the proxy's check noticed
		after = 0
	}
	b.e.agenda.at(b.e.now.Add(after), func() {
		b.pool[c.index].Up = !c.condition.away()
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
	outstanding := 0
	for _, queue := range b.queues {
		outstanding += len(queue)
	}
	for i := range b.pool {
		outstanding += b.pool[i].Outstanding
	}
	if held := b.e.arrivals - b.e.settledJobs; held != outstanding {
		return []string{fmt.Sprintf("%d jobs have arrived and are not settled, %d wait or run", held, outstanding)}
	}
	return nil
}
