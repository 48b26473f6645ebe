// Package scheduler is the core of the pool: which job runs where, and when. It is one state machine
// with explicit time, driven alike by the proxy (package dispatcher), by simulations and by tests.
// Events go in through Step and decisions come out of it, both plain data; there is no clock, lock,
// goroutine, log or hidden chance in here.
//
// The caller's part of the contract:
//
//   - now never goes back; events come one at a time.
//   - Every job that arrives has an ID of its own.
//   - Every Dispatch is followed by exactly one Finished, whatever became of the attempt. Only Abort
//     ends an attempt early, and its Finished still follows: Abort frees no slot, Finished does.
//   - Ticked is sent at NextWake, if nothing else was sent before.
//   - The slice that Step returns is valid until the next Step.
//
// The scheduler's part: every Arrived is answered by exactly one Settle, after the job's last attempt
// ended; an attempt is dispatched only onto a free slot; after Committed there is no other attempt.
// Canceled, and news of a backend that is no longer configured, are legal at any time. A violated
// contract panics.
//
// Placement is by least predicted completion, bound late: a job gets a backend when a slot is free,
// and a slow one is left idle exactly when waiting for a fast one is quicker. See placement.go for
// the decision, admission.go for what is refused, health.go for who is left alone and retry.go for
// what follows a failure.
package scheduler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

// Scheduler is the core's state. It is not safe for concurrent use.
type Scheduler struct {
	cfg      Config // its defaults filled in
	policies func(name string) (Policy, bool)
	policy   Policy
	// byOutlook: the policy goes by View.Outlook.
	byOutlook bool
	chance    *rand.Rand
	now       Instant

	pool       []*backend // in the configuration's order, draining ones last
	byID       map[BackendID]*backend
	models     map[string]int // every model that was ever configured, reported or asked for, numbered
	modelNames []string       // by that number
	classes    []*class       // in order of appearance
	classOf    map[capability]*class
	jobs       map[JobID]*job // unsettled
	attempts   map[AttemptID]*attempt
	expiries   expiries // of the jobs that wait
	watchAt    Instant  // when one of the attempts that run is to be looked at

	shapes     map[shapeKey]*estimator.Shape
	remembered []remembered // the last to go last

	tenants    []*tenant // with unsettled jobs
	tenantByID map[Tenant]*tenant
	virtual    float64 // the latest turn that was served

	waiting      int        // jobs that wait
	waitingIn    [bands]int // of each band
	waitingBytes int64      // their uploads
	heldBytes    int64      // uploads of all unsettled jobs
	arrivals     uint64
	lastAttempt  AttemptID
	placements   uint64

	wake       Instant // the next moment at which something changes by itself; never when hasWake is false
	hasWake    bool
	out        []Decision      // of the step in progress,
	considered []consideration // and what its placements were chosen from
	round      round           // scratch space of placement

	trialJob job // what trials count as
	budget   budget
	spent    time.Duration // predicted of what was dispatched,
	hedged   time.Duration // and of what was hedged

	spareJobs     spare[job] // used again, so that a steady load allocates none
	spareAttempts spare[attempt]
	spareFlows    spare[flow]
	spareTenants  spare[tenant]
}

// spare keeps what is no longer in use.
type spare[T any] []*T

// spareMax bounds what a burst leaves behind.
const spareMax = 1024

func (s *spare[T]) get() *T {
	last := len(*s) - 1
	if last < 0 {
		return new(T)
	}
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}

func (s *spare[T]) put(x *T) {
	if len(*s) < spareMax {
		*s = append(*s, x)
	}
}

// capability is what sets jobs apart: those with an equal one can run on the same backends.
type capability struct {
	model string
	needs Capability
}

// New returns a scheduler for the configuration; policy resolves Config.Policy. The error says what
// is wrong with the configuration.
func New(cfg Config, policy func(name string) (Policy, bool)) (*Scheduler, error) {
	s := &Scheduler{
		policies: policy,
		chance:   newChance(cfg.Seed),
		byID:     make(map[BackendID]*backend),
		models:   make(map[string]int),
		classOf:  make(map[capability]*class),
		jobs:     make(map[JobID]*job),
		attempts: make(map[AttemptID]*attempt),

		watchAt:    never,
		budget:     budget{tokens: budgetMax},
		trialJob:   job{Job: Job{AudioSeconds: trialAudio}},
		tenantByID: make(map[Tenant]*tenant),
		shapes:     make(map[shapeKey]*estimator.Shape),
	}
	s.round.view.Rand = s.chance.IntN
	if err := s.configure(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

func newChance(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x77686973706572)) }

// Step takes in one event that happened at now and returns what is to be done about it, in order.
// The slice is valid until the next Step.
func (s *Scheduler) Step(now Instant, ev Event) []Decision {
	if now < s.now {
		panic(fmt.Sprintf("scheduler: time went back from %v to %v", time.Duration(s.now), time.Duration(now)))
	}
	s.now = now
	clear(s.out)
	s.out, s.considered = s.out[:0], s.considered[:0]
	var arrived *job
	switch e := ev.(type) {
	case Arrived:
		arrived = s.arrive(e.Job)
	case Canceled:
		s.cancel(e.Job)
	case Committed:
		s.commit(e.Attempt)
	case Finished:
		s.finish(e.Attempt, e.Outcome)
	case Probed:
		s.probed(e)
	case Reported:
		s.reported(e)
	case Configured:
		if err := s.configure(e.Config); err != nil {
			panic("scheduler: Configured with an invalid configuration, which Validate would have refused: " + err.Error())
		}
	case Restored:
		s.restored(e)
	case Ticked:
	default:
		panic("scheduler: unknown event") // which one is not told, or every event would have to be on the heap
	}
	s.hasWake = false
	s.expire()
	s.watch()
	s.review()
	s.place(arrived)
	s.hedge()
	s.try()
	s.refuse()
	s.admit(arrived)
	s.wakeForQueue()
	if s.watchAt != never {
		s.wakeAt(s.watchAt)
	}
	return s.out
}

// NextWake says when to send Ticked, if nothing else is sent before; false while nothing changes by
// itself.
func (s *Scheduler) NextWake() (at Instant, ok bool) { return s.wake, s.hasWake }

// wakeMin keeps a wake that is due already from making the driver spin.
const wakeMin = time.Millisecond

func (s *Scheduler) wakeAt(at Instant) {
	at = max(at, s.now.Add(wakeMin))
	if !s.hasWake || at < s.wake {
		s.wake, s.hasWake = at, true
	}
}

// wakeForQueue wakes for what can change by itself for the jobs that wait: the first one's expiry,
// and backends that come back.
func (s *Scheduler) wakeForQueue() {
	if s.waiting == 0 {
		return
	}
	if j := s.expiries.first(); j != nil {
		s.wakeAt(j.expires)
	}
	for _, b := range s.pool {
		if at, ok := b.comesBack(s.now); ok {
			s.wakeAt(at)
		}
	}
}

func (s *Scheduler) decide(d Decision) { s.out = append(s.out, d) }

// configure applies a whole configuration, or returns what is wrong with it and changes nothing.
func (s *Scheduler) configure(cfg Config) error {
	policy, ok := s.policies(cfg.Policy)
	err := cfg.Validate()
	if !ok {
		err = errors.Join(err, fmt.Errorf("there is no placement policy %q", cfg.Policy))
	}
	if err != nil {
		return err
	}
	if cfg.Seed != s.cfg.Seed {
		s.chance = newChance(cfg.Seed)
		s.round.view.Rand = s.chance.IntN
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = defaultAttempts
	}
	if cfg.RetryBudget == 0 {
		cfg.RetryBudget = defaultRetryBudget
	}
	cfg.Breaker = cfg.Breaker.withDefaults()
	waitChanged := cfg.Queue.MaxWait != s.cfg.Queue.MaxWait
	s.cfg, s.policy = cfg, policy
	_, s.byOutlook = policy.(ByOutlook)
	s.configurePool()
	if waitChanged {
		s.renewExpiries()
	}
	return nil
}
