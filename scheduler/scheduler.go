package scheduler

// Scheduler is the core's state.
type Scheduler struct{}

// New returns a scheduler for the configuration; policy resolves Config.Policy.
func New(cfg Config, policy func(name string) (Policy, bool)) (*Scheduler, error) {
	return &Scheduler{}, cfg.Validate()
}

// Step takes in one event and returns what is to be done about it.
func (s *Scheduler) Step(now Instant, ev Event) []Decision { return nil }

// NextWake says when to send Ticked.
func (s *Scheduler) NextWake() (at Instant, ok bool) { return 0, false }

// Snapshot copies what the scheduler knows.
func (s *Scheduler) Snapshot() Snapshot { return Snapshot{} }
