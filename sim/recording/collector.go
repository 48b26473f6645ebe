package recording

import (
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/journal"
)

// collector counts what happens, and keeps what is needed of each job.
type collector struct {
	Summary
	workload    *Workload // nil unless wanted
	config      scheduler.Config
	first, last scheduler.Instant
	midway      bool // the recording begins now, and what is in it began before

	jobs     map[scheduler.JobID]*pending
	attempts map[scheduler.AttemptID]attempt
	tenants  map[scheduler.Tenant]struct{}
	models   map[string]*ModelSummary
	classes  map[Class]int32
	backends []*backend // in order of appearance
	byID     map[scheduler.BackendID]int

	waiting, service, response []float64
}

// pending is a job that is not settled.
type pending struct {
	scheduler.Job
	number   int // in the workload
	arrived  scheduler.Instant
	attempts int
	left     bool
	leftAt   scheduler.Instant
	// Of its last success:
	took   time.Duration
	audio  float64
	beside float32
	own    int
	words  bool
}

// attempt is one that runs.
type attempt struct {
	job      scheduler.JobID
	trial    bool // the proxy's own, see scheduler.Dispatch
	backend  int
	model    string
	began    scheduler.Instant
	areaThen float64
}

// backend is one that was ever configured.
type backend struct {
	Backend
	config  scheduler.Backend
	load    scheduler.Load
	running int
	most    int     // running at a time
	area    float64 // seconds of its attempts until since
	since   scheduler.Instant

	served         int
	audio, serving float64 // of successes: seconds of audio, and of service
	seen           map[string][]seen
	gain           float64

	configured, healthy bool
	strikes             int
	there               bool
	away                []time.Duration
}

func newCollector(workload bool) *collector {
	c := &collector{
		jobs: map[scheduler.JobID]*pending{}, attempts: map[scheduler.AttemptID]attempt{}, tenants: map[scheduler.Tenant]struct{}{},
		models: map[string]*ModelSummary{}, classes: map[Class]int32{}, byID: map[scheduler.BackendID]int{},
	}
	c.Settled = map[string]int{}
	if workload {
		c.workload = &Workload{}
	}
	return c
}

// open takes in a segment's header. What is in those of later segments is known already.
func (c *collector) open(h journal.Header) {
	if c.Configs == 0 {
		c.midway = h.Segment > 0
		c.configure(0, h.Config)
		c.midway = false
		c.restored(h.Speeds)
	}
}

// restored notes what was known of speeds before the first job.
func (c *collector) restored(speeds []scheduler.SpeedRecord) {
	if c.workload != nil && c.Jobs == 0 {
		c.workload.Speeds = append(c.workload.Speeds, speeds...)
	}
}

func (c *collector) step(r journal.Record) {
	if c.Records == 0 {
		c.first = r.At
	}
	c.Records++
	c.last = r.At
	switch ev := r.Event.(type) {
	case scheduler.Arrived:
		c.arrive(r.At, ev.Job)
	case scheduler.Canceled:
		if j := c.jobs[ev.Job]; j != nil && !j.left {
			j.left, j.leftAt = true, r.At
		}
	case scheduler.Finished:
		c.finish(r.At, ev)
	case scheduler.Probed:
		c.probed(r.At, ev)
	case scheduler.Reported:
		if i, ok := c.byID[ev.Backend]; ok {
			c.backends[i].report(ev.Load)
		}
	case scheduler.Configured:
		c.configure(r.At, ev.Config)
	case scheduler.Restored:
		c.restored(ev.Speeds)
	}
	for _, d := range r.Decisions {
		switch d := d.(type) {
		case scheduler.Dispatch:
			c.dispatch(r.At, d)
		case scheduler.Settle:
			c.settle(r.At, d)
		}
	}
}

func (c *collector) configure(at scheduler.Instant, cfg scheduler.Config) {
	c.Configs++
	c.config = cfg
	policy := cfg.Policy
	if policy == "" {
		policy = "latency_aware"
	}
	if !slices.Contains(c.Policies, policy) {
		c.Policies = append(c.Policies, policy)
	}
	for _, b := range c.backends {
		b.configured = false
	}
	for _, told := range cfg.Backends {
		i, known := c.byID[told.ID]
		if !known {
			i = len(c.backends)
			c.byID[told.ID] = i
			c.backends = append(c.backends, &backend{
				Backend: Backend{Name: string(told.ID), Class: told.Class, Ended: map[string]int{}}, seen: map[string][]seen{},
				healthy: !told.Checked || c.midway, since: at, there: true,
			})
		}
		b := c.backends[i]
		b.config, b.configured, b.Class = told, true, told.Class
		b.healthy = b.healthy || !told.Checked
	}
	for _, b := range c.backends {
		b.follow(at)
	}
}

// probed takes in a health check, as the scheduler does: while jobs run there one failure says nothing.
func (c *collector) probed(at scheduler.Instant, e scheduler.Probed) {
	i, ok := c.byID[e.Backend]
	if !ok {
		return
	}
	b := c.backends[i]
	switch {
	case e.Healthy:
		b.healthy, b.strikes = true, 0
	case e.Loading:
		b.healthy, b.strikes = false, 0
	default:
		if b.strikes++; b.strikes > 1 || b.running == 0 {
			b.healthy = false
		}
	}
	b.follow(at)
}

// follow notes when the backend goes or comes back.
func (b *backend) follow(at scheduler.Instant) {
	if there := b.configured && b.healthy && !b.config.Drained; there != b.there {
		b.there = there
		b.away = append(b.away, time.Duration(at))
	}
}

// report takes in what a backend says; what it does not say stays as it was.
func (b *backend) report(l scheduler.Load) {
	if l.Slots > 0 {
		b.load.Slots = l.Slots
	}
	if l.Models != nil {
		b.load.Models, b.load.Can = l.Models, l.Can
	}
	if l.Instance != "" {
		b.load.Instance = l.Instance
	}
}

// does says whether the backend serves a model.
func (b *backend) does(model string) bool {
	models := b.config.Models
	if models == nil {
		models = b.load.Models
	}
	return models == nil || slices.Contains(models, model)
}

// slots are those that are configured, else reported, else as many as it was seen to use.
func (b *backend) slots() int {
	switch {
	case b.config.Slots > 0:
		return b.config.Slots
	case b.load.Slots > 0:
		return b.load.Slots
	}
	return max(1, b.most)
}

// advance brings the area up to date.
func (b *backend) advance(now scheduler.Instant) {
	b.area += float64(b.running) * now.Sub(b.since).Seconds()
	b.since = now
}
