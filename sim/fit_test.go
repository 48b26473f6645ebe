package sim

import (
	"math"
	"os"
	"strings"
	"testing"
)

// TestLoadTestsAreReproduced: each deployment of the load tests that started the project, by its own
// slots and service time, within a fifth where there are many jobs.
func TestLoadTestsAreReproduced(t *testing.T) {
	text, err := os.ReadFile("testdata/load_tests.csv")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := ParseLoadTests(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(tests) != 13 {
		t.Fatalf("%d tables, want 13", len(tests))
	}
	for _, lt := range tests {
		from := 128
		if last := lt.Rows[len(lt.Rows)-1].AtOnce; last < from {
			from = 32
		}
		fit := lt.Fit()
		outcomes, err := lt.Study(fit, 0.15, 1).Compare([]Rival{{"latency_aware", ToldNothing}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range lt.Rows {
			r := outcomes[i].Results[0]
			if r.Errors > 0 || len(r.Violations) > 0 {
				t.Errorf("%s, %d at once: %d errors, violations %v", lt.Name, row.AtOnce, r.Errors, r.Violations)
			}
			if row.AtOnce >= from && (math.Abs(r.Mean/row.Mean-1) > 0.2 || math.Abs(r.P95/row.P95-1) > 0.2) {
				t.Errorf("%s, %d at once, %d slots of %.3f s: mean %.2f s where %.2f s was measured, p95 %.2f s where %.2f s",
					lt.Name, row.AtOnce, fit.Slots, fit.Service, r.Mean, row.Mean, r.P95, row.P95)
			}
		}
	}
}

// TestTheMixedPoolPutTogether from the two single cards is close to the bound and never worse than the
// better card, where the measured one was worse than either.
func TestTheMixedPoolPutTogether(t *testing.T) {
	text, err := os.ReadFile("../examples/load-tests.json")
	if err != nil {
		t.Fatal(err)
	}
	st, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	st.Seeds = 2
	alone, err := st.Apply([]Change{{-1, "A10G"}})
	if err != nil {
		t.Fatal(err)
	}
	ours := []Rival{{"latency_aware", ToldNothing}}
	mixed, err := st.Compare(ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	single, err := alone.Compare(ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, level := range st.Levels {
		ratio := mixed[i].Of(func(r Result) float64 { return r.Ratio }).High
		mean, better := mixed[i].Of(meanOf).Median, single[i].Of(meanOf).Median
		t.Logf("%v at once: mean %.2f s, %.3f of the bound; the H100 alone %.2f s", level, mean, ratio, better)
		if level >= 64 && ratio > 1.03 || ratio > 1.15 {
			t.Errorf("%v at once: %.3f of the bound", level, ratio)
		}
		if mean > 1.02*better {
			t.Errorf("%v at once: mean %.2f s, the H100 alone %.2f s", level, mean, better)
		}
	}
}

// TestFitFindsWhatMadeTheFigures, exactly where they are exact.
func TestFitFindsWhatMadeTheFigures(t *testing.T) {
	lt := LoadTest{Name: "made", Audio: 5}
	for _, n := range []int{4, 16, 64, 256} {
		mean, p95 := slotSchedule(12, n)
		lt.Rows = append(lt.Rows, LoadTestRow{n, 0.9 * mean, 0.9 * p95})
	}
	if f := lt.Fit(); f.Slots != 12 || math.Abs(f.Service-0.9) > 1e-9 || f.Error > 1e-9 {
		t.Errorf("fit %+v, want 12 slots of 0.9 s", f)
	}
}

func TestSlotSchedule(t *testing.T) {
	if mean, p95 := slotSchedule(2, 5); math.Abs(mean-1.8) > 1e-9 || p95 != 3 {
		t.Errorf("mean %v, p95 %v", mean, p95)
	}
}

func TestLoadTestsThatAreWrong(t *testing.T) {
	for text, says := range map[string]string{
		"":                                   "the file is empty",
		"concurrency\n4\n":                   "no column mean_s; the columns are concurrency",
		"concurrency,mean_s\n":               "no rows",
		"concurrency,mean_s\n4,fast\n":       `line 2: mean_s is "fast"`,
		"concurrency,mean_s\n# why\n0,1\n":   `line 3: concurrency is "0"`,
		"concurrency,mean_s\n4.5,1\n":        "must be a whole number",
		"concurrency,mean_s\n4\n":            "wrong number of fields",
		"concurrency,mean_s,p95_s\n4,1,-1\n": `p95_s is "-1"`,
	} {
		if _, err := ParseLoadTests([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want it to say %q", text, err, says)
		}
	}
	tests, err := ParseLoadTests([]byte("# a comment\nconcurrency,gpu,mean_s\n4,T4,1\n8,T4,1.5\n4,H100,0.5\n"))
	if err != nil || len(tests) != 2 || len(tests[0].Rows) != 2 || tests[1].GPU != "H100" || tests[0].Audio != defaultClip {
		t.Errorf("%+v, %v", tests, err)
	}
}
