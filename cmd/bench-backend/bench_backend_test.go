package main

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
)

func TestWordErrors(t *testing.T) {
	for _, c := range []struct {
		heard, said     string
		errors, deleted int
	}{
		{"And so, my fellow Americans", "and so my fellow americans", 0, 0},
		{"the prism's edge", "the prisms edge", 0, 0},
		{"one two four", "one two three four", 1, 1},
		{"one to three", "one two three", 1, 0},
		{"one two two three", "one two three", 1, 0},
		{"", "one two", 2, 2},
		{"one", "", 1, 0},
	} {
		if errors, deleted := wordErrors(plainWords(c.heard), plainWords(c.said)); errors != c.errors || deleted != c.deleted {
			t.Errorf("%q for %q: %d errors of which %d deleted, want %d and %d", c.heard, c.said, errors, deleted, c.errors, c.deleted)
		}
	}
}

func TestSentencesCanBeReadAloud(t *testing.T) {
	got := sentences("Title. DEFIN. I. By the _Rays_ of Light I understand its least Parts, and no\nmore. In Fig. 3 there is the Prism ABC. " +
		"And the Square of 12 is what I mean here by that. For these being dark [Greek: x] Colours do easily suffer that. Short one. ")
	want := []string{"By the Rays of Light I understand its least Parts, and no more", "For these being dark Colours do easily suffer that"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q", got)
	}
}

func TestTheTextHasAThousandWords(t *testing.T) {
	text, err := readOpticks(runtime.GOROOT()) //nolint:staticcheck // the toolchain that runs the test
	if err != nil {
		t.Skip(err)
	}
	if n := distinct(text...); n < 2000 {
		t.Errorf("only %d distinct words", n)
	}
	first := newest(text, 0, 50, 20, map[string]bool{})
	seen := map[string]bool{}
	for _, word := range plainWords(text[first] + " " + text[first+1]) {
		seen[word] = true
	}
	if newest(text, 0, 50, 20, seen) == first {
		t.Error("a sentence is newest although all of its words were seen")
	}
}

func TestPathsFitClips(t *testing.T) {
	for _, c := range []struct {
		path    string
		seconds float64
		want    bool
	}{
		{pathFull, 28, true}, {pathShort, 28, true}, {"768", 11, true}, {"768", 12, false}, {"512", 6, true}, {"512", 7, false},
		{"1280", 20, true}, {"1280", 11, false}, {"1280", 22, false},
	} {
		if fits(c.path, c.seconds) != c.want {
			t.Errorf("%s for %v s: %v", c.path, c.seconds, !c.want)
		}
	}
	for seconds, want := range map[float64]int{0.5: 2, 2: 2, 2.99: 3, 7.1: 11, 28: 28, 30: 0} {
		if bucketOf(seconds) != want {
			t.Errorf("%v s are in %d", seconds, bucketOf(seconds))
		}
	}
}

func TestAnswersAreRead(t *testing.T) {
	h := heard{Said: "one two three"}
	if err := h.read([]byte(`{"segments":[{"text":" One two","avg_logprob":-0.2},{"text":" too.","avg_logprob":-0.5}]}`)); err != nil {
		t.Fatal(err)
	}
	if h.Text != "One two too." || h.Words != 3 || h.Errors != 1 || h.Segments != 2 || h.Logprob != -0.5 || h.Ratio <= 0 {
		t.Errorf("%+v", h)
	}
	if h.read([]byte("no")) == nil {
		t.Error("nonsense is taken for an answer")
	}
}

func TestWhatWasHeardIsKeptAndPaired(t *testing.T) {
	file := filepath.Join(t.TempDir(), "heard.jsonl")
	lines := `{"clip":"a","bucket":2,"model":"m","search":"greedy","path":"full","said":"one two","words":2,"errors":1,"cpu_seconds":2}
{"clip":"a","bucket":2,"model":"m","search":"greedy","path":"768","said":"one two","words":2,"errors":2,"deleted":1,"cpu_seconds":1}
{"clip":"b","bucket":3,"model":"m","search":"greedy","path":"768","words":2,"errors":2}
{"clip":"a","bucket":2,"model":"m","search":"greedy","path":"full","said":"one two","words":2,"errors":0,"cpu_seconds":4}
{"clip":"c","bucket":2,"mod`
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := readHeard(file)
	if err != nil || len(all) != 3 {
		t.Fatalf("%v %+v", err, all)
	}
	r := summarise(all)
	var row *accuracyRow
	for _, one := range r.Rows {
		if one.Path == "768" && one.Bucket == 0 {
			row = one
		}
	}
	if r.Distinct != 2 || row == nil || row.Clips != 1 || row.Errors != 2 || row.FullErrors != 0 || row.Worse != 1 || row.Deleted != 1 || row.Slowest != 0.25 {
		t.Errorf("%+v %+v", r, row)
	}
	var text bytes.Buffer
	r.text(&text)
	if !strings.Contains(text.String(), "768, 2 s") || !strings.Contains(string(r.drawing().SVG()), "m, greedy") {
		t.Error(text.String())
	}
	if all, err := readHeard(filepath.Join(t.TempDir(), "none")); err != nil || all != nil {
		t.Errorf("%v %v", err, all)
	}
}

func TestBucketsTakeTurns(t *testing.T) {
	var clips []clip
	for range 24 {
		clips = append(clips, clip{Bucket: 2})
	}
	clips = append(clips, clip{Bucket: 28})
	turns := inTurn(clips)
	if len(turns) != 25 || turns[2].Bucket != 28 {
		t.Errorf("%+v", turns)
	}
}

func TestWAVIsOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.wav")
	if err := os.WriteFile(path, wav([]float32{0, 0.5, -1, 2}), 0o600); err != nil {
		t.Fatal(err)
	}
	samples, err := samplesOf(t.Context(), path)
	if err != nil || len(samples) != 4 || math.Abs(float64(samples[1])-0.5) > 0.001 || samples[3] < 0.99 {
		t.Errorf("%v %v", samples, err)
	}
}

func TestContendersShareTheProcessors(t *testing.T) {
	for _, streams := range []int{1, 4} {
		for _, c := range contenders(2, streams, true) {
			if c.Slots*c.Threads != 2 || c.Short && c.Equal {
				t.Errorf("%+v", c)
			}
		}
	}
	if all := contenders(1, 4, false); len(all) != 2 {
		t.Errorf("%+v", all)
	}
}

func TestStreamsAreSummedUp(t *testing.T) {
	run := func(repeat int, seconds, others float64) streamRun {
		return streamRun{Repeat: repeat, Seconds: seconds, Each: []float64{seconds / 2}, Others: others}
	}
	r := &streamResults{Started: time.Now(), Machine: stage.ThisMachine(), Processors: 2, Series: []*streamSeries{
		{Model: "m", Search: "greedy", Streams: 2, Contender: contenders(2, 2, false)[0], Audio: 10, Runs: []streamRun{run(0, 10, 0), run(1, 8, 0)}},
		{Model: "m", Search: "greedy", Streams: 2, Contender: contenders(2, 2, false)[2], Audio: 10, Runs: []streamRun{run(0, 5, 0), run(1, 5, 0.5)}},
		{Model: "m", Search: "greedy", Streams: 4},
	}}
	groups := r.groups()
	if len(groups) != 1 || len(groups[0].lines) != 2 {
		t.Fatalf("%+v", groups)
	}
	if l := groups[0].lines[1]; math.Abs(l.ratio-1.8) > 1e-9 || l.ratioLow != 1.6 || l.rHigh != 2 || l.speed != 2 || l.each != 2.5 {
		t.Errorf("%+v", l)
	}
	var text bytes.Buffer
	r.text(&text)
	if !strings.Contains(text.String(), "1.800") || !strings.Contains(text.String(), "in 1 of 4 runs, up to 50 %: these are no figures to publish") {
		t.Error(text.String())
	}
	if !strings.Contains(string(r.drawing().SVG()), "x 1.80") {
		t.Error("no ratio in the drawing")
	}
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":        "say what to measure",
		"speed":   "say what to measure",
		"streams": "name the folders",
		"-models=x -recordings=y -paths=9999 accuracy":          "-paths",
		"-models=x -recordings=y -search=wide accuracy":         "-search",
		"-models=x -recordings=y -workers=0 accuracy":           "-workers",
		"-models=x -recordings=y -model= streams":               "name a model",
		"-models=x -recordings=y -only=( accuracy":              "-only",
		"-models=x -recordings=y -repeat=-1 streams":            "-repeat",
		"-models=x -recordings=y -whisper-backend=none streams": "is not there",
	} {
		if err := command(t.Context(), strings.Fields(args), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something about %q", args, err, want)
		}
	}
}
