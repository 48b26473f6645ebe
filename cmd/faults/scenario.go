package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"
)

// scenario is one fault, or one thing that is promised.
type scenario struct {
	ID, Name, Criterion string
	Theme               theme
	Short               bool // is part of the short form
	Peers               bool // makes sense with other balancers, too
	// Alone: nothing else runs meanwhile, because it measures milliseconds or loads the machine.
	Alone bool
	// Long ones are begun first.
	Long bool
	// Beside: it goes on beside those that are to be alone, since it takes minutes, next to no processor time, and is
	// judged by seconds.
	Beside bool
	// Run says what was measured and whether the criterion was held. An error means that it could not
	// be measured, which is not held either; errSkipped that something it needs is not there.
	Run func(ctx context.Context, e *env) (measured string, held bool, err error)
}

// theme is what a scenario belongs to; each has a line of its own in the table.
type theme string

const (
	breakers  theme = "breaker"   // backends that fail are left alone, and come back
	answers   theme = "answers"   // what is no answer does not reach the client
	attempts  theme = "attempts"  // retries, hung backends, poison, cancellation
	health    theme = "health"    // checks, loading, slow start, draining
	reloads   theme = "reload"    // configurations and restarts
	limits    theme = "limits"    // limits and security
	overloads theme = "load"      // more than the pool can do
	realOnes  theme = "processes" // real processes of ours that are killed, stopped, starved
	parsers   theme = "parsers"   // nonsense to every parser; leaks
	// simulations are what hangs on chance or takes hours, with many seeds in virtual time
	simulations theme = "simulated"
)

var themes = []theme{breakers, answers, attempts, health, reloads, limits, overloads, realOnes, parsers, simulations}

func scenarios() []scenario {
	return slices.Concat(blackHoles, grayOnes, hungOnes, flappingOnes, cancellations, reloadOnes, outages,
		pauses, restarts, uploads, poisons, killedOnes, whisperOnes, shutdowns, refusals, secrets, drains, trialOnes, nonsense, checks, ejections, hedges, streams,
		simulatedPlacing, simulatedFaults, simulatedLoads)
}

var errSkipped = errors.New("skipped")

func skipped(format string, args ...any) (string, bool, error) {
	return "", false, fmt.Errorf("%w: "+format, append([]any{errSkipped}, args...)...)
}

// scenarioLimit is how long a scenario may take; all of them end by themselves long before.
const scenarioLimit = 12 * time.Minute

// result is what became of a scenario with one balancer.
type result struct {
	ID        string  `json:"id"`
	Name      string  `json:"name"`
	Theme     theme   `json:"theme"`
	Criterion string  `json:"criterion"`
	Front     string  `json:"front"`
	Measured  string  `json:"measured"`
	Held      bool    `json:"held"`
	Skipped   bool    `json:"skipped,omitempty"`
	Error     string  `json:"error,omitempty"`
	Seconds   float64 `json:"seconds"`
	Stalled   float64 `json:"stalled"` // share of its time for which this process stood still
	// First is what was measured at the first try, where there was a second; "": there was none.
	First string `json:"first,omitempty"`
	// Undecided: not held, but the machine was too busy to tell.
	Undecided bool `json:"undecided,omitempty"`
}

func (r result) verdict() string {
	switch {
	case r.Skipped:
		return "skipped"
	case r.Held && r.First != "":
		return "held at the second try"
	case r.Held:
		return "held"
	case r.Undecided:
		return "undecided"
	default:
		return "NOT HELD"
	}
}

// run runs scenarios.
type run struct {
	options
	began  time.Time
	load   string // of the machine at the beginning
	stalls stalls
	// simulating: one at a time, since simulations take all the time of a processor, and the others next to none.
	simulating sync.Mutex

	mu      sync.Mutex
	say     io.Writer
	results []result
}

func newRun(o options, say io.Writer) *run {
	return &run{options: o, began: time.Now(), load: loadAverage(), say: say}
}

// task is a scenario to run with one kind of balancer.
type task struct {
	scenario
	kind frontKind
}

// all runs the scenarios with each kind of balancer. In the short form, which has to tell what is broken on machines
// that are busy and slow, those of ours that were not held get a second try when all others are done.
func (r *run) all(ctx context.Context, chosen []scenario, kinds []frontKind) {
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	go r.stalls.watch(watched)
	var tasks []task
	for _, kind := range kinds {
		for _, s := range chosen {
			if kind == ours || s.Peers {
				tasks = append(tasks, task{s, kind})
			}
		}
	}
	r.tasks(ctx, tasks, r.jobs)
	if !r.short {
		return
	}
	again := slices.DeleteFunc(tasks, func(t task) bool {
		return t.kind != ours || !slices.ContainsFunc(r.results, func(res result) bool {
			return res.ID == t.ID && res.Front == string(ours) && !res.Held && !res.Skipped
		})
	})
	r.tasks(ctx, again, (r.jobs+1)/2)
}

// tasks runs some, a few side by side, then those that have to be alone.
func (r *run) tasks(ctx context.Context, all []task, jobs int) {
	var together, alone []task
	var beside sync.WaitGroup
	defer beside.Wait()
	for _, t := range all {
		switch {
		case t.Beside:
			beside.Go(func() { r.note(r.one(ctx, t)) })
		case t.Alone:
			alone = append(alone, t)
		default:
			together = append(together, t)
		}
	}
	slices.SortStableFunc(together, func(a, b task) int {
		switch {
		case a.Long == b.Long:
			return 0
		case a.Long:
			return -1
		}
		return 1
	})
	queue := make(chan task)
	var workers sync.WaitGroup
	for range jobs {
		workers.Go(func() {
			for t := range queue {
				r.note(r.one(ctx, t))
			}
		})
	}
	for _, t := range together {
		queue <- t
	}
	close(queue)
	workers.Wait()
	for _, t := range alone {
		r.note(r.one(ctx, t))
	}
}

var unfit = regexp.MustCompile(`[^a-z0-9.]+`)

// one runs a scenario.
func (r *run) one(ctx context.Context, t task) result {
	if t.Theme == simulations {
		r.simulating.Lock()
		defer r.simulating.Unlock()
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, scenarioLimit)
	defer cancel()
	e := &env{
		kind: t.kind, programs: r.programs, short: r.short,
		dir: filepath.Join(r.out, "logs", string(t.kind), unfit.ReplaceAllString(t.ID, "-")),
	}
	res := result{ID: t.ID, Name: t.Name, Theme: t.Theme, Criterion: t.Criterion, Front: string(t.kind)}
	if ctx.Err() != nil {
		res.Error = ctx.Err().Error()
		return res
	}
	measured, held, err := e.run(limited, t.Run)
	res.Measured, res.Held, res.Seconds = oneLine(measured), held, time.Since(began).Seconds()
	if t.Theme != simulations { // whose time does not depend on the machine
		res.Stalled = r.stalls.share(began, time.Now())
	}
	if errors.Is(err, errSkipped) {
		res.Skipped, res.Measured = true, oneLine(err.Error())
	} else if err != nil {
		res.Held, res.Error = false, oneLine(err.Error())
	}
	return res
}

// note takes a result in, which may be that of a second try, and says it.
func (r *run) note(res result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.IndexFunc(r.results, func(other result) bool { return other.ID == res.ID && other.Front == res.Front })
	if at < 0 {
		r.results = append(r.results, res)
	} else {
		first := r.results[at]
		res.First = first.text()
		res.Undecided = !res.Held && first.Stalled > stalledMuch && res.Stalled > stalledMuch
		r.results[at] = res
	}
	fmt.Fprintf(r.say, "%6.0f s  %-8s %-11s %-5s %s: %s\n", time.Since(r.began).Seconds(), res.verdict(), res.Front, res.ID, res.Name, res.text())
}

// held: every scenario of ours was; what other balancers do is for comparison.
func (r *run) held() bool {
	return !slices.ContainsFunc(r.results, func(res result) bool {
		return res.Front == string(ours) && !res.Held && !res.Skipped && !res.Undecided
	})
}
