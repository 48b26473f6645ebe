package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
	"github.com/whisperpool/whisperpool/gpu"
)

// model is what all cards serve: at this size, classes differ as pools are meant to, up to five
// times.
const model = "large-v3"

// pool is a mixed pool by its classes.
type pool struct {
	Name  string
	Cards []cards // slowest class first
}

type cards struct {
	Class string
	Count int
}

// The pools that are compared on.
var pools = []pool{
	{"4 T4 + 2 A10G + 2 H100", []cards{{"T4", 4}, {"A10G", 2}, {"H100", 2}}},
	{"4 A10G + 4 H100", []cards{{"A10G", 4}, {"H100", 4}}},
}

// backend is an emulated card that serves.
type backend struct {
	name, class string
	address     string // host:port
	instance    string // as it names itself in answers
	speed       float64
}

// startPool starts the pool's backends, times divided by speedUp, and waits until they serve.
func startPool(ctx context.Context, ps *stage.Processes, program string, p pool, speedUp float64) ([]*backend, error) {
	var all []*backend
	started := map[*backend]*stage.Process{}
	for _, c := range p.Cards {
		for i := range c.Count {
			port, err := stage.FreePort()
			if err != nil {
				return nil, err
			}
			b := &backend{name: fmt.Sprintf("%s-%d", strings.ToLower(c.Class), i+1), class: c.Class, address: fmt.Sprintf("127.0.0.1:%d", port)}
			b.speed = 1 / meanSeconds(c.Class, 12)
			process, err := ps.Start(b.name, program, "--engine", "emulator", "--emulate-class", c.Class, "--emulate-model", model,
				"--slots", "1", "--queue", "100000", "--speed-up", strconv.FormatFloat(speedUp, 'g', -1, 64),
				"--seed", strconv.Itoa(len(all)+1), "--listen", b.address, "--log-level", "warn", "--ffmpeg", "off")
			if err != nil {
				return nil, err
			}
			all, started[b] = append(all, b), process
		}
	}
	for _, b := range all {
		if err := started[b].Ready(ctx, "http://"+b.address+"/health"); err != nil {
			return nil, err
		}
		text, err := stage.Get(ctx, "http://"+b.address+"/load-report")
		if err != nil {
			return nil, err
		}
		var report struct{ Instance string }
		if err := json.Unmarshal(text, &report); err != nil {
			return nil, fmt.Errorf("the load report of %s: %w", b.name, err)
		}
		b.instance = report.Instance
	}
	return all, nil
}

// meanSeconds is how long a clip takes a card of a class on average, at its own speed.
func meanSeconds(class string, audio float64) float64 {
	law, _ := gpu.LawOf(class, model) // pools have classes with a law; a test sees to that
	return law.Mean(gpu.Job{Seconds: audio, Speech: 1}).Seconds()
}

// kinds are the pool's cards as the bounds want them: times of these clips, divided by speedUp and
// multiplied by what luck each job had.
func (p pool) kinds(clips []float64, luck func(job int) float64, speedUp float64) []bench.Kind {
	var kinds []bench.Kind
	for _, c := range p.Cards {
		k := bench.Kind{Slots: c.Count}
		for j, audio := range clips {
			k.Seconds = append(k.Seconds, meanSeconds(c.Class, audio)*luck(j)/speedUp)
		}
		kinds = append(kinds, k)
	}
	return kinds
}

// capacity is how many jobs of such lengths a second the pool can do at the most.
func (p pool) capacity(lengths bench.Lengths, speedUp float64) float64 {
	jobs := bench.NewSchedule(bench.Load{Burst: 20_000}, bench.NewSpeech(lengths, bench.MuLaw), 1).Jobs()
	clips := make([]float64, len(jobs))
	for i, j := range jobs {
		clips[i] = j.Seconds
	}
	return bench.Throughput(p.kinds(clips, func(int) float64 { return 1 }, speedUp))
}

// busySeconds is how long the cards have worked on jobs so far, all together.
func busySeconds(ctx context.Context, all []*backend) (float64, error) {
	total := 0.0
	for _, b := range all {
		text, err := stage.Get(ctx, "http://"+b.address+"/metrics")
		if err != nil {
			return 0, err
		}
		v, err := metric(text, "whisper_backend_inference_seconds_sum")
		if err != nil {
			return 0, fmt.Errorf("%s: %w", b.name, err)
		}
		total += v
	}
	return total, nil
}

// metric is the value of a metric, labels included in its name, in a text of Prometheus.
func metric(text []byte, name string) (float64, error) {
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

// idle waits until nothing runs on the cards.
func idle(ctx context.Context, all []*backend) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for _, b := range all {
		for {
			text, err := stage.Get(ctx, "http://"+b.address+"/load-report")
			if err != nil {
				return err
			}
			var load struct{ Busy, Queued int }
			if err := json.Unmarshal(text, &load); err != nil {
				return err
			}
			if load.Busy+load.Queued == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticker.C:
			}
		}
	}
	return nil
}
