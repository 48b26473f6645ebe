package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
)

func init() {
	options := &benchOptions{}
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "bench",
		Usage: "--url <address> (--burst <n> | --clients <n> | --rate <n> | --table) [--requests <n> | --duration <time>]",
		Short: "Measures how quickly a transcription endpoint answers under load",
		Long:  benchHelp,
		Flags: options.flags(),
		Func: func(caddycmd.Flags) (int, error) {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if err := options.run(ctx, os.Stdout, os.Stderr); err != nil {
				return 1, err
			}
			return 0, nil
		},
	})
}

const benchHelp = `
Loads an endpoint that speaks OpenAI's transcription API, or whisper.cpp's with --path /inference, and prints response
times, who served (where the answers say it), and what was refused or failed. Any endpoint will do; it need not be ours.

The load is one of
  --burst N      N requests at once
  --clients N    N clients, each of which asks again when it has its answer (closed loop)
  --rate R       R requests a second at random moments, whatever comes back (open loop, Poisson)
  --table        bursts of 4, 8, 16, 32, 64, 128, 192, 256 and 512, one clip each, as a table
Response times count from when a request was meant to start, so that a stall is seen in all requests that it held up.

What is uploaded is generated: it has the size and shape of speech but no words, which servers with a real model may take
longer over. Measure those with --dir, a folder of recordings. The same --seed makes the same requests.

Examples:
  whisperpool bench --url http://127.0.0.1:8080 --burst 64
  whisperpool bench --url https://transcribe.example.com --api-key-env KEY --rate 2.5 --duration 2m --dir recordings
  whisperpool bench --url http://127.0.0.1:8080 --clients 16 --requests 500 --length lognormal:12,1.2,600 --svg latency.svg
  whisperpool bench --url http://127.0.0.1:8080 --table --pool examples/burst.json
`

// benchOptions are what the flags say.
type benchOptions struct {
	url, path, model, keyEnv string
	fields, headers          lines
	lengths, file, dir       string
	load                     bench.Load
	table, csv               bool
	warmUp                   int
	seed                     uint64
	timeout                  time.Duration
	pool, json, svg          string
	speedUp                  float64
}

// lines is a flag that may be given several times.
type lines []string

func (l *lines) String() string { return strings.Join(*l, ", ") }

func (l *lines) Set(s string) error {
	*l = append(*l, s)
	return nil
}

func (o *benchOptions) flags() *flag.FlagSet {
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.StringVar(&o.url, "url", "", "Address of the endpoint: http://host:port or https://host")
	f.StringVar(&o.path, "path", "/v1/audio/transcriptions", "Path that is posted to")
	f.StringVar(&o.model, "model", "whisper-1", "Model to ask for; none is named when empty")
	f.StringVar(&o.keyEnv, "api-key-env", "", "Name of the environment variable that holds the API key")
	f.Var(&o.fields, "field", "Another `field` of the form, as name=value; may be repeated")
	f.Var(&o.headers, "header", "A `header` field of every request, as 'Name: value'; may be repeated")

	f.IntVar(&o.load.Burst, "burst", 0, "Requests to make at once")
	f.IntVar(&o.load.Clients, "clients", 0, "Clients of a closed loop")
	f.Float64Var(&o.load.Rate, "rate", 0, "Requests a second of an open loop")
	f.BoolVar(&o.table, "table", false, "Make bursts of 4 to 512 and print a table of them")
	f.IntVar(&o.load.Requests, "requests", 0, "Requests in all, with --clients or --rate")
	f.DurationVar(&o.load.Duration, "duration", 0, "For how long new requests are made, with --clients or --rate")
	f.IntVar(&o.warmUp, "warm-up", 0, "Requests to make before, four at a time, that are not counted")
	f.Uint64Var(&o.seed, "seed", 1, "Seed of all chance: lengths, moments, recordings")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "Longest time for one request")

	f.StringVar(&o.lengths, "length", "5", "Seconds of generated audio: 5 (all), 5,10,30 (any of them), lognormal:12,1.2,600 (median, sigma, longest)")
	f.StringVar(&o.file, "file", "", "A recording to upload instead")
	f.StringVar(&o.dir, "dir", "", "A folder of recordings to upload instead, chosen by chance")

	f.StringVar(&o.pool, "pool", "", "`File` that describes the cards, as for whisperpool simulate: the least possible times are then told beside")
	f.Float64Var(&o.speedUp, "speed-up", 1, "How many times as fast the cards are as --pool says, as emulated ones can be")
	f.StringVar(&o.json, "json", "", "File for the figures as JSON; - is standard output, instead of the text")
	f.StringVar(&o.svg, "svg", "", "File for a chart")
	f.BoolVar(&o.csv, "csv", false, "Print the table comma-separated, with --table")
	return f
}

// run measures and reports. Progress goes to the terminal, if that is one.
func (o *benchOptions) run(ctx context.Context, out io.Writer, terminal *os.File) error {
	m, err := o.measurement()
	if err != nil {
		return err
	}
	m.terminal = terminal
	client := bench.NewClient(m.target, m.audio, m.most())
	defer client.Close()
	m.send = client.Send
	if o.warmUp > 0 {
		load := bench.Load{Clients: min(4, o.warmUp), Requests: o.warmUp}
		s := bench.Summarize(m.once(ctx, load, o.seed+1))
		if s.OK == 0 && s.Requests > 0 {
			return fmt.Errorf("nothing was served while warming up: %s: %s", s.Problems[0].What, s.Problems[0].Example)
		}
	}
	if o.table {
		return m.tabulate(ctx, out)
	}
	return m.single(ctx, out)
}

// measurement is what the flags ask for.
type measurement struct {
	o        *benchOptions
	target   bench.Target
	audio    bench.Audio
	pool     *bench.Pool
	terminal *os.File
	send     bench.Send
}

func (o *benchOptions) measurement() (*measurement, error) {
	m := &measurement{o: o}
	if o.url == "" {
		return nil, errors.New("name the endpoint with --url http://host:port")
	}
	var err error
	if m.target.URL, err = bench.ParseTarget(o.url, o.path); err != nil {
		return nil, err
	}
	if err := o.checkLoad(); err != nil {
		return nil, err
	}
	if err := bench.CheckFiles(m.most()); err != nil {
		return nil, err
	}
	if m.audio, err = o.audio(); err != nil {
		return nil, err
	}
	if o.pool != "" {
		pool, err := bench.ReadPool(o.pool, o.speedUp)
		if err != nil {
			return nil, err
		}
		m.pool = &pool
	}
	return m, o.fillTarget(&m.target)
}

func (o *benchOptions) checkLoad() error {
	switch {
	case o.table && o.load != bench.Load{}:
		return errors.New("--table makes its own bursts, so --burst, --clients, --rate, --requests and --duration do not go with it")
	case o.csv && !o.table:
		return errors.New("--csv goes with --table; for other loads there is --json")
	case o.warmUp < 0 || o.timeout <= 0:
		return errors.New("--warm-up must not be negative, --timeout must be more than 0")
	case !(o.speedUp > 0):
		return errors.New("--speed-up must be more than 0")
	case o.table:
		return nil
	case o.load.Burst == 0 && o.load.Clients == 0 && o.load.Rate == 0:
		return errors.New("say what load: --burst N, --clients N, --rate R or --table (see --help)")
	}
	return o.load.Check()
}

func (m *measurement) most() int {
	if m.o.table {
		return bench.TableConcurrency[len(bench.TableConcurrency)-1]
	}
	return m.o.load.Most()
}

func (o *benchOptions) audio() (bench.Audio, error) {
	switch {
	case o.file != "" && o.dir != "":
		return nil, errors.New("choose one of --file and --dir")
	case o.file != "":
		return bench.LoadRecordings(o.file)
	case o.dir != "":
		return bench.LoadRecordings(o.dir)
	}
	lengths, err := bench.ParseLengths(o.lengths)
	if err != nil {
		return nil, fmt.Errorf("--length: %w", err)
	}
	return bench.NewSpeech(lengths, bench.PCM), nil
}

func (o *benchOptions) fillTarget(t *bench.Target) error {
	t.Timeout, t.Header = o.timeout, http.Header{}
	format := "json"
	for _, f := range o.fields {
		name, value, ok := strings.Cut(f, "=")
		if !ok || name == "" || name == "file" {
			return fmt.Errorf("--field %q: write name=value; the file is chosen with --file or --dir", f)
		}
		if name == "response_format" {
			format = value
			continue
		}
		t.Fields = append(t.Fields, [2]string{name, value})
	}
	t.Fields = append(t.Fields, [2]string{"response_format", format})
	if format != "json" && format != "verbose_json" {
		t.Valid = bench.NotEmpty
	}
	if o.model != "" {
		t.Fields = append(t.Fields, [2]string{"model", o.model})
	}
	for _, h := range o.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return fmt.Errorf("--header %q: write 'Name: value'", h)
		}
		t.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if o.keyEnv != "" {
		key := os.Getenv(o.keyEnv)
		if key == "" {
			return fmt.Errorf("--api-key-env: there is no environment variable %s, or it is empty", o.keyEnv)
		}
		t.Header.Set("Authorization", "Bearer "+key)
	}
	return nil
}

// once runs a load with a bar on the terminal.
func (m *measurement) once(ctx context.Context, load bench.Load, seed uint64) bench.Result {
	watch := bench.NewProgress(load.Total())
	shown, stop := context.WithCancel(ctx)
	if isTerminal(m.terminal) {
		defer watch.Show(shown, m.terminal)()
	}
	defer stop()
	return bench.Run(ctx, bench.NewSchedule(load, m.audio, seed), m.send, watch)
}

func isTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// single makes one load and reports it.
func (m *measurement) single(ctx context.Context, out io.Writer) error {
	r := bench.Report{
		URL: m.target.URL, Load: m.o.load.String(), Audio: m.audio.String(), Seed: m.o.seed,
		Started: time.Now(), Machine: bench.ThisMachine(),
	}
	result := m.once(ctx, m.o.load, m.o.seed)
	r.Summary = bench.Summarize(result)
	r.Notes = r.Summary.Doubts()
	if result.Interrupted {
		r.Notes = append(r.Notes, "it was stopped before its end")
	}
	if m.pool != nil && r.Summary.OK > 0 {
		r.Bound = m.pool.Bound(m.o.load, result.Samples)
	}
	if err := m.write(out, r, r.Text, r.Drawing()); err != nil {
		return err
	}
	if r.Summary.OK == 0 {
		return errors.New("nothing was served")
	}
	return nil
}

// tabulate makes the bursts of a table and reports them.
func (m *measurement) tabulate(ctx context.Context, out io.Writer) error {
	t := bench.Table{URL: m.target.URL, Audio: m.audio.String(), Seed: m.o.seed, Started: time.Now(), Machine: bench.ThisMachine()}
	t.Measure(ctx, func(load bench.Load) bench.Result { return m.once(ctx, load, m.o.seed) }, m.pool)
	text := t.Text
	if m.o.csv {
		text = t.CSV
	}
	if err := m.write(out, t, text, t.Drawing()); err != nil {
		return err
	}
	for _, row := range t.Rows {
		if row.Summary.OK > 0 {
			return nil
		}
	}
	return errors.New("nothing was served")
}

// write puts the report where the flags want it.
func (m *measurement) write(out io.Writer, report any, text func(io.Writer), drawing *bench.Drawing) error {
	if m.o.svg != "" {
		if err := os.WriteFile(m.o.svg, drawing.SVG(), 0o644); err != nil {
			return err
		}
	}
	if m.o.json != "-" {
		text(out)
	}
	if m.o.json == "" {
		return nil
	}
	encoded, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	encoded = append(encoded, '\n')
	if m.o.json == "-" {
		_, err = out.Write(encoded)
		return err
	}
	return os.WriteFile(m.o.json, encoded, 0o644)
}
