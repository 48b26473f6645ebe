package main

import (
	"bytes"
	"context"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
	"github.com/whisperpool/whisperpool/gpu"
)

func TestPoolsHaveLawsAndAreMixed(t *testing.T) {
	for _, p := range pools {
		for _, c := range p.Cards {
			if _, ok := gpu.LawOf(c.Class, model); !ok {
				t.Errorf("%s: no law for %s", p.Name, c.Class)
			}
		}
	}
	// "Realistic" rests on this: a T4 is 4 to 8 times as slow as an H100 with this model.
	if ratio := meanSeconds("T4", 12) / meanSeconds("H100", 12); ratio < 4 || ratio > 8 {
		t.Errorf("a T4 takes %.1f times an H100", ratio)
	}
	lengths, err := bench.ParseLengths(equalClips)
	if err != nil {
		t.Fatal(err)
	}
	// Equal clips: the capacity is the sum of the cards' rates.
	want := 4/meanSeconds("A10G", 5) + 4/meanSeconds("H100", 5)
	if got := pools[1].capacity(lengths, 5); math.Abs(got/(5*want)-1) > 0.001 {
		t.Errorf("capacity %v, want %v", got, 5*want)
	}
}

func TestPlansHold(t *testing.T) {
	for _, p := range []plan{full(), short()} {
		for _, w := range p.workloads {
			load, _, err := w.load(p.speedUp)
			if err != nil || load.Check() != nil {
				t.Errorf("%s: %v, %v", w.Name(), err, load.Check())
			}
		}
		if p.speedUp > 5 || len(p.peers) != len(peers) {
			t.Errorf("%+v", p)
		}
	}
}

// two cards with known speeds
func cards2() []*backend {
	return []*backend{
		{name: "t4-1", class: "T4", address: "127.0.0.1:9001", instance: "i1", speed: 1},
		{name: "h100-1", class: "H100", address: "127.0.0.1:9002", instance: "i2", speed: 5},
	}
}

func TestHAProxyIsToldTheTruth(t *testing.T) {
	conf := haproxyFiles(cards2(), []int{1, 2, 3})["haproxy.cfg"]
	for _, want := range []string{
		"server t4-1 127.0.0.1:9001 check inter 10s\n",
		"server t4-1 127.0.0.1:9001 check inter 10s maxconn 1 weight 20\n",
		"server h100-1 127.0.0.1:9002 check inter 10s maxconn 1 weight 100\n",
		"balance first\n  option httpchk GET /health\n  option redispatch\n  retries 2\n  server h100-1",
	} {
		if !strings.Contains(conf, want) {
			t.Errorf("no %q in\n%s", want, conf)
		}
	}
}

// The programs themselves check what is written for them, where they are installed.
func TestConfigurationsAreAccepted(t *testing.T) {
	for name, check := range map[string][]string{
		"haproxy": {"-c", "-f", "haproxy.cfg"},
		"nginx":   {"-t", "-p", ".", "-c", "nginx.conf", "-e", "nginx.err"},
	} {
		path, err := stage.Find(name)
		if err != nil {
			t.Log(err)
			continue
		}
		dir := t.TempDir()
		for file, content := range programs[name].files(cards2(), []int{18101, 18102, 18103}) {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), path, check...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// The luck of a run scales its bound; equal clips share it, others have their own.
func TestBoundsFollowTheLuck(t *testing.T) {
	samples := func(lengths ...float64) (r bench.Result) {
		for i, x := range lengths {
			r.Samples = append(r.Samples, bench.Sample{Job: bench.Job{Index: i, Seconds: x}})
		}
		return r
	}
	mean := func(class string, x float64) time.Duration { return time.Duration(meanSeconds(class, x) / 5 * 1e9) }
	equal := samples(5, 5)
	equal.Samples[0].Outcome = bench.Outcome{Backend: "h100-1", Service: 3 * mean("H100", 5)}
	equal.Samples[1].Outcome = bench.Outcome{Backend: "i2", Service: mean("H100", 5)}
	p := pool{Cards: []cards{{"T4", 1}, {"H100", 1}}}
	var r run
	busy := 4 * mean("H100", 5).Seconds() // together twice the mean
	r.bound(p, bench.Load{Burst: 2}, equal, cards2(), busy, 5)
	if want := 1.5 * 2 * mean("H100", 5).Seconds(); math.Abs(r.Luck-2) > 1e-6 || math.Abs(r.Bound/want-1) > 1e-6 {
		t.Errorf("luck %v, bound %v, want 2 and %v", r.Luck, r.Bound, want)
	}
	// An unlucky long job on the slow card: alone on the fast one it would have been unlucky, too.
	mixed := samples(5, 100)
	mixed.Samples[0].Outcome = bench.Outcome{Backend: "h100-1", Service: mean("H100", 5)}
	mixed.Samples[1].Outcome = bench.Outcome{Backend: "t4-1", Service: 2 * mean("T4", 100)}
	busy = (mean("H100", 5) + 2*mean("T4", 100)).Seconds()
	r.bound(p, bench.Load{Clients: 1, Requests: 2}, mixed, cards2(), busy, 5)
	if want := (mean("H100", 5) + 2*mean("H100", 100)).Seconds() / 2; math.Abs(r.Bound/want-1) > 1e-6 {
		t.Errorf("bound %v, want %v", r.Bound, want)
	}
	// What only sustained the load has its part of the time that the cards worked.
	mixed.Further = []bench.Sample{{Job: bench.Job{Index: 2, Seconds: 50}, Outcome: bench.Outcome{Backend: "i2", Service: 7 * time.Second}}}
	before := r.Bound
	r.bound(p, bench.Load{Clients: 1, Requests: 2}, mixed, cards2(), busy+7, 5)
	if math.Abs(r.Bound/before-1) > 1e-6 {
		t.Errorf("bound %v with a further job, %v without", r.Bound, before)
	}
	// Nothing told, nothing served: no bound, or the law's.
	r = run{}
	r.bound(p, bench.Load{Burst: 2}, bench.Result{}, cards2(), 0, 5)
	if r.Bound != 0 {
		t.Errorf("a bound of nothing: %v", r.Bound)
	}
	r.bound(p, bench.Load{Burst: 2}, samples(5, 5), cards2(), 0, 5)
	if want := 1.5 * mean("H100", 5).Seconds(); math.Abs(r.Bound/want-1) > 1e-6 || r.Luck != 1 {
		t.Errorf("bound %v, luck %v", r.Bound, r.Luck)
	}
}

func fakeResults() results {
	of := func(peer string, runs ...run) *series {
		return &series{Pool: "p", Workload: "w", Lengths: "5", Peer: peer, Runs: runs}
	}
	one := func(repeat int, mean, p99, bound, luck float64) run {
		return run{Repeat: repeat, Bound: bound, Luck: luck, Summary: bench.Summary{Requests: 10, OK: 10, Latency: bench.Latency{Mean: mean, P99: p99, P50: mean}}}
	}
	return results{Version: "v", Model: model, SpeedUp: 5, Series: []*series{
		of(ours, one(0, 1, 2, 1, 1), one(1, 2.2, 4, 2, 2), one(2, 1.5, 2, 1, 1)),
		of("best", one(0, 2, 8, 1, 1), one(1, 2, 8, 1, 1), one(2, 2, 8, 1, 1)),
		of("other", one(0, 4, 8, 1, 1), one(1, 3, 8, 1, 1), one(2, 5, 8, 1, 1)),
		of("not run"),
	}}
}

func TestResults(t *testing.T) {
	r := fakeResults()
	c := r.comparisons()
	if len(c) != 1 || len(c[0].lines) != 3 {
		t.Fatalf("%+v", c)
	}
	own, best := c[0].lines[0], c[0].best()
	if own.mean != 1.5 || own.low != 1 || own.high != 2.2 || own.toBound != 1.1 || own.p99 != 2 {
		t.Errorf("%+v", own)
	}
	// Pairs: 1/2, 2.2/2 on twice as unlucky jobs, 1.5/2.
	if best.series.Peer != "best" || math.Abs(best.oursMean-0.55) > 1e-12 || math.Abs(best.oursP99-0.25) > 1e-12 {
		t.Errorf("%+v", best)
	}
	var text bytes.Buffer
	r.text(&text)
	for _, want := range []string{"p: w, lengths 5", "1.100  (1.000-1.500)", "0.55 times the mean and 0.25 times the p99 of the best of the others, best", "in no run did others use"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	r.Series[1].Runs[0].Others = 0.5
	text.Reset()
	r.text(&text)
	if !strings.Contains(text.String(), "in 1 of 9 runs, up to 50 %: these are no figures to publish") {
		t.Error(text.String())
	}
	if svg := string(r.drawing().SVG()); !strings.Contains(svg, "p: w") || strings.Contains(svg, "not run") {
		t.Error(svg)
	}
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                           "say what to measure",
		"speed":                      "nothing called",
		"-speed-up=6 placement":      "at most 5",
		"-repeat=-1 placement":       "-repeat",
		"-whisperpool=nil placement": "is not there",
	} {
		if err := command(t.Context(), strings.Fields(args), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something about %q", args, err, want)
		}
	}
}

func TestTheResponderAnswersWhenReleased(t *testing.T) {
	r, err := startResponder(true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	if _, err := stage.Get(t.Context(), "http://"+r.address+"/health"); err != nil {
		t.Error(err)
	}
	answered := make(chan error, 1)
	go func() {
		request, _ := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, "http://"+r.address+"/v1/audio/transcriptions", strings.NewReader("x"))
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
		}
		answered <- err
	}()
	select {
	case <-answered:
		t.Fatal("answered while held")
	default:
	}
	r.release()
	if err := <-answered; err != nil || r.served.Load() != 1 {
		t.Errorf("%v, %d served", err, r.served.Load())
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		xs   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}} {
		if got := median(c.xs); got != c.want {
			t.Errorf("%v: %v", c.xs, got)
		}
	}
}

func TestMetricsAreRead(t *testing.T) {
	text := []byte("# HELP a_sum x\na_sum 1.5\nb{pool=\"default\"} 2\n")
	if v, err := metric(text, "a_sum"); v != 1.5 || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := metric(text, `b{pool="default"}`); v != 2 || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := metric(text, "a"); err == nil {
		t.Error("a name's beginning is taken for it")
	}
}
