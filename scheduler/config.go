package scheduler

import "time"

// Config is the whole configuration of a scheduler; it is plain data, its policy by name.
type Config struct {
	Policy   string // see policies.Names; "" means latency_aware
	Backends []Backend
	Queue    Queue
	Breaker  Breaker
	Attempts int    // per job, at least 1; 0 means 3
	Seed     uint64 // of all chance
	// RetryBudget is the share of successes that may be spent on retries of answered failures, beside a
	// small allowance per time; 0 means 0.1. See budget.go.
	RetryBudget float64
	// Hedge lets a job that runs for far longer than predicted start a second time on a backend that is
	// idle. See hedge.go.
	Hedge bool
	// Trials: the driver can run an attempt of its own, see Dispatch.Trial. Without it only clients' jobs
	// show whether a backend is well again.
	Trials bool
}

// Backend is one server that jobs can be sent to.
type Backend struct {
	ID      BackendID
	Address string // with Class, Model and instance the key of a learned speed
	Class   string // GPU class, "" when not told
	// Models restricts what is sent there; nil: what the backend reports.
	Models []string
	// Slots is the useful parallelism; 0: what the backend reports, else what is discovered, else 1.
	Slots int
	// Discover: where slots are neither told nor reported, more are tried while throughput rises. Not for
	// servers that run one job at a time and let others wait.
	Discover bool
	// Prior is the service time to expect before anything was learned, as Fixed + PerSecond times
	// the seconds of audio; both zero: unknown.
	Prior Law
	// Priors are those of single models, before Prior.
	Priors map[string]Law
	// Checked: a prober reports on this backend, so it is not used before the first Probed.
	Checked bool
	// Drained: an operator wants it left alone. It finishes what runs there and gets nothing new, and keeps
	// its place and what is known of it. No health check undoes that.
	Drained bool `json:",omitempty"`
}

// Law is a linear law of service time.
type Law struct {
	Fixed     time.Duration
	PerSecond time.Duration // per second of audio
}

// Queue bounds what may wait.
type Queue struct {
	MaxRequests int           // 0: no limit
	MaxBytes    int64         // of uploads that wait or run; 0: no limit
	MaxWait     time.Duration // who is predicted to wait longer is refused; who is in may wait a tenth longer; 0: no limit
	// MaxPerTenant is how many jobs of one tenant may wait; 0: no limit. It says nothing of jobs without
	// a tenant.
	MaxPerTenant int
	Order        Order // of a tenant's jobs of one band; "" means FIFO
}

// Order is the discipline of a queue.
type Order string

// The orders.
const (
	FIFO Order = "fifo"
	// ShortestFirst lets a job that arrives pass longer ones, as long as sizes are known and service
	// times are predicted well; each is passed a few times at most.
	ShortestFirst Order = "shortest_first"
)

// Breaker says when a backend is left alone, and for how long.
type Breaker struct {
	Failures   int           // running; 0 means 3
	OpenFor    time.Duration // the first time; doubles with jitter; 0 means 5 s
	MaxOpenFor time.Duration // 0 means 60 s
	// SlowFactor times the predicted service time is what a job may take before it counts against its
	// backend as slow; 0 means 4. See slowness.go for what else is asked of it.
	SlowFactor float64
}
