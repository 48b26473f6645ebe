package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim"
)

var simulatedFaults = []scenario{
	{ID: "s6+7", Name: "simulated: one H100 of 4 A10G + 4 H100 20 x slower for 5 minutes, then well", Theme: simulations, Short: true,
		Criterion: grayCriterion, Run: simulatedGray},
	{ID: "s8", Name: "simulated: a card becomes 2 x slower, then as before, then 2 x faster", Theme: simulations, Short: true,
		Criterion: "its speed is known within 20 % after at most 4 jobs (median), no breaker opens, no failures", Run: simulatedSteps},
	{ID: "s9", Name: "simulated: all cards 3 x slower together", Theme: simulations, Short: true,
		Criterion: "no breaker opens, work done at least 0.95 of what the slower cards can do, no failures", Run: simulatedSlower},
	{ID: "s10", Name: "simulated: a card hangs for good, its health check does not", Theme: simulations, Short: true,
		Criterion: "at most 2 jobs caught, given up after at most max(4 x predicted, 10 s) and then served once a card is free, nobody waits for more than 200 ms while a card that is well is idle, no failures", Run: simulatedHung},
	{ID: "s13", Name: "simulated: flapping for an hour, 3 s up and 3 s down, dead or answering 500", Theme: simulations, Short: true,
		Criterion: "failed attempts at most 10 % of successes and 3 more in 10 s, the time for which it is left alone grows to 30 s or more, under 0.5 % of clients see an error", Run: simulatedFlapping},
	{ID: "s19", Name: "simulated: half-open while only recordings of an hour come", Theme: simulations, Short: true,
		Criterion: "known to be well within 10 s of being half-open, without a client's job; no job lost", Run: simulatedHalfOpen},
	{ID: "s20", Name: "simulated: one card asks to be left alone for 10 s, for a minute", Theme: simulations, Short: true,
		Criterion: "at most 1 job sent there in each such time, no breaker opens, it serves again within 3 s, no failures", Run: simulatedPauses},
	{ID: "s25", Name: "simulated: 50 % errors on half the pool, then on all of it", Theme: simulations, Short: true,
		Criterion: "attempts at most 1.15 x requests", Run: simulatedRetryStorm},
}

func simulatedGray(ctx context.Context, e *env) (string, bool, error) {
	const well, used, end = 300 * time.Second, 390 * time.Second, 690 * time.Second
	const bad = "H100-1"
	sc := simulated(mixedCards(), sim.Load{Share: 0.5})
	sc.Duration = end
	base, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	sc.Faults = []sim.Fault{{Card: bad, Becomes: sim.Slow, Factor: 20}, {At: well, Card: bad, Becomes: sim.Healthy}}
	gray, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	share := func(runs []simRun, from, to time.Duration) float64 {
		there, all := 0, 0
		for _, r := range runs {
			there, all = there+r.sent(bad, from, to), all+r.sent("", from, to)
		}
		return float64(there) / float64(max(all, 1))
	}
	out := atMost{held: true}
	before, during := times(base, 0, well), times(gray, 0, well)
	out.check("p99, times base", quantileOf(during, 0.99)/quantileOf(before, 0.99), 1.3)
	out.check("% of picks", 100*share(gray, 0, well), 1)
	longest := 0.0
	for i := range gray {
		longest = max(longest, slices.Max(seconds(gray[i].served(0, well)))/slices.Max(seconds(base[i].served(0, well))))
	}
	out.check("the longest, times the longest without, in the worst seed", longest, 4)
	fair := share(gray, used, end) / share(base, used, end)
	out.check(fmt.Sprintf("after it %.0f %% of its fair share, so short of it by %%", 100*fair), 100*(1-fair), 20)
	out.check("errors", float64(worst(gray, errorsOf)), 0)
	return out.say(), out.held, nil
}

func simulatedSteps(ctx context.Context, e *env) (string, bool, error) {
	var found []float64
	out := atMost{held: true}
	for _, card := range []string{"A10G-1", "H100-1"} {
		sc := simulated(mixedCards(), sim.Load{Clients: 16})
		sc.Duration = 160 * time.Second
		sc.Faults = []sim.Fault{
			{At: 20 * time.Second, Card: card, Becomes: sim.Slow, Factor: 2}, {At: 70 * time.Second, Card: card, Becomes: sim.Healthy},
			{At: 120 * time.Second, Card: card, Becomes: sim.Slow, Factor: 0.5},
		}
		runs, err := simulate(ctx, sc, e.seeds())
		if err != nil {
			return "", false, err
		}
		for _, r := range runs {
			for _, change := range r.SpeedChanges {
				if !change.Found {
					change.Jobs = 1e6
				}
				found = append(found, float64(change.Jobs))
			}
		}
		out.check(card+": breakers opened", float64(worst(runs, func(r simRun) int { return r.opened() })), 0)
		out.check("errors", float64(worst(runs, errorsOf)), 0)
	}
	out.check(fmt.Sprintf("jobs until found, of %d changes: nine of ten %.0f, median", len(found), quantileOf(found, 0.9)), quantileOf(found, 0.5), 4)
	return out.say(), out.held, nil
}

func simulatedSlower(ctx context.Context, e *env) (string, bool, error) {
	const factor = 3
	sc := simulated(mixedCards(), sim.Load{Clients: 32})
	sc.Duration = 5 * time.Minute
	for _, c := range sc.Cards {
		sc.Faults = append(sc.Faults, sim.Fault{Card: c.Name, Becomes: sim.Slow, Factor: factor})
	}
	runs, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	out := atMost{held: true}
	least := -worst(runs, func(r simRun) float64 { return -r.Eta })
	out.check("breakers opened", float64(worst(runs, func(r simRun) int { return r.opened() })), 0)
	out.check(fmt.Sprintf("work done %.3f of what can be, so short of it by", factor*least), 1-factor*least, 0.05)
	out.check("errors", float64(worst(runs, errorsOf)), 0)
	return out.say(), out.held, nil
}

func simulatedHung(ctx context.Context, e *env) (string, bool, error) {
	const at, bad = 20 * time.Second, "H100-1"
	sc := simulated(simCards(4, simH100), sim.Load{Share: 0.4})
	sc.Duration, sc.Faults = 5*time.Minute, []sim.Fault{{At: at, Card: bad, Becomes: sim.Hung}}
	var idle []*idleness
	all, err := simulateWith(ctx, sc, e.seeds(), func(l *ledger) {
		one := &idleness{ledger: l, cards: len(sc.Cards) - 1, but: bad, from: at, since: -1}
		l.look, idle = one.look, append(idle, one)
	})
	if err != nil {
		return "", false, err
	}
	waited := time.Duration(0)
	for _, one := range idle {
		waited = max(waited, one.longest)
	}
	late, queued := time.Duration(-1<<62), time.Duration(0)
	caught := worst(all, func(r simRun) (n int) {
		for _, t := range r.tries {
			if t.job < 0 || t.backend != bad || t.ended < at {
				continue
			}
			n++
			// It goes to the head of the queue, so that the wait for a free card is short; idleness sees to that it is no longer.
			again := r.lastTry(t.job)
			late = max(late, t.ended-t.began-max(4*t.predicted, 10*time.Second))
			queued = max(queued, again.began-t.ended)
		}
		return n
	})
	out := atMost{held: true}
	out.check("caught", float64(caught), 2)
	out.check("given up later than allowed by s", late.Seconds(), 0)
	out.text = append(out.text, fmt.Sprintf("started again up to %s later", ms(queued)))
	out.check("others waited beside an idle card for ms", 1e3*waited.Seconds(), 200)
	out.check("errors", float64(worst(all, errorsOf)), 0)
	return out.say() + " (the worst seed each)", out.held, nil
}

// lastTry is the last attempt of a job.
func (l *ledger) lastTry(job int) simTry {
	for i := len(l.tries) - 1; i >= 0; i-- {
		if l.tries[i].job == job {
			return l.tries[i]
		}
	}
	return simTry{}
}

// idleness measures for how long at most a job waited while one of the cards had nothing to do. Of cards with one
// slot; it looks after each event, so the ledger's times are not yet those since the warm-up.
type idleness struct {
	*ledger
	cards   int
	but     scheduler.BackendID // this one does not count
	from    time.Duration
	since   time.Duration // negative: not now
	longest time.Duration
}

func (i *idleness) look(now time.Duration) {
	if len(i.jobs) <= i.warm || now < time.Duration(i.start)+i.from {
		return
	}
	busy, running := 0, map[int]bool{}
	for _, n := range i.on {
		if t := i.tries[n]; t.backend != i.but {
			busy++
			running[t.job] = true
		} else {
			running[t.job] = true
		}
	}
	waits := false
	for n := i.oldest(); n < len(i.jobs) && !waits; n++ {
		waits = i.jobs[n].ended == forEver && !running[n]
	}
	if i.since >= 0 {
		i.longest = max(i.longest, now-i.since)
	}
	switch {
	case !waits || busy >= i.cards:
		i.since = -1
	case i.since < 0:
		i.since = now
	}
}

func simulatedFlapping(ctx context.Context, e *env) (string, bool, error) {
	const length, bad = time.Hour, "H100-1"
	out := atMost{held: true}
	for _, down := range []sim.Condition{sim.Dead, sim.Failing} {
		sc := simulated(mixedCards(), sim.Load{Share: 0.35})
		sc.Duration = length
		for at := time.Duration(0); at < length; at += 6 * time.Second {
			sc.Faults = append(sc.Faults, sim.Fault{At: at, Card: bad, Becomes: down}, sim.Fault{At: at + 3*time.Second, Card: bad, Becomes: sim.Healthy})
		}
		runs, err := simulate(ctx, sc, 5)
		if err != nil {
			return "", false, err
		}
		out.check(string(down)+": failed attempts, of the budget", worst(runs, func(r simRun) float64 {
			failed := 0
			for _, t := range r.tries {
				if t.job >= 0 && t.began >= 0 && (t.how == scheduler.Failed || t.how == scheduler.Died) {
					failed++
				}
			}
			return float64(failed) / (0.1*float64(len(r.served(0, forEver))) + 3*length.Seconds()/10)
		}), 1)
		alone := -worst(runs, func(r simRun) time.Duration { return -r.leftAlone(bad) })
		out.check(fmt.Sprintf("left alone for %s, short of 30 s by", ms(alone)), 30-alone.Seconds(), 0)
		out.check("% of clients saw an error", worst(runs, func(r simRun) float64 { return 100 * float64(r.Errors) / float64(r.Jobs) }), 0.5)
	}
	return out.say() + " (the worst seed each)", out.held, nil
}

// leftAlone is the longest time between two jobs of clients or trials on a backend.
func (r simRun) leftAlone(backend scheduler.BackendID) (longest time.Duration) {
	last := time.Duration(0)
	for _, t := range r.tries {
		if t.backend == backend && t.began > 0 {
			longest, last = max(longest, t.began-last), t.began
		}
	}
	return longest
}

func simulatedHalfOpen(ctx context.Context, e *env) (string, bool, error) {
	const bad, well = "H100-1", 300 * time.Second
	sc := simulated(mixedCards(), sim.Load{Clients: 12})
	sc.Audio, sc.Duration = sim.Audio{Fixed: 3600}, 20*time.Minute
	// From the 100th second on until it is known: an hour takes an H100 22 s.
	sc.Faults = []sim.Fault{{At: 100 * time.Second, Card: bad, Becomes: sim.Failing}, {At: well, Card: bad, Becomes: sim.Healthy}}
	runs, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	unopened, probes := 0, 0
	verdict := worst(runs, func(r simRun) time.Duration {
		from, open := time.Duration(-1), false
		for _, v := range r.verdicts {
			switch {
			case v.Backend != bad || v.at < 0:
			case v.Verdict == scheduler.Opened:
				from, open = max(v.at+v.For, well), true
			case v.Verdict == scheduler.Closed && v.at >= well && open:
				for _, t := range r.tries {
					if t.job >= 0 && t.backend == bad && t.began >= from && t.began < v.at {
						probes++
					}
				}
				return v.at - from
			}
		}
		unopened++
		return forEver
	})
	if unopened > 0 {
		return fmt.Sprintf("with %d of %d seeds its breaker did not open and close again", unopened, len(runs)), false, nil
	}
	out := atMost{held: true}
	out.check("known to be well after s", verdict.Seconds(), 10)
	out.check("clients' jobs sent before", float64(probes), 0)
	out.check("errors", float64(worst(runs, errorsOf)), 0)
	return out.say(), out.held, nil
}

func simulatedPauses(ctx context.Context, e *env) (string, bool, error) {
	const bad, length, wait = "H100-1", time.Minute, 10 * time.Second
	sc := simulated(mixedCards(), sim.Load{Share: 0.5})
	sc.Duration = 2 * time.Minute
	sc.Faults = []sim.Fault{{Card: bad, Becomes: sim.Busy, RetryAfter: wait}, {At: length, Card: bad, Becomes: sim.Healthy}}
	runs, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	again := time.Duration(0)
	early := worst(runs, func(r simRun) (n int) {
		until := time.Duration(-1)
		for _, t := range r.tries {
			switch {
			case t.backend != bad || t.began < 0:
			case t.how == scheduler.Busy:
				if t.began < until {
					n++
				}
				until = t.began + wait
			case until >= 0 && t.how == scheduler.Success && t.began >= length:
				if t.began < until {
					n++
				}
				again = max(again, t.began-until)
				return n
			}
		}
		return n
	})
	out := atMost{held: true}
	out.check("sent in that time", float64(early), 1)
	out.check("breakers opened", float64(worst(runs, func(r simRun) int { return r.opened() })), 0)
	out.check("served again after s", again.Seconds(), 3)
	out.check("errors", float64(worst(runs, errorsOf)), 0)
	return out.say() + " (the worst seed each)", out.held, nil
}

func simulatedRetryStorm(ctx context.Context, e *env) (string, bool, error) {
	out := atMost{held: true}
	for _, storm := range []struct {
		what  string
		cards []sim.Card
	}{
		{"half", slices.Concat(simCards(2, simA10G), simCards(2, simH100))}, {"all", mixedCards()},
	} {
		sc := simulated(mixedCards(), sim.Load{Share: 0.4})
		sc.Duration = 5 * time.Minute
		for _, c := range storm.cards {
			sc.Faults = append(sc.Faults, sim.Fault{Card: c.Name, Becomes: sim.Failing, Share: 0.5})
		}
		runs, err := simulate(ctx, sc, e.seeds())
		if err != nil {
			return "", false, err
		}
		out.check(storm.what+": attempts a request", worst(runs, func(r simRun) float64 {
			tries, jobs := 0, 0
			for _, j := range r.jobs[r.warm:] {
				if j.ended < forEver {
					tries, jobs = tries+j.tries, jobs+1
				}
			}
			return float64(tries) / float64(jobs)
		}), 1.15)
		out.text = append(out.text, fmt.Sprintf("%.2f %% of clients saw an error", 100*worst(runs, func(r simRun) float64 { return float64(r.Errors) / float64(r.Jobs) })))
	}
	return out.say() + " (the worst seed each)", out.held, nil
}
