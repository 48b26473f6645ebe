package scheduler

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Snapshot is a copy of what the scheduler knows, for status pages, metrics and answers to clients.
type Snapshot struct {
	Now      Instant
	Policy   string
	Queued   int        // jobs that wait
	QueuedIn [bands]int // of them, by Priority
	// Attributed are those of Queued that each GPU class is predicted to serve; "" has those that nobody can.
	Attributed  map[string]float64
	Unserved    float64       // the latter alone, without what backends that have no class are to serve
	QueuedBytes int64         // their uploads
	HeldBytes   int64         // uploads of all unsettled jobs, against Queue.MaxBytes
	OldestWait  time.Duration // of the jobs that wait, since they came into the queue
	Running     int           // attempts in flight
	Backends    []BackendSnapshot
}

// BackendSnapshot is one backend, in the order of the configuration; draining ones come last.
type BackendSnapshot struct {
	ID      BackendID
	Address string
	Class   string
	// State is one of "unknown", "up", "loading", "down", "paused", "open", "half-open", "drained",
	// "draining".
	State string
	// Why says in words what is wrong with it, for people; "" when nothing is.
	Why         string
	Usable      bool // a job could be sent there now, or as soon as a slot or a pause ends
	Slots       int
	Outstanding int
	Models      []string              // sorted; nil: not told, any model may be sent there
	Can         map[string]Capability // by model; missing: everything is assumed
	Speeds      []SpeedSnapshot       // by model, those learned or guessed from a prior
	Instance    string
	Served      uint64        // attempts that succeeded
	Failed      uint64        // attempts that were the backend's failure
	ReopensIn   time.Duration // while open or paused: until it is looked at again
}

// SpeedSnapshot is the learned speed of one backend with one model.
type SpeedSnapshot struct {
	Model        string
	TenSeconds   time.Duration //nolint:staticcheck // the predicted service time of a clip of 10 s
	Observations int           // 0: the prior alone
	Spread       float64       // standard deviation of the log of actual / predicted
}

// ModelsKnown lists the models that some backend is configured for or has reported, sorted; they
// stay known while the backend is down.
func (s Snapshot) ModelsKnown() []string {
	var out []string
	for _, b := range s.Backends {
		if b.State != stateDraining {
			out = append(out, b.Models...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Usable says whether some backend could take a job for the model, now or as soon as it has a slot.
func (s Snapshot) Usable(model string) bool {
	for _, b := range s.Backends {
		if b.Usable && (b.Models == nil || slices.Contains(b.Models, model)) {
			return true
		}
	}
	return false
}

// The names of a backend's states.
const (
	stateUnknown  = "unknown"
	stateUp       = "up"
	stateLoading  = "loading"
	stateDown     = "down"
	statePaused   = "paused"
	stateOpen     = "open"
	stateHalfOpen = "half-open"
	stateDraining = "draining"
	stateDrained  = "drained"
)

// Snapshot copies what the scheduler knows, as of the last step.
func (s *Scheduler) Snapshot() Snapshot { return s.SnapshotAt(s.now) }

// SnapshotAt copies what the scheduler knows, as of an instant after the last step.
func (s *Scheduler) SnapshotAt(now Instant) Snapshot {
	out := Snapshot{
		Now: now, Policy: s.policy.Name(), Queued: s.waiting, QueuedBytes: s.waitingBytes, HeldBytes: s.heldBytes,
		OldestWait: s.oldestWait(now), Running: len(s.attempts), Backends: make([]BackendSnapshot, 0, len(s.pool)),
	}
	out.Attributed, out.Unserved = s.attributed(now)
	for _, p := range []Priority{Default, Interactive, Batch} {
		out.QueuedIn[p] = s.waitingIn[bandOf(p)]
	}
	names := make([]string, len(s.models))
	for name, i := range s.models {
		names[i] = name
	}
	for _, b := range s.pool {
		out.Backends = append(out.Backends, s.snapshotOf(b, names, now))
	}
	return out
}

func (s *Scheduler) snapshotOf(b *backend, models []string, now Instant) BackendSnapshot {
	out := BackendSnapshot{
		ID: b.ID, Address: b.Address, Class: b.Class, State: b.state(now), Why: b.whyNot(now), Usable: b.takes(now),
		Slots: b.slots(), Outstanding: len(b.running), Models: slices.Sorted(slices.Values(b.modelsServed())),
		Can: maps.Clone(b.load.Can), Instance: b.load.Instance, Served: b.served, Failed: b.failed,
	}
	if out.Models == nil && b.modelsServed() != nil {
		out.Models = []string{} // none, rather than any
	}
	if at, ok := b.comesBack(now); ok {
		out.ReopensIn = max(0, at.Sub(now))
	}
	for i, speed := range b.speeds {
		if speed == nil || !speed.Known() {
			continue
		}
		out.Speeds = append(out.Speeds, SpeedSnapshot{
			Model:        models[i],
			TenSeconds:   duration(speed.Theta(1) * speed.Cost.Of(referenceSeconds)),
			Observations: speed.Observations(),
			Spread:       speed.Spread(),
		})
	}
	slices.SortFunc(out.Speeds, func(a, b SpeedSnapshot) int { return strings.Compare(a.Model, b.Model) })
	return out
}
