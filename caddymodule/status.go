package caddymodule

import (
	"fmt"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// What the status tells of single jobs. The rest is only counted.
const (
	waitingShown    = 50 // of the queue
	placementsShown = 30
)

// audience is who reads a status.
type audience struct {
	// operator: may drain, and sees ids of requests and what is found and drained.
	operator bool
	// addresses: sees where backends are.
	addresses bool
}

var forOperators = audience{operator: true, addresses: true}

// status is the state of the pools as JSON, which the status page, `whisperpool top` and scripts read. Times are in
// seconds. There is nothing in it that a client wrote but ids of requests, for operators.
type status struct {
	Time time.Time `json:"time"`
	// Drains: whoever reads this may drain backends.
	Drains bool         `json:"drains"`
	Pools  []poolStatus `json:"pools"`
}

type poolStatus struct {
	Name        string  `json:"name"`
	Policy      string  `json:"policy"`
	Queued      int     `json:"queued"`
	QueuedBytes int64   `json:"queued_bytes"`
	HeldBytes   int64   `json:"held_bytes"`
	OldestWait  float64 `json:"oldest_wait"`
	Running     int     `json:"running"`
	// Slots are those of the backends that can be used.
	Slots    int             `json:"slots"`
	Backends []backendStatus `json:"backends"`
	// Waiting are the first of the queue, in the order in which they are expected to go.
	Waiting    []waitingStatus   `json:"waiting"`
	Placements []placementStatus `json:"placements"` // the newest first
	History    historyStatus     `json:"history"`
	// Discover are the sources of backends.
	Discover []discoverStatus `json:"discover,omitzero"`
	// Drained are those that an operator has drained, those that are not configured at present included.
	Drained []scheduler.BackendID `json:"drained,omitzero"`
}

// discoverStatus is a source of backends and what it gave last.
type discoverStatus struct {
	Source    string   `json:"source"`
	Addresses []string `json:"addresses"`
	// Failure is why it gives none now; those that it gave before are kept.
	Failure string `json:"failure,omitempty"`
	// LeftOut are addresses that another pool has, and which.
	LeftOut map[string]string `json:"left_out,omitempty"`
}

type backendStatus struct {
	ID        scheduler.BackendID `json:"id"`
	Address   string              `json:"address,omitempty"`
	Class     string              `json:"class,omitempty"`
	State     string              `json:"state"`
	Why       string              `json:"why,omitempty"`
	Usable    bool                `json:"usable"`
	Slots     int                 `json:"slots"`
	Running   int                 `json:"running"`
	Models    []string            `json:"models"` // null: not told
	Instance  string              `json:"instance,omitempty"`
	Served    uint64              `json:"served"`
	Failed    uint64              `json:"failed"`
	ReopensIn float64             `json:"reopens_in,omitempty"`
	Speeds    []speedStatus       `json:"speeds"`
	Jobs      []jobStatus         `json:"jobs"` // that run there, the first started first
}

type speedStatus struct {
	Model        string  `json:"model"`
	TenSeconds   float64 `json:"ten_seconds"` // predicted for a recording of 10 s
	Observations int     `json:"observations"`
	Spread       float64 `json:"spread"`
}

// jobStatus is an attempt that runs.
type jobStatus struct {
	Model     string  `json:"model"`
	Audio     float64 `json:"audio"`
	For       float64 `json:"for"`       // so far
	Predicted float64 `json:"predicted"` // in all; 0: not known
	Number    int     `json:"number"`    // of the attempt, 1 for the job's first
	Trial     bool    `json:"trial,omitempty"`
	Hedge     bool    `json:"hedge,omitempty"`
}

// waitingStatus is a job in the queue. Without a backend nobody can serve it now, or no speed is known.
type waitingStatus struct {
	Model    string              `json:"model"`
	Audio    float64             `json:"audio"`
	Priority string              `json:"priority"`
	Waited   float64             `json:"waited"`
	Attempts int                 `json:"attempts,omitempty"` // that have failed
	Backend  scheduler.BackendID `json:"backend,omitempty"`  // who is expected to serve it,
	StartsIn float64             `json:"starts_in"`          // when,
	EndsIn   float64             `json:"ends_in"`            // and when it is expected to be done
}

// placementStatus is a request that went to a backend, with its last attempt.
type placementStatus struct {
	At        time.Time           `json:"at"`
	RequestID string              `json:"request_id,omitempty"`
	Model     string              `json:"model"`
	Audio     float64             `json:"audio"`
	Backend   scheduler.BackendID `json:"backend"`
	Class     string              `json:"class,omitempty"`
	Reason    string              `json:"reason"`   // as in metrics,
	InWords   string              `json:"in_words"` // and for people
	Number    int                 `json:"number"`   // of the attempt
	Queued    float64             `json:"queued"`
	Predicted float64             `json:"predicted"` // 0: nothing was known
	Took      float64             `json:"took"`      // so far, while it runs
	Running   bool                `json:"running"`
	Outcome   string              `json:"outcome,omitempty"` // of the request, once it is over
	Result    string              `json:"result,omitempty"`  // of the attempt, once it is over
}

// statusOf is the state of some pools.
func statusOf(all []*Pool, to audience) status {
	out := status{Time: time.Now().Round(time.Millisecond), Drains: to.operator, Pools: make([]poolStatus, 0, len(all))}
	for _, p := range all {
		out.Pools = append(out.Pools, p.status(to))
	}
	return out
}

func (p *Pool) status(to audience) poolStatus {
	s, work := p.dispatcher.Work(waitingShown)
	out := poolStatus{
		Name: p.name, Policy: s.Policy, Queued: s.Queued, QueuedBytes: s.QueuedBytes, HeldBytes: s.HeldBytes, OldestWait: seconds(s.OldestWait),
		Running: s.Running, Backends: make([]backendStatus, 0, len(s.Backends)), History: p.history.lately(),
	}
	names := to.names(s.Backends)
	jobs := work.Running // in the order of the backends
	for i := range s.Backends {
		b := &s.Backends[i]
		shown := statusOfBackend(b, names(b.ID), to)
		for ; len(jobs) > 0 && jobs[0].Backend == b.ID; jobs = jobs[1:] {
			shown.Jobs = append(shown.Jobs, statusOfJob(&jobs[0]))
		}
		if b.Usable {
			out.Slots += b.Slots
		}
		out.Backends = append(out.Backends, shown)
	}
	out.Waiting = statusOfWaiting(work.Waiting, names)
	out.Placements = statusOfPlacements(p.lastPlacements(placementsShown), names, to)
	if to.operator {
		out.Discover, out.Drained = p.sources(), append([]scheduler.BackendID{}, p.drainedIDs()...)
	}
	return out
}

func statusOfBackend(b *scheduler.BackendSnapshot, name scheduler.BackendID, to audience) backendStatus {
	out := backendStatus{
		ID: name, Class: b.Class, State: b.State, Why: b.Why, Usable: b.Usable, Slots: b.Slots, Running: b.Outstanding, Models: b.Models,
		Served: b.Served, Failed: b.Failed, ReopensIn: seconds(b.ReopensIn), Speeds: make([]speedStatus, 0, len(b.Speeds)),
		Jobs: make([]jobStatus, 0, b.Outstanding),
	}
	if to.addresses {
		out.Address, out.Instance = withoutUser(b.Address), b.Instance
	}
	for _, speed := range b.Speeds {
		out.Speeds = append(out.Speeds, speedStatus{speed.Model, speed.TenSeconds.Seconds(), speed.Observations, speed.Spread})
	}
	return out
}

func statusOfJob(j *scheduler.Running) jobStatus {
	return jobStatus{
		Model: j.Model, Audio: j.AudioSeconds, For: seconds(j.For), Predicted: seconds(j.Predicted), Number: j.Number, Trial: j.Trial, Hedge: j.Hedge,
	}
}

func statusOfWaiting(all []scheduler.Waiting, name naming) []waitingStatus {
	out := make([]waitingStatus, 0, len(all))
	for i := range all {
		w := &all[i]
		shown := waitingStatus{Model: w.Model, Audio: w.AudioSeconds, Priority: bandNames[w.Priority], Waited: seconds(w.Waited), Attempts: w.Attempts}
		if w.Known {
			shown.Backend, shown.StartsIn, shown.EndsIn = name(w.Backend), seconds(w.StartsIn), seconds(w.StartsIn+w.Takes)
		}
		out = append(out, shown)
	}
	return out
}

func statusOfPlacements(all []placement, name naming, to audience) []placementStatus {
	out := make([]placementStatus, 0, len(all))
	for i := range all {
		p := &all[i]
		shown := placementStatus{
			At: p.At.Round(time.Millisecond), Model: p.Model, Audio: p.Audio, Backend: name(p.Backend), Class: p.Class, Reason: p.Reason.String(),
			InWords: p.Why, Number: p.Number, Queued: seconds(p.Queued), Predicted: seconds(p.Predicted), Took: seconds(p.Took),
			Running: p.Running, Outcome: p.Outcome, Result: p.Result,
		}
		if to.operator {
			shown.RequestID, shown.InWords = p.RequestID, p.InWords
		}
		out = append(out, shown)
	}
	return out
}

// naming is what a backend is called.
type naming func(scheduler.BackendID) scheduler.BackendID

// names has backends that the configuration gives no name, and which are so called by their address, called by
// their place where addresses are not shown.
func (to audience) names(backends []scheduler.BackendSnapshot) naming {
	if to.addresses {
		return func(id scheduler.BackendID) scheduler.BackendID { return id }
	}
	called := make(map[scheduler.BackendID]scheduler.BackendID, len(backends))
	for i := range backends {
		b := &backends[i]
		if called[b.ID] = b.ID; string(b.ID) == b.Address {
			called[b.ID] = scheduler.BackendID(fmt.Sprintf("backend %d", i+1))
		}
	}
	return func(id scheduler.BackendID) scheduler.BackendID {
		if name, ok := called[id]; ok {
			return name
		}
		return "one that is gone"
	}
}

// seconds are told to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
