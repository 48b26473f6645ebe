package scheduler

import "time"

// Decision is something for the driver to do.
type Decision interface{ decision() }

// The decisions.
type (
	// Dispatch: start an attempt of the job on the backend. Its slot is taken until Finished.
	Dispatch struct {
		Attempt AttemptID
		Job     JobID
		Backend BackendID
		Model   string
		Reason  Reason
		// Timeout is when to give the attempt up, counted from its start; 0 for never.
		Timeout time.Duration
		// Predicted is the service time that placement counted with, 0 when nothing is known.
		Predicted time.Duration
		Waited    time.Duration // in the queue, over all of the job's attempts
		Number    int           // 1 for the job's first attempt
		// Trial: no client's job, but the driver's own short piece of speech, which is to show whether the
		// backend is well. Job is 0 and there is no Settle; Finished follows as always, its Outcome.Words
		// telling whether words were found.
		Trial bool `json:",omitempty"`
	}
	// Abort: end the attempt; its slot stays taken until Finished.
	Abort struct{ Attempt AttemptID }
	// Settle: the job is over; exactly one for every Arrived, after its last attempt ended.
	Settle struct {
		Job        JobID
		Reason     SettleReason
		RetryAfter time.Duration // when refused
		Attempts   int
		Waited     time.Duration // in the queue, over all attempts
		Last       Outcome       // of the last attempt, zero when there was none
		Backend    BackendID     // of the last attempt
	}
	// Probe: look at the backend now rather than at the prober's next turn.
	Probe struct{ Backend BackendID }
	// Judged: what is believed of a backend has changed because of how attempts on it ended. There is
	// nothing to be done but to count it and tell whoever wants to know.
	Judged struct {
		Backend BackendID
		Verdict Verdict
		Cause   Cause         // of Opened and Penalized; of Suspected, what a trial is to show
		For     time.Duration // Opened: until it is tried again, if nothing else comes between
	}
)

func (Dispatch) decision() {}
func (Abort) decision()    {}
func (Settle) decision()   {}
func (Probe) decision()    {}
func (Judged) decision()   {}

// SettleReason says how a job ended; its String is a metric label.
type SettleReason uint8

// How a job can end.
const (
	Served         SettleReason = iota + 1 // an attempt succeeded
	Refused                                // a backend refused what the client wrote
	Exhausted                              // every allowed attempt failed
	QueueFull                              // Queue.MaxRequests or MaxBytes
	WaitTooLong                            // Queue.MaxWait passed, or would
	DeadlinePassed                         // the client's deadline passed, or would
	NoBackend                              // nobody usable serves the model
	ClientGone                             // Canceled
	TenantFull                             // Queue.MaxPerTenant
	Poison                                 // backends died while they ran it; it is not to be sent again
)

// Reason says why a job went where it went; its String is a metric label.
type Reason uint8

// Why a placement was made.
const (
	Best     Reason = iota + 1 // least expected completion
	Near                       // not the best, but idle and within kappa of it
	Explore                    // to learn the speed of a backend that is not known
	Starving                   // waited too long: any idle backend
	OnlyOne                    // nobody else can serve it
	Turn                       // round robin's turn, or chance
	Least                      // fewest outstanding
	Fastest                    // the fastest idle one
	HalfOpen                   // the breaker's probe
	Wait                       // with Placement.WaitFor: waiting is quicker
	Trying                     // Dispatch.Trial
	Hedging                    // a second time, because the attempt that runs takes far longer than predicted
)

// Verdict is a change of what is believed of a backend; its String is a metric label.
type Verdict uint8

// The verdicts.
const (
	Opened    Verdict = iota + 1 // left alone for a while
	Closed                       // used again
	Penalized                    // counted as slower than learned, since too many are left alone for being slow
	Suspected                    // to be tried with a piece of speech, if Config.Trials
	Cleared                      // the trial has gone well
)

// Cause is why a backend is left alone; its String is a metric label.
type Cause uint8

// The causes.
const (
	FailuresRunning Cause = iota + 1 // Breaker.Failures running
	FailureRatio                     // too many of the last attempts
	TooSlow                          // far slower than predicted, and than its peers
	Overdue                          // an attempt has run for far too long, and nothing else has come back
	ProbeFailed                      // the half-open attempt
	NoWords                          // answers without words where peers find some
	RefusesAll                       // refuses what clients send where peers accept it
	Flapping                         // went down again soon after it came up
)
