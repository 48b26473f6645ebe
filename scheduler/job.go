package scheduler

import (
	"time"

	"github.com/whisperpool/whisperpool/scheduler/breaker"
	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

// Where the length of the audio is not known it is guessed, so that there is a cost to count with.
const (
	guessBytesPerSecond = 16_000 // 128 kbit/s, which is what most compressed recordings are below
	guessSeconds        = 30     // one window of whisper, when not even the bytes are known
	audioMax            = 1e6    // seconds; what claims to be longer is mistaken
)

// job is one that has arrived and is not settled. It waits in its class's queue or has attempts
// running, never both.
type job struct {
	Job
	class   *class
	tenant  *tenant
	arrived Instant
	order   uint64 // of arrival; a retried job keeps it
	size    size
	band    int
	rank    Instant // see order.go

	flow        *flow // while it waits
	prev, next  *job  // in the flow's list
	overtaken   int   // by shorter ones
	queued      bool
	queuedSince Instant
	waited      time.Duration // in the queue, before queuedSince
	expires     Instant       // when it is settled if it still waits
	expiryIndex int           // in the heap of expiries
	expected    time.Duration // the wait predicted for it; negative while none could be
	declined    Declined      // the first time that it waited though somebody was idle
	notBefore   Instant       // of a second attempt on the same backend

	running    []*attempt // one, or two when hedged
	attempts   int        // dispatched
	paid       int        // those that count against Config.Attempts
	died       int        // those whose connection died
	turnedAway int        // those to a backend that was busy or loading
	deaths     int        // how much backends that died while running it say against it
	failedOn   []*backend // not to be asked again while there is another
	canceled   bool
	committed  bool
	decided    SettleReason // Served or Refused by an attempt while another ran; else 0
	owes       bool         // it waits for a token of the retry budget,
	owesUntil  Instant      // until then

	last        Outcome
	lastBackend BackendID
}

// sized is a job with a length to count with.
func sized(j Job) Job {
	if !(j.AudioSeconds > 0 && j.AudioSeconds <= audioMax) { // what is not a number is not either
		j.AudioSeconds, j.SizeGuessed = guessSeconds, true
		if j.Bytes > 0 {
			j.AudioSeconds = min(max(1, float64(j.Bytes)/guessBytesPerSecond), audioMax)
		}
	}
	return j
}

func (s *Scheduler) newJob(j Job, c *class) *job {
	j = sized(j)
	s.arrivals++
	out := s.spareJobs.get()
	band := bandOf(j.Priority)
	*out = job{
		Job: j, class: c, tenant: s.tenantOf(j.Tenant), arrived: s.now, order: s.arrivals, size: sizeOf(j.AudioSeconds), band: band, rank: rankOf(s.now, band),
		expected: -1, failedOn: out.failedOn[:0], running: out.running[:0],
	}
	return out
}

// waitedBy is the time in the queue up to now, over all of the job's stays.
func (j *job) waitedBy(now Instant) time.Duration {
	if j.queued {
		return j.waited + now.Sub(j.queuedSince)
	}
	return j.waited
}

// failedAt says whether an attempt on the backend has failed.
func (j *job) failedAt(b *backend) bool {
	for _, f := range j.failedOn {
		if f == b {
			return true
		}
	}
	return false
}

// attempt is one that was dispatched and has not finished.
type attempt struct {
	id       AttemptID
	trial    bool // job is nobody's
	doubted  bool // it is a trial of a backend that fails
	job      *job
	backend  *backend
	speed    *estimator.Speed // of the instance that it was sent to
	breaker  *breaker.Breaker // of the server that it was sent to: the backend's address may change
	pass     breaker.Pass
	started  Instant
	guess    time.Duration // the service time that placement counted with, 0 when nothing was known
	expected time.Duration // what it ought to take by what was learned, 0 when that is too little
	timeout  time.Duration
	areaThen float64 // of the backend when it started, see backend.area
	aborted  bool
	givenUp  bool // aborted since it took too long
}
