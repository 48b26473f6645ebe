package scheduler

import (
	"math"
	"time"
)

// ConsideredMax is how many candidates of a placement are kept for telling why it was made.
const ConsideredMax = 8

// Considered is what a placement was chosen from.
type Considered struct {
	Attempt AttemptID
	// Candidates are, in this order, the one that was chosen, and those that would have been done first. FreeIn and
	// Predicted are what the policy saw.
	Candidates []Candidate
	More       int // candidates that are left out
	// Declined is how the job came to wait though a backend was idle; its Idle is "" when it did not.
	Declined Declined
}

// Declined is a choice to wait for a backend rather than to take one that is idle, as it was when it was first made.
type Declined struct {
	Waited time.Duration // in the queue by then
	For    BackendID     // the one to wait for,
	In     time.Duration // until the job would be done there, that wait included
	Idle   BackendID     // the idle one that would be done first,
	IdleIn time.Duration // until the job would be done there
}

// consideration is a Considered in memory that is used again in each step.
type consideration struct {
	Considered
	kept [ConsideredMax]Candidate
}

// Considered tells what an attempt's placement was chosen from. Its Candidates, like the decisions, are valid until
// the next Step. It is false for an attempt that was not dispatched in the last Step, and for a trial.
func (s *Scheduler) Considered(id AttemptID) (Considered, bool) {
	for i := range s.considered {
		if c := &s.considered[i]; c.Attempt == id {
			out := c.Considered
			out.Candidates = c.kept[:len(c.Candidates)]
			return out, true
		}
	}
	return Considered{}, false
}

// consideredNext is the place for what the next placement of the step is chosen from.
func (s *Scheduler) consideredNext(j *job) *consideration {
	n := len(s.considered)
	if n < cap(s.considered) {
		s.considered = s.considered[:n+1]
	} else {
		s.considered = append(s.considered, consideration{})
	}
	c := &s.considered[n]
	c.Considered = Considered{Attempt: s.lastAttempt + 1, Declined: j.declined}
	return c
}

// soonest are the candidates that would be done first, in that order.
type soonest struct {
	order [ConsideredMax - 1]int
	in    [ConsideredMax - 1]time.Duration
	n     int
	bound float64 // what one more has to be sooner than
}

func (f *soonest) offer(index int, in time.Duration) {
	last := len(f.order) - 1
	at := min(f.n, last)
	for ; at > 0 && in < f.in[at-1]; at-- {
		f.order[at], f.in[at] = f.order[at-1], f.in[at-1]
	}
	f.order[at], f.in[at] = index, in
	if f.n = min(f.n+1, len(f.order)); f.n == len(f.order) {
		f.bound = float64(f.in[last])
	}
}

// note keeps what a job is placed by. Requires: the attempt has not begun, and the view is that of the job.
func (s *Scheduler) note(j *job, chosen *Candidate) {
	view := &s.round.view
	others := soonest{bound: math.Inf(1)}
	if f := view.foreseen; f != nil { // the lanes have it at hand, and closer together
		for _, lanes := range [...][]lane{j.class.free, j.class.busy} {
			for i := range lanes {
				if in := lanes[i].in(f.size); in < others.bound && &view.Candidates[lanes[i].member] != chosen {
					others.offer(lanes[i].member, time.Duration(in))
				}
			}
		}
	} else {
		for i := range view.Candidates {
			o := &view.Candidates[i]
			if in := o.FreeIn + o.Predicted; float64(in) < others.bound && o != chosen {
				others.offer(i, in)
			}
		}
	}
	c := s.consideredNext(j)
	c.kept[0] = *chosen
	for k, i := range others.order[:others.n] {
		c.kept[k+1] = view.Candidates[i]
		c.kept[k+1].Predicted = view.Predicted(i)
	}
	c.Candidates, c.More = c.kept[:others.n+1], len(view.Candidates)-others.n-1
}

// decline notes that a job waits for a backend though another is idle.
func (j *job) decline(now Instant, view *View, waitFor *Candidate) {
	o := view.Outlook()
	if !o.Idle.OK {
		return
	}
	j.declined = Declined{
		Waited: j.waitedBy(now), For: waitFor.Backend, In: waitFor.FreeIn + waitFor.Predicted,
		Idle: view.Candidates[o.Idle.Index].Backend, IdleIn: o.Idle.In,
	}
}

// noteHedge keeps what a second attempt is chosen by: what it is expected to take, and what is left of the late one.
func (s *Scheduler) noteHedge(late *attempt, left time.Duration, chosen *backend, takes time.Duration) {
	c := s.consideredNext(late.job)
	c.kept[0] = Candidate{
		Backend: chosen.ID, Outstanding: len(chosen.running), Slots: chosen.slots(), Idle: true, Predicted: takes, Known: true,
	}
	c.kept[1] = Candidate{
		Backend: late.backend.ID, Outstanding: len(late.backend.running), Slots: late.backend.slots(), Predicted: left, Known: true,
	}
	c.Candidates = c.kept[:2]
}

// Prospect is what a backend would be for a job that came now.
type Prospect struct {
	Backend BackendID
	Class   string
	// Lacks is why the job cannot go there now, in words; "" when it can, or as soon as a slot is free.
	Lacks       string
	Outstanding int
	Slots       int
	Idle        bool          // has a free slot
	FreeIn      time.Duration // until a slot is free; jobs that wait are not counted
	Predicted   time.Duration // the service time there; 0 when no speed is known
	// Observations are what Predicted was learned from; 0: a guess, or not known.
	Observations int
}

// ProspectsAt tells of each backend what it would be for a job, as of an instant after the last step, in the order of
// the configuration. Nothing changes by it.
func (s *Scheduler) ProspectsAt(now Instant, j Job) []Prospect {
	j = sized(j)
	wanted := &class{capability: capability{j.Model, j.Needs}}
	out := make([]Prospect, 0, len(s.pool))
	for _, b := range s.pool {
		p := Prospect{
			Backend: b.ID, Class: b.Class, Outstanding: len(b.running), Slots: b.slots(), Lacks: s.lacks(b, wanted, now),
			FreeIn: max(0, b.health.pausedUntil.Sub(now)),
		}
		p.Idle = p.FreeIn == 0 && len(b.running) < s.limit(b)
		if len(b.running) >= s.limit(b) {
			free := time.Duration(math.MaxInt64)
			for _, a := range b.running {
				free = min(free, a.remaining(now))
			}
			p.FreeIn = max(p.FreeIn, free)
		}
		p.Predicted, p.Observations = s.foretell(b, j, now)
		out = append(out, p)
	}
	return out
}

// foretell is the service time of a job on a backend, 0 when its speed is not known. That one has not been seen for
// long is not counted.
func (s *Scheduler) foretell(b *backend, j Job, now Instant) (takes time.Duration, observations int) {
	if i, ok := s.models[j.Model]; ok && i < len(b.speeds) && b.speeds[i] != nil {
		speed := b.speeds[i]
		if !speed.Known() {
			return 0, 0
		}
		return duration(speed.Theta(b.occupancyNext()) * b.handicap(now) * speed.Cost.Of(j.AudioSeconds)), speed.Observations()
	}
	law := b.priorFor(j.Model)
	return law.Fixed + time.Duration(j.AudioSeconds*float64(law.PerSecond)), 0
}

// lacks says in words why jobs of a class do not go to a backend, "" when they do.
func (s *Scheduler) lacks(b *backend, c *class, now Instant) string {
	switch {
	case !b.draining && !b.serves(c):
		if b.serves(&class{capability: capability{model: c.model}}) {
			return "cannot do what the request asks for with this model"
		}
		return "does not serve the model"
	case b.takes(now) && s.forClients(b):
		return ""
	}
	if why := b.whyNot(now); why != "" {
		return why
	}
	return "is " + b.state(now)
}
