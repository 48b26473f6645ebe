package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

var outages = []scenario{
	{ID: "17", Name: "the whole pool down for 30 s", Theme: breakers, Short: true, Peers: true, Long: true,
		Criterion: "after at most 5 s of waiting every client gets 503 with Retry-After within 100 ms beyond what /health takes, no goroutine more afterwards, service 3 s after recovery",
		Run:       wholePoolDown},
	{ID: "18", Name: "overload: 1.5 x what the pool can do for a minute, then 0.5 x", Theme: overloads, Short: true, Alone: true,
		Criterion: "served at least 0.95 of what it can do, nobody waits longer than 1.1 x max_wait, refusals within 10 ms beyond what /health takes, no refusal any more 2 x max_wait after",
		Run:       overload},
	{ID: "11", Name: "burst of 500 jobs at once, mixed cards", Theme: overloads, Short: true, Peers: true,
		Criterion: "makespan at most 1.10 x the least possible, never more at a backend than its slots, no failures", Run: burst},
}

func wholePoolDown(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 60 * time.Millisecond, PerSecond: 10 * time.Millisecond, Noise: 0.1}
	lengths := between(1, 5)
	fakes, f, err := e.warmPool(ctx, 3, card, setup{})
	if err != nil {
		return "", false, err
	}
	perSecond := rate(0.5, 3, card, lengths)
	play(ctx, f.url, poisson(1, perSecond, 3*time.Second, lengths))
	before := f.goroutines(ctx)
	machine := asked(ctx, f.url+"/health")
	began := time.Now()
	done := make(chan *tally)
	const down, more = 30 * time.Second, 12 * time.Second
	go func() { done <- play(ctx, f.url, poisson(17, perSecond, down+more, lengths)) }()
	for _, one := range fakes {
		one.die()
	}
	pause(ctx, down)
	recovered := time.Now()
	for _, one := range fakes {
		if err := one.rise(ctx); err != nil {
			return "", false, err
		}
	}
	got := <-done
	asking := quantile(machine(), 0.99)
	after := f.goroutines(ctx)

	refused := got.within(began, recovered)
	var longest time.Duration
	var slow []time.Duration
	bare := 0
	for _, a := range refused.all {
		if a.served() { // came at the end, and waited for the recovery
			continue
		}
		longest = max(longest, a.took)
		if a.began.After(began.Add(8 * time.Second)) { // those before were held
			slow = append(slow, a.took)
		}
		if a.status != 503 || a.header.Get("Retry-After") == "" {
			bare++
		}
	}
	slices.Sort(slow)
	service := time.Duration(-1)
	for _, a := range got.all {
		if end := a.began.Add(a.took); a.served() && end.After(recovered) && (service < 0 || end.Sub(recovered) < service) {
			service = end.Sub(recovered)
		}
	}
	lateFailures := len(got.since(recovered.Add(3 * time.Second)).failed())
	return fmt.Sprintf("refused after %s at the most, then after %s (p99, p50 %s; /health takes %s); %d answers were no 503 with Retry-After%s; goroutines %.0f before, %.0f after; service %s after recovery, %d failures from 3 s after it on",
			ms(longest), ms(quantile(slow, 0.99)), ms(quantile(slow, 0.5)), ms(asking), bare, got.firstFailure(), before, after, ms(service), lateFailures),
		longest <= 5*time.Second+500*time.Millisecond && quantile(slow, 0.99) <= asking+100*time.Millisecond && len(slow) > 0 && bare == 0 && after <= before && service >= 0 && service <= 3*time.Second && lateFailures == 0, nil
}

func overload(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 200 * time.Millisecond, PerSecond: 20 * time.Millisecond}
	const seconds, cards = 5.0, 6
	const maxWait = 6 * time.Second
	fakes, f, err := e.warmPool(ctx, cards, card, setup{pool: "queue {\n max_wait 6s\n}"})
	if err != nil {
		return "", false, err
	}
	best := cards / card.of(seconds).Seconds() // a second
	lengths := func(*rand.Rand) float64 { return seconds }
	heavy := pick(e, 60*time.Second, 24*time.Second)
	light := 2*maxWait + 10*time.Second
	orders := poisson(18, 1.5*best, heavy, lengths)
	for _, o := range poisson(19, 0.5*best, light, lengths) {
		orders = append(orders, order{o.at + heavy, o.seconds})
	}
	machine := asked(ctx, f.url+"/health")
	got := play(ctx, f.url, orders)
	asking := quantile(machine(), 0.99)
	began, eased := got.began, got.began.Add(heavy)
	full := began.Add(2 * time.Second) // until everybody has work
	done := 0
	for _, one := range fakes {
		for _, r := range one.seen(began) {
			if r.served && r.ended.After(full) && r.ended.Before(eased) {
				done++
			}
		}
	}
	goodput := float64(done) / (best * eased.Sub(full).Seconds())
	var waited time.Duration
	var refusals []time.Duration
	for _, a := range got.all {
		if !a.served() {
			refusals = append(refusals, a.took)
			continue
		}
		waited = max(waited, a.took-card.of(seconds))
	}
	slices.Sort(refusals)
	late := len(got.since(eased.Add(2 * maxWait)).failed())
	refusal, tooLate := quantile(refusals, 0.99), 0
	for _, took := range refusals {
		if took > maxWait/2 {
			tooLate++
		}
	}
	return fmt.Sprintf("%.3f of what it can do, waits up to %s (max_wait %s), %d refused, %d of them only after waiting, within %s (p99, p50 %s; /health %s), %d refused later than 2 x max_wait after",
			goodput, ms(waited), ms(maxWait), len(refusals), tooLate, ms(refusal), ms(quantile(refusals, 0.5)), ms(asking), late),
		goodput >= 0.95 && waited <= maxWait*11/10 && len(refusals) > 0 && refusal <= asking+10*time.Millisecond && late == 0, nil
}

func burst(ctx context.Context, e *env) (string, bool, error) {
	fast := law{Fixed: 250 * time.Millisecond, PerSecond: 50 * time.Millisecond}
	slow := law{Fixed: 1250 * time.Millisecond, PerSecond: 250 * time.Millisecond}
	const seconds = 5.0
	jobs := pick(e, 500, 250)
	fakes, err := e.pool(ctx, 2, "fast", fast, slots(2))
	if err != nil {
		return "", false, err
	}
	more, err := e.pool(ctx, 4, "slow", slow)
	if err != nil {
		return "", false, err
	}
	fakes = append(fakes, more...)
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	if err := f.warm(ctx, 8); err != nil {
		return "", false, err
	}
	for _, one := range fakes {
		one.overrun.Store(0)
	}
	got := play(ctx, f.url, atOnce(jobs, seconds))
	// The least possible makespan of equal jobs: when the last of them ends if each slot takes one
	// after the other.
	var ends []time.Duration
	for _, one := range fakes {
		for range one.slots {
			for k := range jobs {
				ends = append(ends, time.Duration(k+1)*one.law.of(seconds))
			}
		}
	}
	slices.Sort(ends)
	makespan := ratio(got.longest(), ends[jobs-1])
	overrun := int64(0)
	for _, one := range fakes {
		overrun += one.overrun.Load()
	}
	return fmt.Sprintf("makespan %.3f x the least possible, %d times more at a backend than its slots, %d of %d failed%s", makespan, overrun, len(got.failed()), got.count(), got.firstFailure()),
		makespan <= 1.1 && overrun == 0 && len(got.failed()) == 0, nil
}

// atOnce are so many equal orders at once.
func atOnce(n int, seconds float64) []order {
	all := make([]order, n)
	for i := range all {
		all[i].seconds = seconds
	}
	return all
}

// asked asks for url ten times a second, until the function that it returns is called, which gives how
// long the answers took: what this machine takes for a bare request at present. Sorted.
func asked(ctx context.Context, url string) (stop func() []time.Duration) {
	limited, cancel := context.WithCancel(ctx)
	result := make(chan []time.Duration)
	go func() {
		var all []time.Duration
		for limited.Err() == nil {
			began := time.Now()
			if _, err := get(limited, url); err == nil || limited.Err() == nil { // a refusal is an answer, too
				all = append(all, time.Since(began))
			}
			pause(limited, 100*time.Millisecond)
		}
		slices.Sort(all)
		result <- all
	}()
	return func() []time.Duration {
		cancel()
		return <-result
	}
}

// goroutines is how many there are when nothing is under way: the least of several seconds, without
// those of connections that are kept for a while, of which each health check may have one. 0 where
// nobody tells.
func (f *front) goroutines(ctx context.Context) float64 {
	if f.kind != ours {
		return 0
	}
	least, dump := math.MaxInt, []byte(nil)
	for range 40 {
		text, err := get(ctx, f.admin+"/debug/pprof/goroutine?debug=1")
		if n := countGoroutines(string(text)); err == nil && n < least {
			least, dump = n, text
		}
		pause(ctx, 200*time.Millisecond)
	}
	_, _ = f.env.write(fmt.Sprintf("%s/goroutines-%d-%s", f.name, least, time.Now().Format("150405")), string(dump)) // for whoever wonders which
	return float64(least)
}

// countGoroutines reads a profile: a paragraph for each stack, which begins with how many have it.
func countGoroutines(profile string) int {
	total := 0
	for stack := range strings.SplitSeq(profile, "\n\n") {
		// Not those of a kept connection itself; who is just asking something by one is there at other times, too.
		if strings.Contains(stack, "net/http.(*persistConn).readLoop") || strings.Contains(stack, "net/http.(*persistConn).writeLoop") {
			continue
		}
		for line := range strings.Lines(stack) {
			if count, _, found := strings.Cut(line, " @ "); found {
				if n, err := strconv.Atoi(count); err == nil {
					total += n
				}
			}
		}
	}
	return total
}
