package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/whisperpool/whisperpool/cmd/stage"
	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
)

// run is one measurement of one peer.
type run struct {
	Repeat  int           `json:"repeat"`
	Bound   float64       `json:"bound_s"` // of this run's jobs, with the times that they took
	Luck    float64       `json:"luck"`    // how much longer the cards worked than the law's mean says
	Own     float64       `json:"cpu_own"` // share of the processors used by all that was measured
	Others  float64       `json:"cpu_others"`
	Summary bench.Summary `json:"summary"`
}

// series are a peer's runs under a workload.
type series struct {
	Pool     string `json:"pool"`
	Workload string `json:"workload"`
	Lengths  string `json:"lengths"`
	Peer     string `json:"peer"`
	Told     string `json:"told,omitempty"` // by hand
	Version  string `json:"version"`
	Runs     []run  `json:"runs"`
}

// placement compares where and when peers place jobs.
type placement struct {
	plan    plan
	dir     string            // for logs and configurations
	paths   map[string]string // of whisperpool, and of interpreters, by program
	backend string            // the program whisper-backend
	say     io.Writer
}

// measure runs the whole plan. Every repetition has every peer do the same jobs under every
// workload, in an order of its own, so that what changes on the machine meets all of them.
func (m placement) measure(ctx context.Context) (all []*series, notes []string, err error) {
	for _, p := range m.plan.pools() {
		measured, skipped, err := m.onPool(ctx, p)
		all = append(all, measured...)
		if err != nil {
			return all, notes, err
		}
		notes = skipped // the same on every pool
	}
	return all, notes, nil
}

func (m placement) onPool(ctx context.Context, p pool) ([]*series, []string, error) {
	ps := &stage.Processes{Dir: fmt.Sprintf("%s/%s", m.dir, strings.NewReplacer(" ", "", "+", "-").Replace(p.Name))}
	defer ps.Stop()
	backends, err := startPool(ctx, ps, m.backend, p, m.plan.speedUp)
	if err != nil {
		return nil, nil, err
	}
	all, skipped, err := startPeers(ctx, ps, m.plan.peers, m.paths, backends)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range skipped {
		fmt.Fprintln(m.say, s)
	}
	var measured []*series
	of := map[string]*series{}
	for _, w := range m.plan.workloads {
		if w.Pool.Name != p.Name {
			continue
		}
		for _, r := range all {
			s := &series{Pool: p.Name, Workload: w.Name(), Lengths: w.Lengths, Peer: r.Name, Told: r.Told, Version: r.Version}
			measured, of[w.Name()+r.Name] = append(measured, s), s
		}
	}
	order := rand.New(rand.NewPCG(1, 1))
	for repeat := range m.plan.repeats {
		for _, w := range m.plan.workloads {
			if w.Pool.Name != p.Name {
				continue
			}
			for _, i := range order.Perm(len(all)) {
				one, err := m.once(ctx, w, all[i], backends, repeat)
				if err != nil {
					return measured, skipped, fmt.Errorf("%s, %s, %s: %w", p.Name, w.Name(), all[i].Name, err)
				}
				s := of[w.Name()+all[i].Name]
				s.Runs = append(s.Runs, one)
				fmt.Fprintf(m.say, "%d/%d  %-22s %-26s %-24s mean %7.3f s  %5.2f x bound  p99 %7.3f s%s\n", repeat+1, m.plan.repeats, p.Name,
					w.Name(), all[i].Name, one.Summary.Latency.Mean, one.Summary.Latency.Mean/one.Bound, one.Summary.Latency.P99, one.trouble())
			}
		}
	}
	return measured, skipped, nil
}

// trouble is what makes a run doubtful, "" when nothing does.
func (r run) trouble() string {
	text := ""
	if n := r.Summary.Refused + r.Summary.Failed; n > 0 {
		text += fmt.Sprintf("  %d not served (%s)", n, r.Summary.Problems[0].What)
	}
	if r.Others > stage.OthersMost {
		text += fmt.Sprintf("  others used %.0f %% of the processors", 100*r.Others)
	}
	if len(r.Summary.Doubts()) > 0 {
		text += fmt.Sprintf("  the generator was %.0f ms late", 1000*r.Summary.Generator.Late())
	}
	return text
}

// once warms a peer up and measures it.
func (m placement) once(ctx context.Context, w workload, r running, backends []*backend, repeat int) (run, error) {
	load, lengths, err := w.load(m.plan.speedUp)
	if err != nil {
		return run{}, err
	}
	audio := bench.NewSpeech(lengths, bench.MuLaw)
	client := bench.NewClient(bench.Target{
		URL: r.URL + "/v1/audio/transcriptions", Header: http.Header{},
		Fields: [][2]string{{"model", model}, {"language", "en"}, {"response_format", "json"}},
	}, audio, load.Most())
	defer client.Close()
	seed := uint64(1000*repeat + 1)
	warm := bench.Load{Clients: 2 * len(backends), Requests: 4 * len(backends)}
	bench.Run(ctx, bench.NewSchedule(warm, audio, seed+500), client.Send, nil)
	if err := idle(ctx, backends); err != nil {
		return run{}, err
	}
	before, err := busySeconds(ctx, backends)
	if err != nil {
		return run{}, err
	}
	cpu := stage.CPUNow()
	result := bench.Run(ctx, bench.NewSchedule(load, audio, seed), client.Send, nil)
	if ctx.Err() != nil {
		return run{}, ctx.Err()
	}
	after, err := busySeconds(ctx, backends)
	if err != nil {
		return run{}, err
	}
	out := run{Repeat: repeat, Summary: bench.Summarize(result)}
	out.Own, out.Others = stage.CPUNow().Since(cpu)
	out.bound(w.Pool, load, result, backends, after-before, m.plan.speedUp)
	return out, nil
}
