package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
)

// Ways to the responder that are compared.
const (
	direct       = "no proxy"
	reverseProxy = "reverse_proxy, buffering"
	streaming    = "reverse_proxy, streaming"
)

// proxyCost is what is measured of each way.
type proxyCost struct {
	Started time.Time     `json:"started"`
	Version string        `json:"version"`
	Machine stage.Machine `json:"machine"`
	Bytes   int64         `json:"upload_bytes"`
	Clients int           `json:"clients"`
	Ways    []*wayCost    `json:"ways"`
}

// wayCost has a figure for each repetition.
type wayCost struct {
	Way     string    `json:"way"`
	Rate    []float64 `json:"requests_per_s"`    // with many clients
	P50     []float64 `json:"p50_s"`             // with one client
	P99     []float64 `json:"p99_s"`             // with one client
	CPU     []float64 `json:"cpu_s_per_request"` // of the proxy, with many clients
	Others  []float64 `json:"cpu_others"`        // share of the processors, with many clients
	Missing int       `json:"not_served"`        // of all requests
}

func (o options) proxying(ctx context.Context, out, say io.Writer) error {
	repeats, each := 7, 8*time.Second
	if o.short {
		repeats, each = 3, 3*time.Second
	}
	if o.repeats > 0 {
		repeats = o.repeats
	}
	const clients = 32
	backend, err := startResponder(false)
	if err != nil {
		return err
	}
	defer backend.stop()
	ps := &stage.Processes{Dir: filepath.Join(o.out, "logs", "proxying")}
	defer ps.Stop()
	ways, err := startWays(ctx, ps, o.whisperpool, backend.address)
	if err != nil {
		return err
	}
	lengths, err := bench.ParseLengths(equalClips)
	if err != nil {
		return err
	}
	audio := bench.NewSpeech(lengths, bench.PCM)
	cost := proxyCost{
		Started: time.Now(), Version: stage.Version(o.whisperpool, "version"), Machine: stage.ThisMachine(),
		Bytes: audio.Clip(bench.Job{Seconds: 5}).Size, Clients: clients,
	}
	for _, w := range ways {
		cost.Ways = append(cost.Ways, w.cost)
	}
	for repeat := range repeats {
		for i := range ways {
			w := ways[(i+repeat)%len(ways)] // in turn first and last
			if err := w.measure(ctx, audio, clients, each); err != nil {
				return err
			}
			fmt.Fprintf(say, "%d/%d  %-26s %6.0f requests/s  p50 %.3f ms  others used %.0f %% of the processors\n", repeat+1, repeats, w.cost.Way,
				w.cost.Rate[repeat], 1000*w.cost.P50[repeat], 100*w.cost.Others[repeat])
		}
	}
	cost.text(out)
	return o.keep("proxying", cost, nil)
}

// way is a way to the responder.
type way struct {
	url     string
	process *stage.Process // nil: none
	cost    *wayCost
}

// proxyingCaddyfile has whisper_pool and reverse_proxy in processes of their own, so that the
// processor time of each is known. A body counts as buffered by reverse_proxy when it is smaller than
// the buffer.
func proxyingCaddyfile(port int, handler string) string {
	return fmt.Sprintf("%shttp://127.0.0.1:%d {\n\tbind 127.0.0.1\n\t@up path /up\n\trespond @up 200\n%s}\n", caddyHead, port, handler)
}

func startWays(ctx context.Context, ps *stage.Processes, program, backend string) ([]way, error) {
	ways := []way{{url: "http://" + backend, cost: &wayCost{Way: direct}}}
	for _, w := range []struct{ name, handler string }{
		{reverseProxy, "\treverse_proxy " + backend + " {\n\t\trequest_buffers 64MiB\n\t}\n"},
		{streaming, "\treverse_proxy " + backend + "\n"},
		{ours, "\twhisper_pool {\n\t\tbackend " + backend + " {\n\t\t\tkind openai\n\t\t\tslots 64\n\t\t}\n\t\tdefault_model base\n\t}\n"},
	} {
		port, err := stage.FreePort()
		if err != nil {
			return nil, err
		}
		name := map[string]string{reverseProxy: "buffering", streaming: "streaming", ours: ours}[w.name]
		p, url, err := startCaddy(ctx, ps, name, program, proxyingCaddyfile(port, w.handler), port)
		if err != nil {
			return nil, err
		}
		ways = append(ways, way{url: url, process: p, cost: &wayCost{Way: w.name}})
	}
	return ways, nil
}

// startCaddy starts the program with a Caddyfile whose site answers /up at a port.
func startCaddy(ctx context.Context, ps *stage.Processes, name, program, caddyfile string, port int) (*stage.Process, string, error) {
	dir := filepath.Join(ps.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(caddyfile), 0o644); err != nil {
		return nil, "", err
	}
	p, err := ps.Start(name, program, "run", "--config", "Caddyfile")
	if err != nil {
		return nil, "", err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	return p, url, p.Ready(ctx, url+"/up")
}

// measure asks with one client, for the latency, and then with many.
func (w way) measure(ctx context.Context, audio bench.Audio, clients int, each time.Duration) error {
	client := bench.NewClient(bench.Target{
		URL: w.url + "/v1/audio/transcriptions", Fields: [][2]string{{"model", "base"}, {"response_format", "json"}},
	}, audio, clients)
	defer client.Close()
	run := func(load bench.Load) bench.Summary {
		s := bench.Summarize(bench.Run(ctx, bench.NewSchedule(load, audio, 1), client.Send, nil))
		w.cost.Missing += s.Refused + s.Failed
		return s
	}
	run(bench.Load{Clients: clients, Requests: 10 * clients}) // warm: connections, pools of buffers, learned speeds
	if w.cost.Missing > 0 {
		return fmt.Errorf("%s does not serve: see the logs", w.cost.Way)
	}
	one := run(bench.Load{Clients: 1, Duration: each / 2})
	before, machine := w.seconds(), stage.CPUNow()
	many := run(bench.Load{Clients: clients, Duration: each})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, others := stage.CPUNow().Since(machine)
	c := w.cost
	c.Rate, c.Others = append(c.Rate, many.Rate), append(c.Others, others)
	c.P50, c.P99 = append(c.P50, one.Latency.P50), append(c.P99, one.Latency.P99)
	c.CPU = append(c.CPU, (w.seconds()-before)/float64(max(1, many.OK)))
	return nil
}

// seconds is the processor time of the proxy so far.
func (w way) seconds() float64 {
	if w.process == nil {
		return 0
	}
	return stage.FamilySeconds(w.process.Pid())
}

func (c proxyCost) text(w io.Writer) {
	fmt.Fprintf(w, "\n%s, %s\n%s\nuploads of %d bytes; requests/s with %d clients, latency with one; medians, lowest and highest in brackets\n\n",
		c.Started.Format("2006-01-02 15:04"), c.Version, c.Machine, c.Bytes, c.Clients)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\trequests/s\t\tp50 ms\t\tp99 ms\tproxy's CPU ms/request\t")
	for _, x := range c.Ways {
		fmt.Fprintf(t, "%s\t%.0f\t(%.0f-%.0f)\t%.3f\t(%.3f-%.3f)\t%.3f\t%.3f\t\n", x.Way, median(x.Rate), slices.Min(x.Rate), slices.Max(x.Rate),
			1000*median(x.P50), 1000*slices.Min(x.P50), 1000*slices.Max(x.P50), 1000*median(x.P99), 1000*median(x.CPU))
	}
	_ = t.Flush() // like all of the text
	stock, own := c.way(reverseProxy), c.way(ours)
	var rates, added, others []float64
	for i := range own.Rate {
		rates, added = append(rates, own.Rate[i]/stock.Rate[i]), append(added, own.P50[i]-stock.P50[i])
	}
	for _, x := range c.Ways {
		others = append(others, x.Others...)
	}
	fmt.Fprintf(w, "\nwhisperpool: %.2f (%.2f-%.2f) times the requests/s of reverse_proxy with the same buffering, %+.3f ms at the median\n",
		median(rates), slices.Min(rates), slices.Max(rates), 1000*median(added))
	fmt.Fprintf(w, "note: others used up to %.0f %% of the processors, %.0f %% at the median\n", 100*slices.Max(others), 100*median(others))
}

func (c proxyCost) way(name string) *wayCost {
	return c.Ways[slices.IndexFunc(c.Ways, func(w *wayCost) bool { return w.Way == name })]
}
