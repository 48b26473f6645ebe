package sim

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/whisperpool/whisperpool/gpu"
)

// Change is cards of one kind that come to a pool, or leave it.
type Change struct {
	Count int // negative: they leave
	Kind  string
}

// String is as it was written.
func (c Change) String() string { return fmt.Sprintf("%+d %s", c.Count, c.Kind) }

var changePattern = regexp.MustCompile(`([+-])\s*(\d+)\s*x?\s+([^\s+,;-][^\s+,;]*)`)

// ParseChanges reads changes such as "+2 T4" or "-1 A10G +1 H100".
func ParseChanges(text string) ([]Change, error) {
	var all []Change
	rest := changePattern.ReplaceAllStringFunc(text, func(one string) string {
		part := changePattern.FindStringSubmatch(one)
		n, err := strconv.Atoi(part[1] + part[2])
		if err != nil || n == 0 || n < -cardsMax || n > cardsMax {
			return one
		}
		all = append(all, Change{n, part[3]})
		return ""
	})
	if len(all) == 0 || strings.Trim(rest, " ,;") != "" {
		return nil, fmt.Errorf("%q is no change of a pool; write such as \"+2 T4\" or \"-1 A10G +1 H100\"", text)
	}
	return all, nil
}

// Apply changes the pool. A kind is the name or the class of cards that are in it, which the new ones
// are made like; or, for new ones, a class with a law of its own.
func (st Study) Apply(changes []Change) (Study, error) {
	st.Cards = slices.Clone(st.Cards)
	for _, c := range changes {
		var like []int
		for i, card := range st.Cards {
			if card.is(c.Kind) {
				like = append(like, i)
			}
		}
		if c.Count < 0 {
			if -c.Count > len(like) {
				return st, fmt.Errorf("%v: the pool has %d of these; its cards are %s", c, len(like), st.Pool())
			}
			for _, i := range slices.Backward(like[len(like)+c.Count:]) {
				st.Cards = slices.Delete(st.Cards, i, i+1)
			}
			continue
		}
		fresh := Card{Class: string(gpu.ParseClass(c.Kind)), Slots: 1}
		if len(like) > 0 {
			fresh = st.Cards[like[0]]
		} else if st.Recorded != nil {
			card, known := st.Recorded.Like(fresh.Class)
			if fresh.Recorded = card; !known {
				return st, fmt.Errorf("%v: neither a card of the recording (%s) nor a class whose law is known for the models that were asked for", c, st.Pool())
			}
		} else if _, ok := gpu.LawOf(fresh.Class, st.Model); !ok {
			return st, fmt.Errorf("%v: neither a card of the pool (%s) nor a class whose law is known for the model %q (T4, A10G, H100)", c, st.Pool(), st.Model)
		}
		for n := range c.Count {
			fresh.Name = fmt.Sprintf("%s-new-%d", strings.ToLower(c.Kind), n+1)
			st.Cards = append(st.Cards, fresh)
		}
	}
	if len(st.Cards) == 0 {
		return st, errors.New("no card would be left in the pool")
	}
	st.Faults = slices.DeleteFunc(slices.Clone(st.Faults), func(f Fault) bool { // of cards that have left
		return !slices.ContainsFunc(st.Cards, func(c Card) bool { return c.Name == f.Card })
	})
	return st, st.At(st.Levels[0], 0).Validate()
}

// is says whether a card is of a kind that somebody names: its class, its name, or its name without
// the number.
func (c Card) is(kind string) bool {
	return strings.EqualFold(c.Class, kind) || strings.EqualFold(c.Name, kind) || strings.EqualFold(KindOf(c.Name), kind)
}

var numberPattern = regexp.MustCompile(`(-new)?-\d+$`)

// KindOf is a card's name without its number: what the cards of one entry of the pool have in common.
func KindOf(name string) string { return numberPattern.ReplaceAllString(name, "") }

// Pool lists the cards as "4 a10g, 4 h100".
func (sc Scenario) Pool() string {
	var kinds []string
	count := map[string]int{}
	for _, c := range sc.Cards {
		kind := KindOf(c.Name)
		if count[kind]++; count[kind] == 1 {
			kinds = append(kinds, kind)
		}
	}
	for i, k := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", count[k], k)
	}
	return strings.Join(kinds, ", ")
}

// WhatIf is a pool before and after a change, under one policy at one level of the load.
type WhatIf struct {
	Policy        string
	Level         float64
	Before, After Outcomes
}

// Noticed is a difference of the mean response time, in relation, that counts for one.
const Noticed = 0.02

// Verdict says what the change does: "helps", "hurts", or "no difference" when the median of the
// ratios of the mean response times, seed by seed on the same jobs, is within Noticed.
func (w WhatIf) Verdict() string {
	switch ratio := w.Ratio(meanOf); {
	case ratio < 1-Noticed:
		return "helps"
	case ratio > 1+Noticed:
		return "hurts"
	}
	return "no difference"
}

func meanOf(r Result) float64 { return r.Mean }

// Ratio is the median over the seeds of after / before of something measured.
func (w WhatIf) Ratio(read func(r Result) float64) float64 {
	ratios := Outcomes{Results: w.After.Results}
	i := 0
	return ratios.Of(func(after Result) float64 {
		before := w.Before.Results[i]
		i++
		return read(after) / read(before)
	}).Median
}

// The levels of a what-if where the file has one only.
var (
	clientsLadder = []float64{1, 2, 4, 8, 16, 32, 64}
	burstLadder   = []float64{4, 8, 16, 32, 64, 128, 256, 512}
	shareLadder   = []float64{0.1, 0.3, 0.5, 0.7, 0.8, 0.9}
)

// WhatIf runs the study with the pool as it is and as it would be, on the same jobs at the same times,
// under each of the policies: by policy, and in it by level. The levels are the file's, if there are
// several, else a ladder. A share of the capacity is that of the pool as it is.
func (st Study) WhatIf(changes []Change, rivals []Rival, progress func(done, of int)) ([]WhatIf, error) {
	changed, err := st.Apply(changes)
	if err != nil {
		return nil, err
	}
	levels := st.ladder()
	var scenarios []Scenario
	for _, r := range rivals {
		for _, level := range levels {
			for seed := range st.Seeds {
				before, after := st.At(level, seed), changed.At(level, seed)
				before.Policy, before.Told, after.Policy, after.Told = r.Policy, r.Told, r.Policy, r.Told
				if before.Load.Share > 0 {
					after.Load = Load{Rate: level * before.Capacity()}
					before.Load = after.Load
				}
				scenarios = append(scenarios, before, after)
			}
		}
	}
	results, err := RunAll(scenarios, progress)
	if err != nil {
		return nil, err
	}
	var all []WhatIf
	for _, r := range rivals {
		for _, level := range levels {
			w := WhatIf{Policy: r.Policy, Level: level, Before: Outcomes{Rival: r, Level: level}, After: Outcomes{Rival: r, Level: level}}
			for range st.Seeds {
				w.Before.Results = append(w.Before.Results, results[0])
				w.After.Results = append(w.After.Results, results[1])
				results = results[2:]
			}
			all = append(all, w)
		}
	}
	return all, nil
}

func (st Study) ladder() []float64 {
	switch l := st.Load; {
	case len(st.Levels) > 1 || st.Recorded != nil:
		return st.Levels
	case l.Clients > 0:
		return clientsLadder
	case l.Burst > 0:
		return burstLadder
	case l.Share > 0:
		return shareLadder
	}
	capacity := st.At(st.Levels[0], 0).Capacity()
	var rates []float64
	for _, share := range shareLadder {
		rates = append(rates, share*capacity)
	}
	return rates
}

// Capacity is how many jobs a second the pool does with all slots at work on the scenario's average jobs.
func (sc Scenario) Capacity() float64 {
	w := newWorkload(&sc)
	return w.capacity(w.sample())
}
