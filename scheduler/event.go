package scheduler

import "time"

// Instant is monotonic time since the driver's start, never wall clock.
type Instant time.Duration

// Sub is the time from o to t.
func (t Instant) Sub(o Instant) time.Duration { return time.Duration(t - o) }

// Add is the instant d after t.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Identifiers. Jobs are numbered by the driver, attempts by the scheduler; a BackendID is the name
// that the configuration gives a backend, and stays the same across configurations.
type (
	JobID     uint64
	AttemptID uint64
	BackendID string
)

// Capability is a set of things that a job needs and that a backend or one of its models can do.
type Capability uint32

// The capabilities that placement filters by.
const (
	CanTranslate  Capability = 1 << iota // speech to English
	CanWords                             // word timestamps
	CanLanguages                         // other languages than English, and detection
	CanContainers                        // more kinds of audio file than whisper.cpp reads by itself
	CanSpeakers                          // telling who speaks
)

// Job is one transcription, told by what it costs and needs and never by its audio.
type Job struct {
	ID           JobID
	Model        string // one of the configured or reported models, aliases resolved
	Needs        Capability
	AudioSeconds float64 // from the upload's header; 0 when it could not be told
	SizeGuessed  bool    // AudioSeconds is an estimate from bytes
	Bytes        int64   // of the upload, against Queue.MaxBytes
	Deadline     Instant // the client's own; 0 for none
	Priority     Priority
	Tenant       Tenant // 0: none
}

// Priority is how urgent a job is, next to others. A band is worth bandWorth of waiting: a job goes before
// those of a lower band that came up to that much earlier, and after those that have waited for longer.
type Priority uint8

// The bands. A job that says nothing is in the middle.
const (
	Default     Priority = iota
	Interactive          // somebody waits for the answer
	Batch                // nobody does
)

// Tenant stands for who sent a job, for fairness among tenants. It is a hash; what of, the driver knows.
type Tenant uint64

// Load is what a backend says of itself, or what its prober found out.
type Load struct {
	Instance string                // changes when the server restarts; "" when not told
	Slots    int                   // 0: not told
	Models   []string              // nil: not told
	Can      map[string]Capability // by model, "" for all others; missing: everything is assumed
}

// Result is how an attempt ended.
type Result uint8

// Results, from 1 so that a forgotten one is noticed. The table is scheduling.md's section 6.2.
const (
	// Success: an answer that passed the checks. The only result that teaches a speed.
	Success Result = iota + 1
	// ClientError: the backend refused what the client wrote (400, 413, 415, 422). Final.
	ClientError
	// Failed: an answer that is the backend's fault (5xx, 401, 403, 404, broken JSON, a timeout).
	Failed
	// Died: the connection was refused or broke before any answer. Retried free of the budget.
	Died
	// Busy: 429 or 503; the backend is left alone for RetryAfter.
	Busy
	// Loading: the backend is up and its model is not.
	Loading
	// Aborted: ended because the scheduler said Abort.
	Aborted
)

// Outcome is the end of an attempt, as its driver saw it.
type Outcome struct {
	Result       Result
	RetryAfter   time.Duration // with Busy: 0 when not told
	AudioSeconds float64       // the length that came back, 0 when none did; corrects the job's cost
	Words        bool          // the answer has words; one without never teaches a speed
	Unreached    bool          // with Died: no connection came about, so the job cannot be what killed the backend
	Detail       string        // for logs and the last error; no text of the answer
}

// Event is something that happened. Events are plain data: they can be recorded and replayed.
type Event interface{ event() }

// The events. Every Dispatch is followed by exactly one Finished.
type (
	// Arrived: a job wants to be served.
	Arrived struct{ Job Job }
	// Canceled: its client left. Legal at any time, also after Settle (then ignored).
	Canceled struct{ Job JobID }
	// Committed: the attempt's answer is about to reach the client; siblings are aborted.
	Committed struct{ Attempt AttemptID }
	// Finished: the attempt ended and its slot is free.
	Finished struct {
		Attempt AttemptID
		Outcome Outcome
	}
	// Probed: a health check ended. Loading is a backend that answers but has no model yet.
	Probed struct {
		Backend BackendID
		Healthy bool
		Loading bool
	}
	// Reported: a backend told of itself.
	Reported struct {
		Backend BackendID
		Load    Load
	}
	// Configured carries the whole configuration.
	Configured struct{ Config Config }
	// Restored: what was learned of speeds before this process, see Scheduler.Speeds.
	Restored struct{ Speeds []SpeedRecord }
	// Ticked: time passed; sent at NextWake.
	Ticked struct{}
)

func (Arrived) event()    {}
func (Canceled) event()   {}
func (Committed) event()  {}
func (Finished) event()   {}
func (Probed) event()     {}
func (Reported) event()   {}
func (Configured) event() {}
func (Restored) event()   {}
func (Ticked) event()     {}
