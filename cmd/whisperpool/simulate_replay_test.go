package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/sim"
	"github.com/whisperpool/whisperpool/sim/recording"
)

// aRecording was made by the proxy with three emulated backends under whisperpool bench: 60 requests at random moments,
// in which one of the backends was killed; a burst of 22, of which the queue took all but 5; and 4 clients that left.
const aRecording = "../../sim/recording/testdata/proxy.jsonl"

func TestReplay(t *testing.T) {
	out, err := simulated(t, "--replay", aRecording)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, out, "303 events in 38.15s", "86 with 42m28s of audio served", "77 served, 5 queue_full, 4 client_gone.", "Attempts: 82; 1 jobs had more than one.",
		"waiting                  0.113  0.000  0.786  1.077    1.077", "response                 0.347  0.160  1.307  2.275    2.275",
		"\n  a10g-1    A10G      1        7.8 %   1.9 %         30.9", "1 died", "4 aborted", "base     86      77", "Decisions: this version decides")
	out, err = simulated(t, "--json", "--replay", aRecording)
	var got recording.Summary
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.Jobs != 86 || len(got.Backends) != 3 || got.Decided.Compared == 0 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestReplayCompare(t *testing.T) {
	chart := filepath.Join(t.TempDir(), "chart.svg")
	out, err := simulated(t, "--compare", "--svg", chart, "--replay", aRecording)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, out, "Simulated: 86 of 86 jobs", "h100-1   base    0.041          258      2         x 1.5", "measured, 65 jobs", "the law of T4 x 1.47",
		"as recorded ", "0.347        -  0.160  1.307  2.275  0.113       5     4", "latency_aware, told all", "caddy_round_robin", "Chart: "+chart)
	svg, err := os.ReadFile(chart)
	if err != nil {
		t.Fatal(err)
	}
	wantWellFormed(t, svg)
	wantLines(t, string(svg), "recorded jobs", "Pool: 1 t4, 1 a10g, 1 h100")

	out, err = simulated(t, "--compare", "--json", "--svg", chart, "--replay", aRecording)
	var got struct {
		Recording recording.Summary
		Recorded  sim.Result `json:"as_recorded"`
		Runs      []struct {
			Policy  string
			Results []sim.Result
		}
	}
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || len(got.Runs) != len(sim.Rivals()) {
		t.Fatalf("%v: %.300s", err, out)
	}
	ours := got.Runs[0].Results[0]
	if off := ours.Mean / got.Recorded.Mean; off < 0.9 || off > 1.1 || ours.Jobs != 86 || ours.Left != 4 {
		t.Errorf("simulated as it was: %+v, recorded %+v", ours, got.Recorded)
	}
	if peer := got.Runs[len(got.Runs)-1].Results[0]; peer.Errors != 0 || peer.Left > 4 { // they have no limit of the queue
		t.Errorf("%+v", peer)
	}
}

func TestReplayWhatIf(t *testing.T) {
	out, err := simulated(t, "--what-if", "-1 h100-1", "--replay", aRecording)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, out, "From 1 t4, 1 a10g, 1 h100 to 1 t4, 1 a10g, on the recorded jobs", "latency_aware ", "caddy_least_conn ", "hurts", "Recorded: mean 0.347, p99 2.275")
	out, err = simulated(t, "--what-if", "+2 t4-1", "--json", "--replay", aRecording)
	if err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, `"changed_pool": "1 t4, 1 a10g, 1 h100, 2 t4-1"`) {
		t.Errorf("%v: %.300s", err, out)
	}
}

func TestReplaySaysWhatIsWrong(t *testing.T) {
	text, err := os.ReadFile(aRecording)
	if err != nil {
		t.Fatal(err)
	}
	damaged, cut := filepath.Join(t.TempDir(), "damaged.jsonl"), filepath.Join(t.TempDir(), "cut.jsonl")
	lines := bytes.SplitAfter(text, []byte("\n"))
	for file, text := range map[string][]byte{damaged: bytes.Join(append(lines[:20:20], lines[20][:30], lines[21]), nil), cut: text[:len(text)/2]} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for says, args := range map[string][]string{
		"damaged.jsonl: line 21 (byte ":                {"--replay", damaged},
		"leave --seeds out":                            {"--seeds", "3", "--replay", aRecording},
		"--fit reads load tests and --replay":          {"--fit", "x.csv", "--replay", aRecording},
		"ask one at a time":                            {"--compare", "--what-if", "+1 T4", "--replay", aRecording},
		"add --compare":                                {"--svg", "x.svg", "--replay", aRecording},
		"no such file":                                 {"--replay", aRecording + ".missing"},
		"these are 2 recordings":                       {"--replay", aRecording, cut},
		"+1 GTX: neither a card of the recording (1 ":  {"--what-if", "+1 GTX", "--replay", aRecording},
		"is no change of a pool":                       {"--what-if", "two T4", "--replay", aRecording},
		"the pool has 1 of these":                      {"--what-if", "-2 T4", "--replay", aRecording},
		"the segments that the option record has writ": {"--replay", scenarioFile(t, smallScenario)},
	} {
		if _, err := simulated(t, args...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want it to say %q", args, err, says)
		}
	}
	out, err := simulated(t, "--replay", cut)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, out, "Its end is cut, at ", "what is before that is used")
}
