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
	// Spread is the standard deviation of the log of actual / predicted service time, as learned
	// over the backends that serve the job's model.
	Spread float64
	// Rand returns a seeded number in [0, n).
	Rand func(n int) int
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
