package sim

import (
	"math"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// Sender is somebody who sends a share of the jobs.
type Sender struct {
	Share    float64          // relative to those of the others
	Tenant   scheduler.Tenant // 0: none
	Priority scheduler.Priority
}

// Leaving is how clients leave before they are served: a share of them, After that long on average
// (exponential), wherever their job is by then.
type Leaving struct {
	Share float64
	After time.Duration
}

// LoadChange has jobs come Times as often as the load says, from a time after the warm-up on.
type LoadChange struct {
	At    time.Duration
	Times float64
}

// The form of a file, see study.go.
type (
	senderFile struct {
		Share    float64 `json:"share"`
		Tenant   uint64  `json:"tenant"`
		Priority string  `json:"priority"`
	}
	leavingFile struct {
		Share float64 `json:"share"`
		After float64 `json:"after_s"`
	}
	changeFile struct {
		At    float64 `json:"at_s"`
		Times float64 `json:"times"`
	}
)

func (f studyFile) clients(st *Study, c *complaints) {
	st.MaxWait = duration(f.MaxWait)
	st.Leaving = Leaving{Share: f.Leaving.Share, After: duration(f.Leaving.After)}
	priorities := map[string]scheduler.Priority{
		"": scheduler.Default, "default": scheduler.Default, "interactive": scheduler.Interactive, "batch": scheduler.Batch,
	}
	for _, s := range f.Senders {
		priority, ok := priorities[s.Priority]
		c.unless(ok, "senders: there is no priority %q, only interactive, default and batch", s.Priority)
		st.Senders = append(st.Senders, Sender{s.Share, scheduler.Tenant(s.Tenant), priority})
	}
}

func (sc Scenario) validateClients(c *complaints) {
	c.unless(sc.MaxWait >= 0, "max_wait_s is negative")
	for _, s := range sc.Senders {
		c.unless(positive(s.Share), "senders: the share %v must be above 0", s.Share)
		c.unless(s.Priority <= scheduler.Batch, "senders: there is no priority %d", s.Priority)
	}
	l := sc.Leaving
	c.unless(l == Leaving{} || l.Share > 0 && l.Share <= 1 && l.After > 0, "leaving needs share, above 0 and at most 1, and after_s, above 0")
	c.unless(l == Leaving{} && len(sc.Senders) == 0 || sc.Recorded == nil, "senders and leaving are not for recordings, which know their own")
}

// sender is who sends the job of a number.
func (sc *Scenario) sender(number int) Sender {
	if len(sc.Senders) == 0 {
		return Sender{}
	}
	all := 0.0
	for _, s := range sc.Senders {
		all += s.Share
	}
	at := all * stream(sc.Seed, streamSenders, uint64(number)).Float64()
	for _, s := range sc.Senders[:len(sc.Senders)-1] {
		if at -= s.Share; at < 0 {
			return s
		}
	}
	return sc.Senders[len(sc.Senders)-1]
}

// patience is after how long the client of the job of a number leaves, 0 never.
func (sc *Scenario) patience(number int) time.Duration {
	if sc.Leaving.Share == 0 {
		return 0
	}
	chance := stream(sc.Seed, streamLeaving, uint64(number))
	if chance.Float64() >= sc.Leaving.Share {
		return 0
	}
	return max(1, time.Duration(math.Round(float64(sc.Leaving.After)*chance.ExpFloat64())))
}

// leaveLater has a job's client leave when its patience or its deadline ends, unless it is served before.
func (e *engine) leaveLater(j *job) {
	left, after := true, e.sc.patience(j.number)
	if r := j.recorded; r != nil {
		after = r.Leaves
		if after == 0 || r.Deadline > 0 && r.Deadline < after {
			left, after = false, r.Deadline
		}
	}
	if after == 0 || j.settled {
		return
	}
	e.agenda.at(e.now.Add(after), func() {
		if !j.settled {
			j.left = left
			e.front.leave(j)
		}
	})
}

// busier is how many times as often as the load says jobs come now.
func (e *engine) busier() float64 {
	times := 1.0
	for _, change := range e.sc.Load.Changes {
		if e.began && e.now >= e.start.Add(change.At) {
			times = change.Times
		}
	}
	return times
}
