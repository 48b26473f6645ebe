package bench

import (
	"context"
	"sync"
	"time"
)

// Send makes the request of a job and waits for the end of its answer, or for the end of ctx.
type Send func(ctx context.Context, job Job) Outcome

// Result is what a run was.
type Result struct {
	Samples     []Sample        // in the order in which they ended
	Further     []Sample        // those that only sustained the load
	Wall        time.Duration   // from the first start to the last end of a counted request
	Hiccups     []time.Duration // how late a timer of the generator was, every few milliseconds
	Interrupted bool            // ended by ctx before its time
}

// Run does what the schedule says and returns when all answers are in. The end of ctx stops new
// requests and abandons those under way. Watch may be nil.
func Run(ctx context.Context, schedule *Schedule, send Send, watch *Progress) Result {
	r := &run{ctx: ctx, schedule: schedule, send: send, watch: watch}
	meter := startHiccupMeter()
	r.start = time.Now()
	switch {
	case schedule.load.Burst > 0:
		r.burst()
	case schedule.load.Clients > 0:
		r.closed()
	default:
		r.open()
	}
	r.waiting.Wait()
	result := Result{Samples: r.samples, Further: r.more, Hiccups: meter.stop()}
	if n := len(r.samples); n > 0 {
		result.Wall = r.samples[n-1].Done
	}
	result.Interrupted = ctx.Err() != nil
	return result
}

type run struct {
	ctx      context.Context
	schedule *Schedule
	send     Send
	watch    *Progress
	start    time.Time
	waiting  sync.WaitGroup

	mu      sync.Mutex // of samples, more and, in a closed loop, the schedule
	samples []Sample
	more    []Sample
	led     int // requests before the counted ones, of a sustained loop
}

// one makes a job's request and keeps what came of it.
func (r *run) one(job Job) {
	s := Sample{Job: job, Sent: time.Since(r.start)}
	r.watch.started()
	r.fill(&s)
	r.watch.ended(s.Class)
	r.mu.Lock()
	r.samples = append(r.samples, s)
	r.mu.Unlock()
}

// further makes a request that is not counted.
func (r *run) further(job Job) {
	s := Sample{Job: job, Sent: time.Since(r.start)}
	r.fill(&s)
	r.mu.Lock()
	r.more = append(r.more, s)
	r.mu.Unlock()
}

func (r *run) fill(s *Sample) {
	s.Outcome = r.send(r.ctx, s.Job)
	s.Done = time.Since(r.start)
}

// burst has every request ready to go before the first goes.
func (r *run) burst() {
	jobs := r.schedule.Jobs()
	var ready sync.WaitGroup
	ready.Add(len(jobs))
	start := make(chan struct{})
	for _, job := range jobs {
		r.waiting.Go(func() {
			ready.Done()
			<-start
			r.one(job)
		})
	}
	ready.Wait()
	r.start = time.Now()
	close(start)
}

// closed has each client take the next job when it has the answer to the last.
func (r *run) closed() {
	load := r.schedule.load
	for range load.Clients {
		r.waiting.Go(func() {
			for r.ctx.Err() == nil && (load.Duration == 0 || time.Since(r.start) < load.Duration) {
				job, counted, ok := r.next()
				switch {
				case !ok:
					return
				case counted:
					r.one(job)
				default:
					r.further(job)
				}
			}
		})
	}
}

// leadIn is how many requests of each client come before the counted ones of a sustained loop: those
// that start together find nobody before them, and the next ones find those.
const leadIn = 2

// next is the next job of a closed loop, and whether it is counted.
func (r *run) next() (job Job, counted, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if load := r.schedule.load; load.Sustain && r.led < leadIn*load.Clients {
		r.led++
		return r.schedule.further(), false, true
	}
	if job, ok = r.schedule.Next(); ok {
		return job, true, true
	}
	if r.schedule.load.Sustain && len(r.samples) < r.schedule.load.Requests {
		return r.schedule.further(), false, true
	}
	return Job{}, false, false
}

// open starts each request when it is due, however many are under way.
func (r *run) open() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		job, ok := r.schedule.Next()
		if !ok {
			return
		}
		if early := job.At - time.Since(r.start); early > 0 {
			timer.Reset(early)
			select {
			case <-r.ctx.Done():
				return
			case <-timer.C:
			}
		}
		if r.ctx.Err() != nil {
			return
		}
		r.waiting.Go(func() { r.one(job) })
	}
}

// hiccupEvery is how often the meter looks; a pause shorter than that may go unseen.
const hiccupEvery = 5 * time.Millisecond

// hiccupMeter measures how late timers are. Requests suffer the same lateness: where it is large,
// the generator's machine is too busy to measure with.
type hiccupMeter struct {
	end  chan struct{}
	done chan []time.Duration
}

func startHiccupMeter() *hiccupMeter {
	m := &hiccupMeter{end: make(chan struct{}), done: make(chan []time.Duration, 1)}
	go func() {
		var late []time.Duration
		timer := time.NewTimer(hiccupEvery)
		defer timer.Stop()
		for {
			due := time.Now().Add(hiccupEvery)
			timer.Reset(hiccupEvery)
			select {
			case <-m.end:
				m.done <- late
				return
			case <-timer.C:
				late = append(late, max(0, time.Since(due)))
			}
		}
	}()
	return m
}

func (m *hiccupMeter) stop() []time.Duration {
	close(m.end)
	return <-m.done
}
