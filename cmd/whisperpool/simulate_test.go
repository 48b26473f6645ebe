package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/sim"
)

const smallScenario = `{"about": "a small pool",
	"pool": [{"class": "T4", "count": 2, "law": {"fixed_s": 0.12, "speed": 18, "sigma": 0.15}}, {"class": "H100", "law": {"fixed_s": 0.05, "speed": 160, "sigma": 0.15}}],
	"load": {"closed": [2, 8]}, "audio": {"lognormal": {"median_s": 12, "sigma": 1.2}}, "jobs": 200, "seeds": 3,
	"faults": [{"at_s": 5, "backend": "h100", "becomes": "slow", "factor": 2}]}`

// scenarioFile writes a scenario and returns its path.
func scenarioFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pool.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// simulated runs the command with these flags and arguments and returns what it printed.
func simulated(t *testing.T, args ...string) (string, error) {
	t.Helper()
	o := &simulateOptions{}
	fs := o.flags()
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := o.run(fs.Args(), &out, io.Discard)
	return out.String(), err
}

// wantLines says which of the texts are missing.
func wantLines(t *testing.T, out string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%q is missing in\n%s", text, out)
		}
	}
}

func TestSimulatePrintsATable(t *testing.T) {
	out, err := simulated(t, scenarioFile(t, smallScenario))
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, out, "a small pool\nPool: 2 t4, 1 h100.", "x bound", "\n  2  ", "\n  8  ", "h100  ", "busy", "Actual / predicted", "x 2  ", "found")
	again, err := simulated(t, scenarioFile(t, smallScenario))
	if err != nil || again != out {
		t.Errorf("the same file printed something else, %v:\n%s", err, again)
	}
}

func TestSimulateJSON(t *testing.T) {
	out, err := simulated(t, "--json", "--seeds", "2", scenarioFile(t, smallScenario))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Pool   string
		Load   string
		Levels []float64
		Seeds  int
		Runs   []struct {
			Policy  string
			Level   float64
			Results []sim.Result
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Pool != "2 t4, 1 h100" || got.Load != "clients" || got.Seeds != 2 || len(got.Runs) != 2 || len(got.Runs[1].Results) != 2 || got.Runs[1].Results[1].Mean <= 0 {
		t.Errorf("%+v", got)
	}
}

func TestSimulateCompare(t *testing.T) {
	file := scenarioFile(t, smallScenario)
	out, err := simulated(t, "--compare", file)
	if err != nil {
		t.Fatal(err)
	}
	chart := strings.TrimSuffix(file, ".json") + ".svg"
	wantLines(t, out, "2 clients; the least possible mean is", "8 clients; the least", "latency_aware, told all", "haproxy_first", "caddy_round_robin", "Chart: "+chart)
	svg, err := os.ReadFile(chart)
	if err != nil {
		t.Fatal(err)
	}
	wantWellFormed(t, svg)
	wantLines(t, string(svg), "<svg", "Pool: 2 t4, 1 h100, by clients", ">latency_aware<", ">p2c<", "99th percentile")

	other := filepath.Join(t.TempDir(), "other.svg")
	out, err = simulated(t, "--compare", "--json", "--seeds", "1", "--svg", other, file)
	if err != nil || !json.Valid([]byte(out)) {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	_, err = simulated(t, "--compare", "--seeds", "1", "--svg", filepath.Join(t.TempDir(), "no", "such", "folder.svg"), file)
	if err == nil || !strings.Contains(err.Error(), "say where with --svg") {
		t.Errorf("a chart that cannot be written: %v", err)
	}
}

func wantWellFormed(t *testing.T, text []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
}

func TestSimulateWhatIf(t *testing.T) {
	file := scenarioFile(t, smallScenario)
	out, err := simulated(t, "--what-if", "+1 H100", file)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, out, "From 2 t4, 1 h100 to 2 t4, 2 h100", "latency_aware", "caddy_least_conn", "helps", "It helps at every level.")
	out, err = simulated(t, "--what-if", "-1 H100", "--json", "--seeds", "1", file)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Changed     string `json:"changed_pool"`
		Comparisons []struct {
			Verdict       string
			Before, After []sim.Result
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Changed != "2 t4" || len(got.Comparisons) != 4 || got.Comparisons[0].Verdict != "hurts" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestSimulateFit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tests.csv")
	if err := os.WriteFile(file, []byte("gpu,concurrency,mean_s,p95_s\nT4,4,1.1,\nT4,64,2.21,3.53\nT4,512,11.57,20.99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := simulated(t, "--fit", file, "--seeds", "2")
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, out, "T4: ", " slots of ", "512", "11.6", "21.0", `{"name": "T4", "law": {"fixed_s": `)
	out, err = simulated(t, "--fit", file, "--seeds", "1", "--json")
	if err != nil || !json.Valid([]byte(out)) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestSimulateSaysWhatIsWrong(t *testing.T) {
	file := scenarioFile(t, smallScenario)
	wrong := scenarioFile(t, `{"pool": [], "load": {"closed": 1}, "audio": {"fixed_s": 5}, "jobs": 10}`)
	noMeans := scenarioFile(t, "concurrency,p95_s\n4,1\n")
	for says, args := range map[string][]string{
		"0 files given":                 {},
		"2 files given":                 {file, file},
		"no such file":                  {file + ".missing"},
		"the pool is empty":             {wrong},
		"ask one at a time":             {"--compare", "--what-if", "+1 T4", file},
		"add --compare":                 {"--svg", "out.svg", file},
		"--seeds is -1":                 {"--seeds", "-1", file},
		"is no change of a pool":        {"--what-if", "two T4", file},
		"the pool has 2 of these":       {"--what-if", "-3 T4", file},
		"--fit reads load tests":        {"--fit", "x.csv", file},
		"there is no column mean_s":     {"--fit", noMeans},
		"not a scenario: it goes with":  {"--fit", "x.csv", "--compare"},
		"neither a card of the pool (2": {"--what-if", "+1 L4", file},
	} {
		if _, err := simulated(t, args...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want it to say %q", args, err, says)
		}
	}
}

func TestVerdictsInASentence(t *testing.T) {
	st := sim.Study{}
	st.Load.Clients = 1
	at := func(level, ratio float64) sim.WhatIf {
		return sim.WhatIf{Level: level, Before: sim.Outcomes{Results: []sim.Result{{Mean: 1}}}, After: sim.Outcomes{Results: []sim.Result{{Mean: ratio}}}}
	}
	got := verdicts(st, []sim.WhatIf{at(1, 1), at(2, 1.2), at(4, 0.9), at(8, 0.8)})
	if want := "It makes no difference at 1, hurts at 2, helps at 4 to 8 clients."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
