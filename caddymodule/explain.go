package caddymodule

import (
	"cmp"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
)

// What a pool remembers of its last requests, to tell why each went where it went. All of it is bounded: a story
// takes some 2 KiB, and with as many attempts as are kept some 10.
const (
	placedKept   = 1000 // requests that went to a backend, or wait again after that
	refusedKept  = 250  // requests that never did; they are apart, since many may be refused at once
	attemptsKept = 8    // of a request: the first, and the last
	listKept     = 8    // backends of a list
	detailKept   = 200  // bytes of an attempt's detail
	looksKept    = 16   // kinds of job that the backends were looked at for
	// lookFor is how long a look at the backends is good for, as to which take such jobs at all; refusedLookFor
	// that of a request that is refused. Many may come at once, and each look takes the scheduler's lock.
	lookFor        = time.Second
	refusedLookFor = 100 * time.Millisecond
)

// memory is a pool's, and lives as long as that.
type memory struct {
	mu      sync.Mutex
	waiting map[*story]struct{} // those that were never placed, and are not over
	placed  ring                // in the order of the first placement
	refused ring

	looking sync.Mutex
	looks   map[lookKey]*look
}

// ring keeps the last stories.
type ring struct {
	most    int
	stories []*story
	next    int // where the next one goes, once it is full
}

func newMemory() *memory {
	return &memory{
		waiting: map[*story]struct{}{}, placed: ring{most: placedKept}, refused: ring{most: refusedKept}, looks: map[lookKey]*look{},
	}
}

func (r *ring) add(s *story) {
	if len(r.stories) < r.most {
		r.stories = append(r.stories, s)
		return
	}
	r.stories[r.next] = s
	r.next = (r.next + 1) % r.most
}

// newestFirst lists at most so many.
func (r *ring) newestFirst(most int) []*story {
	n := len(r.stories)
	out := make([]*story, 0, min(most, n))
	for i := range min(most, n) {
		out = append(out, r.stories[(r.next+n-1-i)%n])
	}
	return out
}

// story is what is remembered of one request. Nothing that a client wrote is in it but the request's id, which is
// bounded and printable; its methods take a nil receiver, which is a trial.
type story struct {
	memory *memory
	id     string
	came   time.Time
	job    scheduler.Job // what it asks for; without an ID

	mu       sync.Mutex
	attempts []*chapter
	leftOut  int    // attempts between the first ones and the last
	outcome  string // "" until it is over
	ended    time.Time
	waited   time.Duration        // in the queue, when it is over
	code     string               // of the error that it was answered with; "" for none
	found    []scheduler.Prospect // what the backends were when it was turned away
	foundNot int                  // backends that found leaves out
}

// chapter is one attempt.
type chapter struct {
	scheduler.Dispatch
	class      string
	began      time.Time
	considered scheduler.Considered
	absent     []absence // backends that were no candidates
	absentNot  int       // those that absent leaves out
	result     scheduler.Result
	took       time.Duration
	detail     string
}

// absence is a backend that a job could not go to.
type absence struct {
	backend scheduler.BackendID
	why     string
}

// lookKey is what decides which backends take a job.
type lookKey struct {
	model string
	needs scheduler.Capability
}

// look is what the backends were for a job.
type look struct {
	at        time.Time
	audio     float64 // seconds; Predicted holds for that alone
	prospects []scheduler.Prospect
}

// look looks at the backends for a job, unless that was done a moment ago.
func (p *Pool) look(job scheduler.Job, within time.Duration) *look {
	m, key := p.memory, lookKey{job.Model, job.Needs}
	m.looking.Lock()
	defer m.looking.Unlock()
	if l := m.looks[key]; l != nil && time.Since(l.at) < within {
		return l
	}
	if len(m.looks) >= looksKept {
		clear(m.looks)
	}
	l := &look{time.Now(), job.AudioSeconds, p.dispatcher.Prospects(job)}
	m.looks[key] = l
	return l
}

// begin remembers a request that comes into the queue.
func (m *memory) begin(id string, job scheduler.Job) *story {
	if !(job.AudioSeconds > 0 && job.AudioSeconds <= audioMost) { // which has no place in JSON
		job.AudioSeconds = 0
	}
	s := &story{memory: m, id: id, came: time.Now(), job: job}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting[s] = struct{}{}
	return s
}

// placed remembers an attempt that begins.
func (s *story) placed(a dispatcher.Attempt, class string, look *look, at time.Time) {
	if s == nil {
		return
	}
	c := &chapter{Dispatch: a.Dispatch, class: class, began: at, considered: a.Considered}
	for _, p := range look.prospects {
		switch {
		case p.Lacks == "":
		case slices.ContainsFunc(a.Considered.Candidates, func(o scheduler.Candidate) bool { return o.Backend == p.Backend }): // it has come back since
		case len(c.absent) == listKept:
			c.absentNot++
		default:
			c.absent = append(c.absent, absence{p.Backend, p.Lacks})
		}
	}
	s.mu.Lock()
	first := len(s.attempts) == 0
	if len(s.attempts) == attemptsKept {
		s.attempts = slices.Delete(s.attempts, attemptsKept-1, attemptsKept)
		s.leftOut++
	}
	s.attempts = append(s.attempts, c)
	s.mu.Unlock()
	if first {
		s.memory.mu.Lock()
		delete(s.memory.waiting, s)
		s.memory.placed.add(s)
		s.memory.mu.Unlock()
	}
}

// attempted remembers how an attempt ended.
func (s *story) attempted(a dispatcher.Attempt, o scheduler.Outcome, took time.Duration) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.attempts {
		if c.Attempt == a.Attempt && c.result == 0 {
			c.result, c.took = o.Result, took
			c.detail = o.Detail[:min(len(o.Detail), detailKept)]
		}
	}
}

// over remembers how a request ended, whatever becomes of attempts that run yet. It counts once.
func (s *story) over(outcome, code string, waited time.Duration, found *look) {
	if s == nil {
		return
	}
	s.mu.Lock()
	if s.outcome != "" {
		s.mu.Unlock()
		return
	}
	s.outcome, s.ended, s.waited, s.code = outcome, time.Now(), waited, code
	if found != nil {
		s.found, s.foundNot = nearest(found, s.job)
	}
	unplaced := len(s.attempts) == 0
	s.mu.Unlock()
	if unplaced {
		s.memory.mu.Lock()
		delete(s.memory.waiting, s)
		s.memory.refused.add(s)
		s.memory.mu.Unlock()
	}
}

// nearest are the backends of a look that come nearest to having served a job, and how many others there are.
func nearest(l *look, job scheduler.Job) (some []scheduler.Prospect, more int) {
	all := slices.Clone(l.prospects)
	slices.SortStableFunc(all, func(a, b scheduler.Prospect) int {
		if able := (a.Lacks == "") != (b.Lacks == ""); able && a.Lacks == "" {
			return -1
		} else if able {
			return 1
		}
		return cmp.Compare(a.FreeIn+a.Predicted, b.FreeIn+b.Predicted)
	})
	some = slices.Clip(all[:min(len(all), listKept)])
	if l.audio != job.AudioSeconds {
		for i := range some {
			some[i].Predicted = 0
		}
	}
	return some, len(all) - len(some)
}

// endedSince counts the requests that ended so since a moment, of those remembered.
func (m *memory) endedSince(moment time.Time, outcome string) (count int) {
	m.mu.Lock()
	stories := append(m.refused.newestFirst(refusedKept), m.placed.newestFirst(placedKept)...)
	m.mu.Unlock()
	for _, s := range stories {
		s.mu.Lock()
		if s.outcome == outcome && s.ended.After(moment) {
			count++
		}
		s.mu.Unlock()
	}
	return count
}

// remember remembers how the request ended: all that came into the queue, and of the others those that were turned
// away through no fault of their own.
func (t *transcription) remember(outcome string, problem *transcript.Error, waited time.Duration) {
	var code string
	var found *look
	if problem != nil {
		code = t.codeOf(problem)
	}
	turnedAway := problem != nil && (problem.Status >= 500 || problem.Status == http.StatusTooManyRequests)
	switch {
	case t.story == nil && turnedAway:
		t.story = t.pool.memory.begin(t.requestID, scheduler.Job{})
	case turnedAway:
		found = t.pool.look(t.story.job, refusedLookFor)
	}
	t.story.over(outcome, code, waited, found)
}

// placement is one of the last placements of a pool, for whoever shows them.
type placement struct {
	At        time.Time // when the last attempt began
	RequestID string    // as its client wrote it: printable ASCII, at most 128 bytes
	Job       scheduler.JobID
	Attempt   scheduler.AttemptID
	Number    int // of the attempt, 1 for the first
	Model     string
	Audio     float64 // seconds, from the upload's header
	Backend   scheduler.BackendID
	Class     string
	Reason    scheduler.Reason
	Why       string // the reason in words, without names
	InWords   string // the same with what it was chosen over, by the names of backends, which may be addresses
	Queued    time.Duration
	Predicted time.Duration // 0: nothing was known
	Took      time.Duration // so far, while it runs
	Running   bool
	Outcome   string // of the request, as in whisperpool_requests_total; "" while it is not over
	Result    string // of the attempt; "" while it runs
}

// lastPlacements are the last requests that went to a backend, the newest first, each with its last attempt.
func (p *Pool) lastPlacements(most int) []placement {
	p.memory.mu.Lock()
	stories := p.memory.placed.newestFirst(most)
	p.memory.mu.Unlock()
	out := make([]placement, 0, len(stories))
	for _, s := range stories {
		out = append(out, s.last())
	}
	return out
}

// last is the story's last attempt. Requires: there is one.
func (s *story) last() placement {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.attempts[len(s.attempts)-1]
	out := placement{
		At: c.began, RequestID: s.id, Job: c.Job, Attempt: c.Attempt, Number: c.Number, Model: c.Model, Audio: s.job.AudioSeconds,
		Backend: c.Backend, Class: c.class, Reason: c.Reason, Why: reasonWords[c.Reason], InWords: c.why(), Queued: c.Waited, Predicted: c.Predicted,
		Took: c.took, Running: c.result == 0, Outcome: s.outcome,
	}
	if out.Running {
		out.Took = time.Since(c.began)
	} else {
		out.Result = c.result.String()
	}
	return out
}
