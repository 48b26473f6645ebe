package recording

import (
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// What the scheduler takes a job of unknown length for, see scheduler.Job.
const (
	guessBytesPerSecond = 16_000
	guessSeconds        = 30
)

func (c *collector) arrive(at scheduler.Instant, told scheduler.Job) {
	c.Jobs++
	j := &pending{Job: told, arrived: at, own: -1, words: true, number: -1}
	c.jobs[told.ID] = j
	if told.SizeGuessed || told.AudioSeconds <= 0 {
		c.Unknown++
	}
	if told.Tenant != 0 {
		c.tenants[told.Tenant] = struct{}{}
	}
	m := c.models[told.Model]
	if m == nil {
		m = &ModelSummary{Model: told.Model}
		c.models[told.Model] = m
	}
	m.Jobs++
	if c.workload == nil {
		return
	}
	class := Class{told.Model, told.Needs}
	number, known := c.classes[class]
	if !known {
		number = int32(len(c.workload.Classes))
		c.classes[class] = number
		c.workload.Classes = append(c.workload.Classes, class)
	}
	j.number = len(c.workload.Jobs)
	job := Job{
		At: time.Duration(at), Audio: lengthOf(told), Told: told.AudioSeconds, Luck: 1, Bytes: told.Bytes, Tenant: told.Tenant,
		Class: number, own: -1, Priority: told.Priority, Guessed: told.SizeGuessed, Words: true,
	}
	if told.Deadline > 0 {
		job.Deadline = max(1, told.Deadline.Sub(at))
	}
	c.workload.Jobs = append(c.workload.Jobs, job)
}

// lengthOf is what the scheduler counts with.
func lengthOf(j scheduler.Job) float64 {
	switch {
	case j.AudioSeconds > 0:
		return j.AudioSeconds
	case j.Bytes > 0:
		return max(1, float64(j.Bytes)/guessBytesPerSecond)
	}
	return guessSeconds
}

func (c *collector) dispatch(at scheduler.Instant, d scheduler.Dispatch) {
	i, ok := c.byID[d.Backend]
	if !ok {
		return
	}
	b := c.backends[i]
	b.advance(at)
	b.running++
	b.most = max(b.most, b.running)
	c.attempts[d.Attempt] = attempt{d.Job, d.Trial, i, d.Model, at, b.area}
	if j := c.jobs[d.Job]; j != nil && !d.Trial {
		b.Attempts++
		c.Attempts++
		if j.attempts++; j.attempts == 2 {
			c.Retried++
		}
	}
}

func (c *collector) finish(at scheduler.Instant, f scheduler.Finished) {
	a, ok := c.attempts[f.Attempt]
	if !ok { // dispatched before the recording began
		return
	}
	delete(c.attempts, f.Attempt)
	b := c.backends[a.backend]
	b.advance(at)
	b.running--
	j := c.jobs[a.job]
	if j == nil || a.trial {
		return
	}
	b.Ended[f.Outcome.Result.String()]++
	if f.Outcome.Result != scheduler.Success {
		return
	}
	b.served++
	j.took, j.own, j.words, j.audio = at.Sub(a.began), a.backend, f.Outcome.Words, lengthOf(j.Job)
	if f.Outcome.AudioSeconds > 0 {
		j.audio = f.Outcome.AudioSeconds
	}
	took := j.took.Seconds()
	b.audio, b.serving = b.audio+j.audio, b.serving+took
	j.beside = 1
	if took > 0 {
		j.beside = float32((b.area - a.areaThen) / took)
		if j.words {
			b.seen[a.model] = append(b.seen[a.model], seen{float32(j.audio), float32(took), j.beside})
		}
	}
}

func (c *collector) settle(at scheduler.Instant, s scheduler.Settle) {
	j := c.jobs[s.Job]
	if j == nil {
		c.Earlier++
		return
	}
	delete(c.jobs, s.Job)
	c.Settled[s.Reason.String()]++
	state := lost
	switch s.Reason {
	case scheduler.Served:
		state = served
		took := at.Sub(j.arrived).Seconds()
		c.waiting = append(c.waiting, s.Waited.Seconds())
		c.service = append(c.service, j.took.Seconds())
		c.response = append(c.response, took)
		c.Audio += j.audio
		m := c.models[j.Model]
		m.Served++
		m.Audio += j.audio
		m.Response += took
	case scheduler.ClientGone:
		state = gone
	case scheduler.Refused:
		state = wrong
	}
	if c.workload == nil {
		return
	}
	job := &c.workload.Jobs[j.number]
	job.state = state
	switch {
	case state == served:
		job.Audio, job.Luck, job.own, job.beside, job.Words = j.audio, j.took.Seconds(), int32(j.own), j.beside, j.words
	case state == gone && j.left:
		job.Leaves = max(1, j.leftAt.Sub(j.arrived))
	}
}
