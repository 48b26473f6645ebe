package sim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const small = `{"pool": [{"class": "T4"}], "load": {"closed": 4}, "audio": {"fixed_s": 5}, "jobs": 10}`

func TestParse(t *testing.T) {
	_, err := Parse([]byte(`{
		"about": "a study", "policy": "fastest_idle", "told": "class", "model": "large-v3",
		"pool": [
			{"class": "A10G", "count": 2, "slots": 2},
			{"name": "big", "class": "H100", "law": {"fixed_s": 0.05, "speed": 160, "sigma": 0.15, "outliers": {"share": 0.03, "factor": 4}}, "slots": 3, "gain": 2.5}
		],
		"load": {"open": [0.5, 0.85]},
		"audio": {"pareto": {"alpha": 1.3, "min_s": 3, "cap_s": 7200}},
		"size_error": 0.3, "duration_s": 90.5, "warm_up": 7, "seed": 11, "seeds": 3,
		"faults": [{"at_s": 1.5, "backend": "A10G-2", "becomes": "dead"}, {"at_s": 2, "backend": "big", "becomes": "slow", "factor": 2}]
	}`))
	if err == nil || !strings.Contains(err.Error(), `a fault of "A10G-2"`) {
		t.Errorf("a card that is not there: %v", err)
	}
	st, err := Parse([]byte(`{"pool": [{"class": "A10G", "count": 2, "slots": 2}, {"name": "big", "law": {"fixed_s": 0.05, "speed": 160}}],
		"load": {"open": [0.5, 0.85]}, "audio": {"list_s": [1, 2]}, "duration_s": 90.5, "seed": 11, "seeds": 3,
		"faults": [{"at_s": 1.5, "backend": "a10g-2", "becomes": "slow", "factor": 2}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Cards) != 3 || st.Cards[1].Name != "a10g-2" || st.Cards[2].Law.PerSecond != 1./160 || st.Cards[2].Slots != 1 {
		t.Errorf("cards %+v", st.Cards)
	}
	if !slices.Equal(st.Levels, []float64{0.5, 0.85}) || st.Duration != 90500*time.Millisecond || st.WarmUp != 20*5 {
		t.Errorf("study %+v", st)
	}
	sc := st.At(0.85, 2)
	if sc.Seed != 13 || sc.Load.Share != 0.85 || sc.Policy != "latency_aware" || sc.Told != ToldNothing || sc.Model != "base" {
		t.Errorf("scenario %+v", sc)
	}
	if f := st.Faults[0]; f.At != 1500*time.Millisecond || f.Becomes != Slow || f.Factor != 2 {
		t.Errorf("fault %+v", f)
	}
	if st.Pool() != "2 a10g, 1 big" {
		t.Errorf("pool %q", st.Pool())
	}
}

// TestWhatIsWrongIsSaid: each change of a sound file makes an error that says what to do.
func TestWhatIsWrongIsSaid(t *testing.T) {
	if _, err := Parse([]byte(small)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, says string }{
		{`"jobs": 10`, `"job": 10`, `unknown field "job"; docs/simulate.md`},
		{`"jobs": 10`, `"jobs": "ten"`, `line 1, column 90: jobs is a string, must be a whole number`},
		{`{"fixed_s": 5}`, `5`, `audio is a number, must be an object`},
		{`"jobs": 10}`, `"jobs": 10`, `ends before its closing brace`},
		{`"jobs": 10`, `jobs: 10`, `not JSON at line 1`},
		{`"jobs": 10}`, `"jobs": 10} {}`, `one scenario`},
		{`"jobs": 10`, `"seeds": 2`, `either jobs or duration_s`},
		{`"jobs": 10`, `"jobs": 10, "duration_s": 5`, `either jobs or duration_s`},
		{`"jobs": 10`, `"jobs": -1`, `either jobs or duration_s`},
		{`"jobs": 10`, `"jobs": 10, "seeds": -1`, `seeds is -1`},
		{`"jobs": 10`, `"jobs": 10, "policy": "best"`, `no policy "best"; there are latency_aware,`},
		{`"jobs": 10`, `"jobs": 10, "told": "all"`, `told is "all"`},
		{`"jobs": 10`, `"jobs": 10, "warm_up": -3`, `warm_up is -3`},
		{`"jobs": 10`, `"jobs": 10, "size_error": -3`, `size_error is -3`},
		{`{"class": "T4"}`, ``, `the pool is empty`},
		{`{"class": "T4"}`, `{"class": "L4"}`, `no law is known for the class "L4" with the model "base"`},
		{`{"class": "T4"}`, `{"class": "T4"}, {"class": "T4"}`, `two cards are called "t4"`},
		{`{"class": "T4"}`, `{"class": "T4", "count": 0}`, `count is 0`},
		{`{"class": "T4"}`, `{"class": "T4", "slots": 2000}`, `slots is 2000`},
		{`{"class": "T4"}`, `{"class": "T4", "gain": 0.5}`, `gain is 0.5`},
		{`"jobs": 10`, `"jobs": 10, "max_wait_s": -1`, `max_wait_s is negative`},
		{`"jobs": 10`, `"jobs": 10, "senders": [{"tenant": 1}]`, `the share 0 must be above 0`},
		{`"jobs": 10`, `"jobs": 10, "senders": [{"share": 1, "priority": "high"}]`, `no priority "high"`},
		{`"jobs": 10`, `"jobs": 10, "leaving": {"share": 0.5}`, `leaving needs share`},
		{`{"closed": 4}`, `{"closed": 4, "changes": [{"at_s": 1, "times": 2}]}`, `changes of the load go with open`},
		{`{"closed": 4}`, `{"open": 0.5, "changes": [{"at_s": 1}]}`, `times above 0`},
		{`"jobs": 10`, `"jobs": 10, "faults": [{"backend": "t4", "becomes": "dead", "share": 0.5}]`, `share goes with failing only`},
		{`"jobs": 10`, `"jobs": 10, "faults": [{"backend": "t4", "becomes": "dead", "retry_after_s": 5}]`, `retry_after_s goes with busy only`},
		{`{"class": "T4"}`, `{"class": "T4", "law": {}}`, `the law takes no time`},
		{`{"class": "T4"}`, `{"class": "T4", "law": {"speed": -4}}`, `speed is -4`},
		{`{"class": "T4"}`, `{"class": "T4", "law": {"fixed_s": 1, "sigma": 9}}`, `sigma is 9`},
		{`{"class": "T4"}`, `{"class": "T4", "law": {"fixed_s": 1, "outliers": {"share": 1}}}`, `outliers`},
		{`{"closed": 4}`, `{"closed": 4, "open": 0.5}`, `load must have one of`},
		{`{"closed": 4}`, `{}`, `load must have one of`},
		{`{"closed": 4}`, `{"closed": 4.5}`, `closed is 4.5, must be a whole number`},
		{`{"closed": 4}`, `{"closed": [4, 0]}`, `closed is 0, must be a whole number`},
		{`{"closed": 4}`, `{"closed": []}`, `a number or a list of numbers`},
		{`{"closed": 4}`, `{"open": -1}`, `open is -1`},
		{`{"closed": 4}`, `{"open_rate": -1}`, `open_rate is -1`},
		{`{"closed": 4}`, `{"open": 0.5, "think_s": 1}`, `think_s goes with closed only`},
		{`{"fixed_s": 5}`, `{"fixed_s": -5}`, `fixed_s is -5`},
		{`{"fixed_s": 5}`, `{}`, `audio must be one of`},
		{`{"fixed_s": 5}`, `{"fixed_s": 5, "list_s": [1]}`, `audio must be one of`},
		{`{"fixed_s": 5}`, `{"list_s": [1, -1]}`, `every length of list_s`},
		{`{"fixed_s": 5}`, `{"lognormal": {"median_s": 0}}`, `the median is 0`},
		{`{"fixed_s": 5}`, `{"lognormal": {"median_s": 9, "cap_s": 3}}`, `below the median`},
		{`{"fixed_s": 5}`, `{"pareto": {"alpha": 0.9, "min_s": 1}}`, `has no mean; set cap_s`},
		{`"jobs": 10`, `"jobs": 10, "faults": [{"backend": "t4", "becomes": "ill"}]`, `becomes is "ill"`},
		{`"jobs": 10`, `"jobs": 10, "faults": [{"backend": "t4", "becomes": "slow"}]`, `slow needs factor`},
		{`"jobs": 10`, `"jobs": 10, "faults": [{"backend": "t4", "becomes": "dead", "factor": 2}]`, `factor goes with slow`},
		{`"jobs": 10`, `"jobs": 10, "faults": [{"backend": "t4", "becomes": "dead", "at_s": -2}]`, `at_s is negative`},
	} {
		text := strings.Replace(small, c.old, c.new, 1)
		if text == small {
			t.Fatalf("%q is not in the file", c.old)
		}
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: the error is %v, want it to say %q", c.new, err, c.says)
		}
	}
}

// TestAllThatIsWrongIsSaidOnce: everything at once, and once however many levels there are.
func TestAllThatIsWrongIsSaidOnce(t *testing.T) {
	_, err := Parse([]byte(`{"pool": [{"class": "L4", "slots": -1}], "load": {"closed": [1, 2, 3]}, "audio": {"fixed_s": 5}, "jobs": 10}`))
	if err == nil || strings.Count(err.Error(), "no law") != 1 || strings.Count(err.Error(), "slots is -1") != 1 {
		t.Errorf("error: %v", err)
	}
}

func TestExamplesAreSound(t *testing.T) {
	files, err := filepath.Glob("../examples/*.json")
	if err != nil || len(files) < 6 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		st, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if st.About == "" || st.Seeds < 5 {
			t.Errorf("%s: says nothing about itself, or has %d seeds", file, st.Seeds)
		}
	}
}

func TestChanges(t *testing.T) {
	for text, want := range map[string][]Change{
		"+2 T4":             {{2, "T4"}},
		"-1 A10G +1 H100":   {{-1, "A10G"}, {1, "H100"}},
		"+ 3 t4, -2 big-1":  {{3, "t4"}, {-2, "big-1"}},
		"2 T4":              nil,
		"+0 T4":             nil,
		"+2":                nil,
		"":                  nil,
		"+2 T4 and then":    nil,
		"+99999999999 T4":   nil,
		"+1 T4, +1 H100, ;": {{1, "T4"}, {1, "H100"}},
	} {
		got, err := ParseChanges(text)
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestApply(t *testing.T) {
	st, err := Parse([]byte(`{"pool": [{"class": "A10G", "count": 2, "slots": 3}, {"name": "big", "class": "H100", "law": {"fixed_s": 1}}],
		"load": {"closed": 4}, "audio": {"fixed_s": 5}, "jobs": 10}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ change, pool, says string }{
		{"+2 a10g", "4 a10g, 1 big", ""},
		{"-1 A10G", "1 a10g, 1 big", ""},
		{"+1 H100", "2 a10g, 1 big, 1 h100", ""},
		{"+1 T4", "2 a10g, 1 big, 1 t4", ""},
		{"-1 big +1 big", "", "neither a card of the pool (2 a10g)"},
		{"-3 A10G", "", "the pool has 2 of these; its cards are 2 a10g, 1 big"},
		{"+1 L4", "", "neither a card of the pool (2 a10g, 1 big) nor a class"},
		{"-2 a10g -1 big", "", "no card would be left"},
	} {
		changes, err := ParseChanges(c.change)
		if err != nil {
			t.Fatal(err)
		}
		got, err := st.Apply(changes)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: the error is %v, want it to say %q", c.change, err, c.says)
			}
			continue
		}
		if err != nil || got.Pool() != c.pool {
			t.Errorf("%s: %q, %v, want %q", c.change, got.Pool(), err, c.pool)
		}
	}
	if len(st.Cards) != 3 {
		t.Error("the study that was applied to has changed")
	}
	like, err := st.Apply([]Change{{1, "H100"}})
	if err != nil || like.Cards[3].Law == nil || like.Cards[3].Law.Fixed != 1 {
		t.Errorf("the new card is not like the one of its class: %+v, %v", like.Cards, err)
	}
	plain, err := st.Apply([]Change{{1, "T4"}})
	if err != nil || plain.Cards[3].Law != nil || plain.Cards[3].Class != "T4" {
		t.Errorf("a card of another class: %+v, %v", plain.Cards, err)
	}
}
