package sim

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func smallStudy(t *testing.T) Study {
	t.Helper()
	st, err := Parse([]byte(`{"pool": [{"class": "T4", "count": 2, "law": {"fixed_s": 0.12, "speed": 18, "sigma": 0.15}},
		{"class": "H100", "law": {"fixed_s": 0.05, "speed": 160, "sigma": 0.15}}],
		"load": {"closed": [2, 8]}, "audio": {"lognormal": {"median_s": 12, "sigma": 1.2}}, "jobs": 200, "seeds": 3}`))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestCompareIsTheRunsInOrder, whoever ran first.
func TestCompareIsTheRunsInOrder(t *testing.T) {
	st := smallStudy(t)
	rivals := []Rival{{"latency_aware", ToldLaw}, {"p2c", ToldNothing}}
	last := 0
	all, err := st.Compare(rivals, func(done, of int) {
		if done != last+1 || of != 12 {
			t.Errorf("%d of %d runs after %d", done, of, last)
		}
		last = done
	})
	if err != nil || len(all) != 4 || last != 12 {
		t.Fatalf("%d outcomes, %d runs told, %v", len(all), last, err)
	}
	for i, o := range all {
		if o.Rival != rivals[i%2] || o.Level != st.Levels[i/2] || len(o.Results) != 3 {
			t.Errorf("outcome %d is of %+v at %v", i, o.Rival, o.Level)
		}
		for seed, r := range o.Results {
			sc := st.At(o.Level, seed)
			sc.Policy, sc.Told = o.Rival.Policy, o.Rival.Told
			want, _ := json.Marshal(run(t, sc))
			if got, _ := json.Marshal(r); string(got) != string(want) {
				t.Errorf("outcome %d, seed %d: another result than its scenario's", i, seed)
			}
		}
	}
}

func TestRunAllStopsAtAnError(t *testing.T) {
	good := scenario("latency_aware", cards(1, h100), Load{Clients: 1}, 5)
	bad := good
	bad.Policy = "best"
	if _, err := RunAll([]Scenario{good, bad, good}, nil); err == nil || !strings.Contains(err.Error(), `no policy "best"`) {
		t.Errorf("error %v", err)
	}
}

func TestSpread(t *testing.T) {
	o := Outcomes{Results: []Result{{Mean: 3}, {Mean: 1}, {Mean: 2}, {Mean: 10}}}
	if s := o.Of(meanOf); s != (Spread{2.5, 1, 10}) {
		t.Errorf("spread %+v", s)
	}
}

func TestRivalsHaveNamesOfTheirOwn(t *testing.T) {
	var names []string
	for _, r := range Rivals() {
		names = append(names, r.Name())
	}
	all := len(names)
	slices.Sort(names)
	if len(slices.Compact(names)) != all || all < 17 {
		t.Errorf("rivals %v", names)
	}
}

// TestWhatIf: a second H100 helps wherever there is work for it, and one that never gets a job makes no
// difference.
func TestWhatIf(t *testing.T) {
	st := smallStudy(t)
	ours := []Rival{{"latency_aware", ToldNothing}}
	found, err := st.WhatIf([]Change{{1, "H100"}}, ours, nil)
	if err != nil || len(found) != 2 {
		t.Fatalf("%d, %v", len(found), err)
	}
	for _, w := range found {
		if w.Verdict() != "helps" || w.Ratio(meanOf) > 0.9 {
			t.Errorf("an H100 more at %v clients: %s, %.3f", w.Level, w.Verdict(), w.Ratio(meanOf))
		}
	}
	st.Levels = []float64{1, 1}
	found, err = st.WhatIf([]Change{{2, "T4"}}, ours, nil)
	if err != nil || found[0].Verdict() != "no difference" {
		t.Errorf("two T4 more for one client: %+v, %v", found, err)
	}
	if found, err = st.WhatIf([]Change{{-1, "H100"}}, ours, nil); err != nil || found[0].Verdict() != "hurts" {
		t.Errorf("without the H100: %v, %v", found, err)
	}
	if _, err = st.WhatIf([]Change{{-2, "H100"}}, ours, nil); err == nil {
		t.Error("two H100 of one were taken away")
	}
}

// TestWhatIfKeepsTheArrivals: a share of the capacity is that of the pool before, so that both pools get
// the same jobs at the same times.
func TestWhatIfKeepsTheArrivals(t *testing.T) {
	st := smallStudy(t)
	st.Load, st.Levels, st.Seeds = Load{Share: 0.5}, []float64{0.3, 0.5}, 1
	found, err := st.WhatIf([]Change{{1, "H100"}}, []Rival{{"latency_aware", ToldNothing}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range found {
		before, after := w.Before.Results[0], w.After.Results[0]
		if before.Elapsed != after.Elapsed || before.Jobs != after.Jobs || before.Bound.Mean < after.Bound.Mean {
			t.Errorf("at %v: elapsed %v and %v, bounds %v and %v", w.Level, before.Elapsed, after.Elapsed, before.Bound.Mean, after.Bound.Mean)
		}
	}
	if got := st.ladder(); len(got) != 2 {
		t.Errorf("ladder %v", got)
	}
	st.Levels = []float64{0.5}
	if got := st.ladder(); len(got) != len(shareLadder) {
		t.Errorf("ladder of a file with one level: %v", got)
	}
}
