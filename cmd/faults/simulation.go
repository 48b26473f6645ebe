package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim"
)

// Some scenarios hang on chance or take hours, so one run over real sockets shows little: they are simulated,
// with the scheduler that serves, in virtual time and with several seeds. Means and quantiles are over the jobs of
// all seeds together; counts are those of the worst seed.

// The cards of the simulated pools: 4 to 9 times apart.
var (
	simT4   = sim.Card{Class: "T4", Slots: 1, Law: &sim.Law{Fixed: 0.12, PerSecond: 1. / 18, Sigma: 0.15}}
	simA10G = sim.Card{Class: "A10G", Slots: 1, Law: &sim.Law{Fixed: 0.08, PerSecond: 1. / 40, Sigma: 0.15}}
	simH100 = sim.Card{Class: "H100", Slots: 1, Law: &sim.Law{Fixed: 0.05, PerSecond: 1. / 160, Sigma: 0.15}}
)

// simCards are so many cards of a kind, numbered from 1.
func simCards(n int, kind sim.Card) (all []sim.Card) {
	for i := range n {
		kind.Name = fmt.Sprintf("%s-%d", kind.Class, i+1)
		all = append(all, kind)
	}
	return all
}

func mixedCards() []sim.Card { return slices.Concat(simCards(4, simA10G), simCards(4, simH100)) }

// mixedAudio is lengths as people send them: most are short, some are an hour.
var mixedAudio = sim.Audio{Lognormal: &sim.Lognormal{Median: 12, Sigma: 1.2, Cap: 3600}}

// simulated is a pool that is warm, serves by the default policy and was told nothing.
func simulated(pool []sim.Card, load sim.Load) sim.Scenario {
	return sim.Scenario{
		Policy: "latency_aware", Told: sim.ToldNothing, Model: "base", Cards: pool, Load: load, Audio: mixedAudio,
		WarmUp: 60 * len(pool), Seed: 1,
	}
}

// simRun is a simulation with what its ledger saw.
type simRun struct {
	sim.Result
	*ledger
}

// simulate runs a scenario with several seeds.
func simulate(ctx context.Context, sc sim.Scenario, seeds int) ([]simRun, error) {
	return simulateWith(ctx, sc, seeds, func(*ledger) {})
}

// simulateWith prepares the ledger of each run.
func simulateWith(ctx context.Context, sc sim.Scenario, seeds int, prepare func(*ledger)) (all []simRun, err error) {
	for seed := range seeds {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		sc.Seed = uint64(seed) + 1
		seen := &ledger{warm: sc.WarmUp, on: map[scheduler.AttemptID]int{}}
		prepare(seen)
		r, err := sim.Run(sc, seen)
		if err != nil {
			return nil, err
		}
		if len(r.Violations) > 0 {
			return nil, fmt.Errorf("seed %d broke %d contracts: %s", sc.Seed, len(r.Violations), r.Violations[0])
		}
		all = append(all, simRun{r, seen})
	}
	return all, nil
}

// seeds is how many of them.
func (e *env) seeds() int { return pick(e, 10, 5) }

// simJob is a client's job as the scheduler saw it. Times are since the end of the warm-up.
type simJob struct {
	scheduler.Job
	arrived, left, ended time.Duration // left and ended: forEver until then
	waited               time.Duration
	reason               scheduler.SettleReason
	tries                int
	expected             time.Duration // wait, when it came; only where that is asked for
}

// took is from arrival to answer, in seconds.
func (j simJob) took() float64 { return (j.ended - j.arrived).Seconds() }

// simTry is an attempt.
type simTry struct {
	job       int // -1: a trial
	backend   scheduler.BackendID
	reason    scheduler.Reason
	predicted time.Duration
	began     time.Duration
	ended     time.Duration // forEver: it runs
	how       scheduler.Result
}

// simVerdict is a change of what is believed of a backend.
type simVerdict struct {
	scheduler.Judged
	at time.Duration
}

// ledger notes all that a scheduler is told and decides.
type ledger struct {
	warm     int
	start    scheduler.Instant // of the job after the warm-up
	jobs     []simJob          // by number
	tries    []simTry
	on       map[scheduler.AttemptID]int
	verdicts []simVerdict
	at       scheduler.Instant
	rest     scheduler.Snapshot // what is left at the end
	settled  int                // all jobs before this one are
	// look, if not nil, is called after every event.
	look func(now time.Duration)
	// arrive, if not nil, is called for every job when it comes.
	arrive func(now time.Duration, j *simJob)
}

// Observed takes an event and what was decided.
func (l *ledger) Observed(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) error {
	l.at = now
	switch ev := ev.(type) {
	case scheduler.Arrived:
		if len(l.jobs) == l.warm {
			l.start = now
		}
		l.jobs = append(l.jobs, simJob{Job: ev.Job, arrived: time.Duration(now), left: forEver, ended: forEver})
		if l.arrive != nil {
			l.arrive(time.Duration(now), &l.jobs[len(l.jobs)-1])
		}
	case scheduler.Canceled:
		l.jobs[ev.Job-1].left = time.Duration(now)
	case scheduler.Finished:
		t := &l.tries[l.on[ev.Attempt]]
		t.ended, t.how = time.Duration(now), ev.Outcome.Result
		delete(l.on, ev.Attempt)
	}
	for _, d := range ds {
		switch d := d.(type) {
		case scheduler.Dispatch:
			t := simTry{job: int(d.Job) - 1, backend: d.Backend, reason: d.Reason, predicted: d.Predicted, began: time.Duration(now), ended: forEver}
			if l.on[d.Attempt] = len(l.tries); !d.Trial {
				l.jobs[t.job].tries++
			}
			l.tries = append(l.tries, t)
		case scheduler.Settle:
			j := &l.jobs[d.Job-1]
			j.ended, j.reason, j.waited = time.Duration(now), d.Reason, d.Waited
		case scheduler.Judged:
			l.verdicts = append(l.verdicts, simVerdict{d, time.Duration(now)})
		}
	}
	if l.look != nil {
		l.look(time.Duration(now))
	}
	return nil
}

// Ended makes all times count from the end of the warm-up.
func (l *ledger) Ended(left scheduler.Snapshot) error {
	l.rest = left
	from := time.Duration(l.start)
	for i := range l.jobs {
		j := &l.jobs[i]
		if j.arrived -= from; j.ended < forEver {
			j.ended -= from
		}
		if j.left < forEver {
			j.left -= from
		}
	}
	for i := range l.tries {
		t := &l.tries[i]
		if t.began -= from; t.ended < forEver {
			t.ended -= from
		}
	}
	for i := range l.verdicts {
		l.verdicts[i].at -= from
	}
	return nil
}

// served are the clients' jobs that came after the warm-up and were served, of those that came in a window.
func (l *ledger) served(from, to time.Duration) (some []simJob) {
	for _, j := range l.jobs[min(l.warm, len(l.jobs)):] {
		if j.reason == scheduler.Served && j.arrived >= from && j.arrived < to {
			some = append(some, j)
		}
	}
	return some
}

const forEver = time.Duration(math.MaxInt64)

// opened counts how often a breaker opened after the warm-up.
func (l *ledger) opened() (n int) {
	for _, v := range l.verdicts {
		if v.Verdict == scheduler.Opened && v.at >= 0 {
			n++
		}
	}
	return n
}

// sent counts the clients' jobs that were sent to a backend, or to all, in a window.
func (l *ledger) sent(to scheduler.BackendID, from, until time.Duration) (n int) {
	for _, t := range l.tries {
		if t.job >= 0 && (to == "" || t.backend == to) && t.began >= from && t.began < until {
			n++
		}
	}
	return n
}

// seconds are the response times of jobs.
func seconds(jobs []simJob) (all []float64) {
	for _, j := range jobs {
		all = append(all, j.took())
	}
	return all
}

// pooled puts together what is read from each run.
func pooled(runs []simRun, read func(simRun) []float64) (all []float64) {
	for _, r := range runs {
		all = append(all, read(r)...)
	}
	return all
}

// times are the response times of those who came in a window, of all runs.
func times(runs []simRun, from, to time.Duration) []float64 {
	return pooled(runs, func(r simRun) []float64 { return seconds(r.served(from, to)) })
}

func meanOf(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / float64(max(1, len(xs)))
}

// quantileOf is by the nearest rank; 0 of nothing.
func quantileOf(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(xs))
	return sorted[min(max(int(math.Ceil(q*float64(len(sorted)))), 1), len(sorted))-1]
}

// worst is the largest of what is read from each run.
func worst[T int | float64 | time.Duration](runs []simRun, read func(simRun) T) (most T) {
	for i, r := range runs {
		if x := read(r); i == 0 || x > most {
			most = x
		}
	}
	return most
}

func errorsOf(r simRun) int { return r.Errors }
