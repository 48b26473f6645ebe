package scheduler

import "time"

// Policy says which eligible backend a job should go to, now or later. It is asked with the
// scheduler's state unlocked to it as a View, must not keep it, and decides nothing else: order,
// eligibility, exploration, starvation and budgets are the scheduler's.
type Policy interface {
	Name() string
	Place(job Job, view View) Placement
}

// Placement is a policy's answer: Backend now; else WaitFor, for whom the job waits and whose
// next free moment is charged for it in the view that later jobs see; neither means wait for
// whoever comes first.
type Placement struct {
	Backend BackendID
	WaitFor BackendID
	Reason  Reason
}

// View is what a policy sees: backends that are eligible for the job, and no others.
type View struct {
	Now        Instant
	Candidates []Candidate
	// Placements counts the placements that the scheduler has made, for rotating.
	Placements uint64
	// Typical is the service time that jobs of the kind had ahead of them lately where they would have
	// been done first; 0 while none was placed.
	Typical time.Duration
	// Waiting is how many jobs of the kind wait beside this one.
	Waiting int
	// Rand returns a seeded number in [0, n).
	Rand func(n int) int

	foreseen *foreseen // for a policy that is ByOutlook, where the scheduler has worked it out
}

// foreseen is what the scheduler knows of a view without having filled it in.
type foreseen struct {
	Outlook
	lines []line // by candidate
	size  size
}

// ByOutlook marks a policy that goes by View.Outlook rather than by what each candidate promises. The
// candidates that it is shown may lack Predicted, which View.Predicted tells: filling that in for everybody
// is most of what a placement costs.
type ByOutlook interface{ ByOutlook() }

// Outlook is what a view promises a job.
type Outlook struct {
	Best  Completion // the least FreeIn + Predicted
	Idle  Completion // the same of the idle candidates
	Known bool       // some candidate's service time is more than a blank
}

// Completion is a candidate that is expected to be done first.
type Completion struct {
	Index int           // in View.Candidates, of one of those that are equally soon
	In    time.Duration // FreeIn + Predicted
	OK    bool          // there is one
}

func (c *Completion) offer(index int, in time.Duration) {
	if !c.OK || in < c.In {
		*c = Completion{index, in, true}
	}
}

// Outlook finds who would be done first.
func (v *View) Outlook() Outlook {
	if v.foreseen != nil {
		return v.foreseen.Outlook
	}
	var o Outlook
	for i := range v.Candidates {
		c := &v.Candidates[i]
		o.Known = o.Known || c.Predicted > 0
		o.Best.offer(i, c.FreeIn+c.Predicted)
		if c.Idle {
			o.Idle.offer(i, c.FreeIn+c.Predicted)
		}
	}
	return o
}

// Predicted is the service time of the job on a candidate.
func (v *View) Predicted(i int) time.Duration {
	if f := v.foreseen; f != nil {
		return f.lines[i].at(f.size)
	}
	return v.Candidates[i].Predicted
}

// Candidate is one eligible backend.
type Candidate struct {
	Backend     BackendID
	Outstanding int           // attempts in flight
	Slots       int           //
	Idle        bool          // has a free slot
	FreeIn      time.Duration // until a slot is free, earlier jobs' virtual reservations included
	Predicted   time.Duration // service time of this job there; when not Known an optimistic guess, 0 when no speed is known at all
	Known       bool          // the speed has been learned or has a prior
}
