package emulator

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// Faults are what is wrong with an emulated server at present; all its models share them. It must be
// made by [NewFaults]; nil has none.
type Faults struct {
	log *slog.Logger
	die func() // ends the process as kill -9 does

	mu     sync.Mutex
	active []*active
}

// active is a fault that was set.
type active struct {
	Fault
	ends time.Time     // zero: never
	over chan struct{} // closed when it is cleared or its time is up
	end  func()        // closes it

	// Guarded by Faults.mu.
	rng    *rand.Rand
	struck int // requests
}

// NewFaults makes a set that is empty. What is set and cleared is logged.
func NewFaults(log *slog.Logger) *Faults {
	return &Faults{log: log, die: func() {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			log.Error("this process could not kill itself", "error", err)
		}
	}}
}

// Set puts faults in place of those that there were. They must come from [ParseFaults].
func (f *Faults) Set(faults []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.active {
		a.end()
	}
	f.active = nil
	for _, fault := range faults {
		a := &active{Fault: fault, over: make(chan struct{}), rng: rand.New(rand.NewPCG(fault.Seed, 1))}
		a.end = sync.OnceFunc(func() { close(a.over) })
		if fault.For > 0 {
			a.ends = time.Now().Add(time.Duration(fault.For))
			stop, end := time.AfterFunc(time.Duration(fault.For), a.end).Stop, a.end
			a.end = func() { stop(); end() }
		}
		f.active = append(f.active, a)
		f.log.Warn("a fault is on", "fault", fault.Kind, "on", fault.On, "for", time.Duration(fault.For), "requests", fault.Requests)
	}
	if len(faults) == 0 {
		f.log.Info("no fault is on")
	}
}

// ended tells whether it strikes no more. The caller holds Faults.mu.
func (a *active) ended() bool {
	select {
	case <-a.over:
		return true
	default:
		return a.Requests > 0 && a.struck >= a.Requests
	}
}

// strike is the faults that hit one more job, or one more request of those that on says.
func (f *Faults) strike(ofJobs bool, on string) (hits []*active) {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.active {
		k, _ := kindOf(a.Kind)
		if k.ofJobs != ofJobs || a.ended() || a.On != onAll && a.On != on {
			continue
		}
		if a.Share > 0 && a.rng.Float64() >= a.Share {
			continue
		}
		a.struck++
		hits = append(hits, a)
	}
	return hits
}

// onJob has faults happen to a job in its slot: it returns how many times as long the job takes and
// whether its transcript has no words, once nothing holds it any more. The error is ctx's.
func (f *Faults) onJob(ctx context.Context) (factor float64, silent bool, err error) {
	factor = 1
	for _, a := range f.strike(true, onTranscriptions) {
		switch a.Kind {
		case Slow:
			factor *= a.Factor
		case Silent:
			silent = true
		case Hang:
			select {
			case <-a.over:
			case <-ctx.Done():
				return factor, silent, ctx.Err()
			}
		}
	}
	return factor, silent, nil
}

// silence takes the words out of a transcript.
func silence(t transcript.Transcript) transcript.Transcript {
	t.Segments, t.Words = nil, nil
	return t
}
