package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim"
)

var simulatedPlacing = []scenario{
	{ID: "s1", Name: "simulated: a mixed pool against the best of its parts alone, 1 to 64 clients", Theme: simulations, Short: true,
		Criterion: "mean at most 1.02 x and p99 at most 1.05 x the best homogeneous part's, mean at most 1.10 x the least possible", Run: mixedAgainstParts},
	{ID: "s2", Name: "simulated: jobs at random, 0.1 to 0.95 of what the pool can do", Theme: simulations, Short: true,
		Criterion: "mean at most 1.05 x that of a scheduler that was told the speeds; from 0.5 to 0.85 mean at most 0.7 x and p99 at most 0.5 x stock Caddy's least_conn", Run: againstTheOracle},
	{ID: "s3", Name: "simulated: cold start, nothing known of any card", Theme: simulations, Short: true,
		Criterion: "after 3 jobs a card mean at most 1.1 x that of one that was told the speeds; every card tried within 30 s; at most 2 explored at a time while a card that is known is idle", Run: coldStart},
	{ID: "s12", Name: "simulated: Pareto lengths (1.3) up to 2 h", Theme: simulations, Short: true,
		Criterion: "p99 of jobs up to 10 s at most 2 x that without what is longer than a minute, whenever 2 cards are free of such; nobody waits more than 3 x, and 1 s, longer than foretold", Run: heavyTail},
	{ID: "s22", Name: "simulated: lengths are wrong (by 2.7 x and 10 x on average) or unknown", Theme: simulations, Short: true,
		Criterion: "mean at most 0.9 x stock Caddy's least_conn; unknown: at most 1.1 x the fastest idle card", Run: wrongSizes},
	{ID: "s26", Name: "simulated: 100 equal backends, 10,000 jobs a second of 50 ms", Theme: simulations, Short: true,
		Criterion: "p99 of deciding under 100 us of processor time, all get their share (chi-squared, 99.9 %), never more at a backend than its slots", Run: thunderingHerd},
}

// atMost says what exceeds its limit, for the text of what was measured.
type atMost struct {
	held bool
	text []string
}

func (a *atMost) check(what string, got, limit float64) {
	mark := ""
	if !(got <= limit) {
		a.held, mark = false, " (!)"
	}
	a.text = append(a.text, fmt.Sprintf("%s %.4g%s", what, got, mark))
}

func (a *atMost) say() string { return strings.Join(a.text, ", ") }

func mixedAgainstParts(ctx context.Context, e *env) (string, bool, error) {
	out := atMost{held: true}
	parts := map[string]simRun{}
	run := func(pool []sim.Card, clients int) (mean, p99, bound float64, err error) {
		sc := simulated(pool, sim.Load{Clients: clients})
		sc.Jobs, sc.WarmUp = 1500, 480 // the same jobs for all pools
		runs, err := simulate(ctx, sc, e.seeds())
		all := times(runs, 0, forEver)
		return meanOf(all), quantileOf(all, 0.99), meanOf(pooled(runs, func(r simRun) []float64 { return []float64{r.Bound.Mean} })), err
	}
	for _, pool := range []struct {
		name  string
		parts [][]sim.Card
	}{
		{"4 A10G + 4 H100", [][]sim.Card{simCards(4, simA10G), simCards(4, simH100)}},
		{"4 T4 + 4 H100", [][]sim.Card{simCards(4, simT4), simCards(4, simH100)}},
		{"6 A10G + 2 H100", [][]sim.Card{simCards(6, simA10G), simCards(2, simH100)}},
	} {
		var means, tails, bounds, at, tailAt float64
		for _, n := range []int{1, 2, 4, 8, 16, 32, 64} {
			mean, p99, bound, err := run(slices.Concat(pool.parts...), n)
			if err != nil {
				return "", false, err
			}
			best, bestTail := math.Inf(1), 0.0
			for _, part := range pool.parts {
				key := fmt.Sprint(len(part), part[0].Class, n)
				alone, ok := parts[key]
				if !ok {
					if alone.Mean, alone.P99, _, err = run(part, n); err != nil {
						return "", false, err
					}
					parts[key] = alone
				}
				if alone.Mean < best {
					best, bestTail = alone.Mean, alone.P99
				}
			}
			if mean/best > means {
				at = float64(n)
			}
			if p99/bestTail > tails {
				tailAt = float64(n)
			}
			means, tails, bounds = max(means, mean/best), max(tails, p99/bestTail), max(bounds, mean/bound)
		}
		out.check(fmt.Sprintf("%s: mean (%.0f clients)", pool.name, at), means, 1.02)
		out.check(fmt.Sprintf("p99 (%.0f clients)", tailAt), tails, 1.05)
		out.check("of the least possible", bounds, 1.10)
	}
	return out.say() + "; the worst of 1 to 64 clients each", out.held, nil
}

func againstTheOracle(ctx context.Context, e *env) (string, bool, error) {
	out := atMost{held: true}
	for _, share := range []float64{0.1, 0.3, 0.5, 0.7, 0.85, 0.95} {
		sc := simulated(mixedCards(), sim.Load{Share: share})
		sc.Jobs = 4000
		ours, err := simulate(ctx, sc, e.seeds())
		if err != nil {
			return "", false, err
		}
		sc.Told = sim.ToldLaw
		oracle, err := simulate(ctx, sc, e.seeds())
		if err != nil {
			return "", false, err
		}
		all := times(ours, 0, forEver)
		out.check(fmt.Sprintf("at %.2f: %.3f s, of the oracle's", share, meanOf(all)), meanOf(all)/meanOf(times(oracle, 0, forEver)), 1.05)
		if share < 0.5 || share > 0.85 {
			continue
		}
		mean, p99, err := peer(ctx, sc, "caddy_least_conn", e.seeds())
		if err != nil {
			return "", false, err
		}
		out.check("of least_conn's", meanOf(all)/mean, 0.7)
		tail := pooled(ours, func(r simRun) []float64 { return []float64{r.P99} })
		out.check("p99", meanOf(tail)/p99, 0.5)
	}
	return out.say(), out.held, nil
}

// peer is the mean over the seeds of the mean and the p99 of another policy or balancer.
func peer(ctx context.Context, sc sim.Scenario, policy string, seeds int) (mean, p99 float64, err error) {
	sc.Policy, sc.Told = policy, sim.ToldNothing
	for seed := range seeds {
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
		sc.Seed = uint64(seed) + 1
		r, err := sim.Run(sc)
		if err != nil {
			return 0, 0, err
		}
		mean, p99 = mean+r.Mean/float64(seeds), p99+r.P99/float64(seeds)
	}
	return mean, p99, nil
}

func coldStart(ctx context.Context, e *env) (string, bool, error) {
	out := atMost{held: true}
	for _, pool := range [][]sim.Card{mixedCards(), slices.Concat(simCards(2, simT4), simCards(2, simA10G), simCards(4, simH100))} {
		sc := simulated(pool, sim.Load{Clients: 16})
		sc.WarmUp, sc.Jobs = 0, 600
		cold, err := simulate(ctx, sc, 2*e.seeds())
		if err != nil {
			return "", false, err
		}
		sc.Told = sim.ToldLaw
		told, err := simulate(ctx, sc, 2*e.seeds())
		if err != nil {
			return "", false, err
		}
		var ours, theirs []float64
		for i, r := range cold {
			known := r.eachServed(3, len(pool))
			jobs := r.served(known, forEver)
			for _, j := range jobs[:min(200, len(jobs))] {
				ours = append(ours, j.took())
				theirs = append(theirs, told[i].jobs[j.ID-1].took())
			}
		}
		out.check(fmt.Sprintf("%d cards: of what is told", len(pool)), meanOf(ours)/meanOf(theirs), 1.1)
		sc.Told, sc.Load, sc.Jobs, sc.Duration = sim.ToldNothing, sim.Load{Share: 0.5}, 0, 60*time.Second
		open, err := simulate(ctx, sc, e.seeds())
		if err != nil {
			return "", false, err
		}
		out.check("all tried after s", worst(open, func(r simRun) float64 { return r.eachSent(len(pool)).Seconds() }), 30)
		out.check("explored at a time beside an idle known one", float64(worst(append(cold, open...), simRun.explored)), 2)
	}
	return out.say(), out.held, nil
}

// eachServed is when every backend had served so many jobs, for ever if never.
func (r simRun) eachServed(n, backends int) time.Duration {
	type end struct {
		at time.Duration
		of scheduler.BackendID
	}
	var ends []end
	for _, t := range r.tries {
		if t.how == scheduler.Success && t.job >= 0 {
			ends = append(ends, end{t.ended, t.backend})
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return int(a.at - b.at) })
	served, enough := map[scheduler.BackendID]int{}, 0
	for _, end := range ends {
		if served[end.of]++; served[end.of] == n {
			if enough++; enough == backends {
				return end.at
			}
		}
	}
	return forEver
}

// eachSent is when every backend had been sent a job, for ever if never.
func (r simRun) eachSent(backends int) time.Duration {
	seen := map[scheduler.BackendID]bool{}
	for _, t := range r.tries {
		if seen[t.backend] = true; len(seen) == backends {
			return t.began
		}
	}
	return forEver
}

// explored is how many jobs ran at a time to learn a speed when another one began, though a backend whose speed was
// known was idle: where none is, a job might as well explore as wait. Of cards with one slot.
func (r simRun) explored() (most int) {
	for i, t := range r.tries {
		if t.reason != scheduler.Explore {
			continue
		}
		n, idle := 1, map[scheduler.BackendID]bool{}
		for _, o := range r.tries[:i] {
			if o.ended <= t.began && o.how == scheduler.Success {
				idle[o.backend] = true
			}
		}
		for _, o := range r.tries[:i] {
			if o.ended > t.began {
				delete(idle, o.backend)
			}
		}
		if len(idle) == 0 {
			continue
		}
		for _, o := range r.tries[:i] {
			if o.reason == scheduler.Explore && o.ended > t.began {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func wrongSizes(ctx context.Context, e *env) (string, bool, error) {
	out := atMost{held: true}
	sc := simulated(mixedCards(), sim.Load{Share: 0.6})
	sc.Jobs = 5000
	counting, _, err := peer(ctx, sc, "caddy_least_conn", e.seeds())
	if err != nil {
		return "", false, err
	}
	for _, c := range []struct {
		what    string
		off     float64
		unknown bool
	}{{"2.7 x", 1, false}, {"10 x", math.Log(10), false}, {"unknown", 0, true}} {
		sc.SizeError, sc.SizeUnknown = c.off, c.unknown
		runs, err := simulate(ctx, sc, e.seeds())
		if err != nil {
			return "", false, err
		}
		mean := meanOf(times(runs, 0, forEver))
		out.check(fmt.Sprintf("%s: mean %.3f s, of least_conn's", c.what, mean), mean/counting, 0.9)
		if c.unknown {
			idle, _, err := peer(ctx, sc, "fastest_idle", e.seeds())
			if err != nil {
				return "", false, err
			}
			out.check("of the fastest idle's", mean/idle, 1.1)
		}
	}
	return out.say(), out.held, nil
}

// The longest that counts as short, and the shortest that counts as long, in seconds of audio.
const (
	shortAudio = 10.0
	longAudio  = 60.0
)

func heavyTail(ctx context.Context, e *env) (string, bool, error) {
	sc := simulated(mixedCards(), sim.Load{Rate: 20})
	sc.Jobs, sc.Audio = 6000, sim.Audio{Pareto: &sim.Pareto{Alpha: 1.3, Min: 3, Cap: 7200}}
	tailed, err := simulateWith(ctx, sc, e.seeds(), func(l *ledger) {
		l.arrive = func(now time.Duration, j *simJob) { j.expected = l.foretell(sc.Cards, now, j) }
	})
	if err != nil {
		return "", false, err
	}
	sc.Audio.Pareto.Cap = longAudio
	base, err := simulate(ctx, sc, e.seeds())
	if err != nil {
		return "", false, err
	}
	short := func(r simRun) (all []float64) {
		crowded := r.crowded(len(sc.Cards) - 2)
		for _, j := range r.served(0, forEver) {
			if j.AudioSeconds <= shortAudio && !overlaps(crowded, j.arrived, j.ended) {
				all = append(all, j.took())
			}
		}
		return all
	}
	out := atMost{held: true}
	out.check(fmt.Sprintf("p99 of short ones %.2f s, times that without", quantileOf(pooled(tailed, short), 0.99)),
		quantileOf(pooled(tailed, short), 0.99)/quantileOf(pooled(base, short), 0.99), 2)
	starved := worst(tailed, func(r simRun) (n int) {
		for _, j := range r.served(0, forEver) {
			if j.waited > 3*j.expected && j.waited > j.expected+time.Second {
				n++
			}
		}
		return n
	})
	out.check("waited too long in the worst seed", float64(starved), 0)
	out.check("errors", float64(worst(tailed, errorsOf)), 0)
	return out.say(), out.held, nil
}

// span is a stretch of time.
type span struct{ from, to time.Duration }

func overlaps(spans []span, from, to time.Duration) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.from < to && from < s.to })
}

// crowded is when more than so many cards ran long jobs.
func (r simRun) crowded(most int) (all []span) {
	type edge struct {
		at time.Duration
		by int
	}
	var edges []edge
	for _, t := range r.tries {
		if t.job < 0 || r.jobs[t.job].AudioSeconds <= longAudio {
			continue
		}
		edges = append(edges, edge{t.began, 1}, edge{t.ended, -1})
	}
	slices.SortStableFunc(edges, func(a, b edge) int {
		if a.at == b.at {
			return a.by - b.by
		}
		return int(a.at - b.at)
	})
	n, since := 0, time.Duration(0)
	for _, edge := range edges {
		was := n > most
		if n += edge.by; n > most && !was {
			since = edge.at
		} else if was && n <= most {
			all = append(all, span{since, edge.at})
		}
	}
	return all
}

// foretell is how long a job that comes now waits if nobody comes after it, by what runs and waits before it and the
// cards' laws: in order, each where it is done first. Requires: cards with one slot.
func (l *ledger) foretell(pool []sim.Card, now time.Duration, j *simJob) time.Duration {
	free := make([]time.Duration, len(pool))
	law := func(card int, audio float64) time.Duration {
		return time.Duration((pool[card].Law.Fixed + pool[card].Law.PerSecond*audio) * 1e9)
	}
	running := map[int]bool{}
	for _, i := range l.on {
		t := &l.tries[i]
		running[t.job] = true
		for c := range pool {
			if scheduler.BackendID(pool[c].Name) == t.backend && t.job >= 0 {
				elapsed := now - t.began
				free[c] = max(law(c, l.jobs[t.job].AudioSeconds)-elapsed, elapsed/4)
			}
		}
	}
	place := func(audio float64) (wait time.Duration) {
		best := 0
		for c := range pool {
			if free[c]+law(c, audio) < free[best]+law(best, audio) {
				best = c
			}
		}
		wait = free[best]
		free[best] += law(best, audio)
		return wait
	}
	for i := l.oldest(); i < len(l.jobs)-1; i++ {
		if l.jobs[i].ended == forEver && !running[i] {
			place(l.jobs[i].AudioSeconds)
		}
	}
	return place(j.AudioSeconds)
}

// oldest is the first job that is not settled.
func (l *ledger) oldest() int {
	for l.settled < len(l.jobs) && l.jobs[l.settled].ended < forEver {
		l.settled++
	}
	return l.settled
}
