package scheduler

// The names below are metric labels and words of the documentation; they stay as they are.

var settleReasonNames = [...]string{
	Served: "served", Refused: "refused", Exhausted: "exhausted", QueueFull: "queue_full",
	WaitTooLong: "wait_too_long", DeadlinePassed: "deadline_passed", NoBackend: "no_backend", ClientGone: "client_gone",
	TenantFull: "tenant_full", Poison: "poison",
}

var reasonNames = [...]string{
	Best: "best", Near: "near", Explore: "explore", Starving: "starving", OnlyOne: "only_one",
	Turn: "turn", Least: "least", Fastest: "fastest", HalfOpen: "half_open", Wait: "wait",
	Trying: "trying", Hedging: "hedging",
}

var resultNames = [...]string{
	Success: "success", ClientError: "client_error", Failed: "failed", Died: "died", Busy: "busy",
	Loading: "loading", Aborted: "aborted",
}

var verdictNames = [...]string{Opened: "opened", Closed: "closed", Penalized: "penalized", Suspected: "suspected", Cleared: "cleared"}

var causeNames = [...]string{
	FailuresRunning: "failures_running", FailureRatio: "failure_ratio", TooSlow: "too_slow", Overdue: "overdue",
	ProbeFailed: "probe_failed", NoWords: "no_words", RefusesAll: "refuses_all", Flapping: "flapping",
}

// These list what there is, for metrics that start at zero.
var (
	SettleReasons = []SettleReason{Served, Refused, Exhausted, QueueFull, WaitTooLong, DeadlinePassed, NoBackend, ClientGone, TenantFull, Poison}
	Reasons       = []Reason{Best, Near, Explore, Starving, OnlyOne, Turn, Least, Fastest, HalfOpen, Wait, Trying, Hedging}
	Results       = []Result{Success, ClientError, Failed, Died, Busy, Loading, Aborted}
	Verdicts      = []Verdict{Opened, Closed, Penalized, Suspected, Cleared}
	Causes        = []Cause{FailuresRunning, FailureRatio, TooSlow, Overdue, ProbeFailed, NoWords, RefusesAll, Flapping}
)

// String is a metric label.
func (r SettleReason) String() string { return nameOf(settleReasonNames[:], int(r)) }

// String is a metric label.
func (r Reason) String() string { return nameOf(reasonNames[:], int(r)) }

// String is a metric label.
func (r Result) String() string { return nameOf(resultNames[:], int(r)) }

// String is a metric label.
func (v Verdict) String() string { return nameOf(verdictNames[:], int(v)) }

// String is a metric label.
func (c Cause) String() string { return nameOf(causeNames[:], int(c)) }

func nameOf(names []string, i int) string {
	if i > 0 && i < len(names) {
		return names[i]
	}
	return "unknown"
}
