package scheduler

// The names below are metric labels and words of the documentation; they stay as they are.

var settleReasonNames = [...]string{
	Served: "served", Refused: "refused", Exhausted: "exhausted", QueueFull: "queue_full",
	WaitTooLong: "wait_too_long", DeadlinePassed: "deadline_passed", NoBackend: "no_backend", ClientGone: "client_gone",
	TenantFull: "tenant_full",
}

var reasonNames = [...]string{
	Best: "best", Near: "near", Explore: "explore", Starving: "starving", OnlyOne: "only_one",
	Turn: "turn", Least: "least", Fastest: "fastest", HalfOpen: "half_open", Wait: "wait",
}

var resultNames = [...]string{
	Success: "success", ClientError: "client_error", Failed: "failed", Died: "died", Busy: "busy",
	Loading: "loading", Aborted: "aborted",
}

// SettleReasons, Reasons and Results list what there is, for metrics that start at zero.
var (
	SettleReasons = []SettleReason{Served, Refused, Exhausted, QueueFull, WaitTooLong, DeadlinePassed, NoBackend, ClientGone, TenantFull}
	Reasons       = []Reason{Best, Near, Explore, Starving, OnlyOne, Turn, Least, Fastest, HalfOpen, Wait}
	Results       = []Result{Success, ClientError, Failed, Died, Busy, Loading, Aborted}
)

// String is a metric label.
func (r SettleReason) String() string { return nameOf(settleReasonNames[:], int(r)) }

// String is a metric label.
func (r Reason) String() string { return nameOf(reasonNames[:], int(r)) }

// String is a metric label.
func (r Result) String() string { return nameOf(resultNames[:], int(r)) }

func nameOf(names []string, i int) string {
	if i > 0 && i < len(names) {
		return names[i]
	}
	return "unknown"
}
