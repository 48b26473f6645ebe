// Command bench-peers compares whisperpool with other balancers over real sockets, in front of
// emulated GPUs, and measures what proxying costs. It starts all that it needs on this machine, on the
// loopback interface only, and stops it again. `make bench-peers` and `make bench` run it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
	"github.com/whisperpool/whisperpool/cmd/whisperpool/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

const help = `Usage: bench-peers [flags] placement|proxying|memory ...

  placement   the same jobs through whisperpool and other balancers, in front of emulated GPUs
  proxying    requests a second and added latency, against stock reverse_proxy with the same buffering
  memory      what 10,000 queued uploads of 1 MB take

Flags:
`

// options are what the flags say.
type options struct {
	whisperpool, backend, out string
	peers, loads              string // words of the names of what is compared, under what
	with                      []interpreter
	short                     bool
	repeats                   int
	speedUp                   float64
}

func parse(args []string, w io.Writer) (options, []string, error) {
	var o options
	f := flag.NewFlagSet("bench-peers", flag.ContinueOnError)
	f.SetOutput(w)
	f.Usage = func() {
		fmt.Fprint(w, help)
		f.PrintDefaults()
	}
	f.StringVar(&o.whisperpool, "whisperpool", "bin/whisperpool", "the program `path`")
	f.StringVar(&o.backend, "whisper-backend", "bin/whisper-backend", "the program `path`")
	f.StringVar(&o.out, "out", "run/bench", "`folder` for figures (JSON), charts (SVG) and logs")
	f.StringVar(&o.peers, "peers", "", "compare only peers with one of these, comma-separated, in their `names`")
	f.StringVar(&o.loads, "loads", "", "and only under loads with one of these in theirs, such as burst")
	with := f.String("with", "", "compare with balancers in Python, time slowed down: `name=python`, comma-separated, names out of "+strings.Join(requestable(), ", "))
	f.BoolVar(&o.short, "short", false, "take about a minute for each, for coarse differences")
	f.IntVar(&o.repeats, "repeat", 0, "repetitions `count` instead of the usual")
	f.Float64Var(&o.speedUp, "speed-up", 0, "time of the emulated GPUs is sped up by this `factor`, at most 5, so that handing over counts as it would")
	if err := f.Parse(args); err != nil {
		return o, nil, err
	}
	kinds := f.Args()
	var err error
	if *with != "" {
		o.with, err = parseInterpreters(*with)
	}
	switch {
	case err != nil:
		return o, nil, err
	case len(kinds) == 0:
		return o, nil, errors.New("say what to measure: placement, proxying or memory (see -help)")
	case o.repeats < 0:
		return o, nil, errors.New("-repeat must be at least 1")
	case o.speedUp != 0 && !(o.speedUp > 0 && o.speedUp <= 5):
		return o, nil, errors.New("-speed-up must be more than 0 and at most 5")
	}
	for _, k := range kinds {
		if !slices.Contains([]string{"placement", "proxying", "memory"}, k) {
			return o, nil, fmt.Errorf("there is nothing called %q to measure; there are placement, proxying and memory", k)
		}
	}
	return o, kinds, nil
}

func command(ctx context.Context, args []string, out, say io.Writer) error {
	o, kinds, err := parse(args, say)
	if err != nil {
		return err
	}
	for _, path := range []*string{&o.whisperpool, &o.backend, &o.out} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	for _, program := range []string{o.whisperpool, o.backend} {
		if !stage.IsProgram(program) {
			return fmt.Errorf("%s is not there; make bench-peers builds it", program)
		}
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	if load := stage.LoadAverage(); load >= 1 {
		fmt.Fprintf(say, "this machine is busy (load average %.1f): the figures will say how much others used\n", load)
	}
	for _, k := range kinds {
		switch k {
		case "placement":
			err = o.placement(ctx, out, say)
		case "proxying":
			err = o.proxying(ctx, out, say)
		case "memory":
			err = o.memory(ctx, out, say)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o options) placement(ctx context.Context, out, say io.Writer) error {
	p, name := full(), "placement"
	paths := map[string]string{"whisperpool": o.whisperpool, "caddy": o.whisperpool}
	if o.short {
		p = short()
	}
	if len(o.with) > 0 {
		p = slowedDown(o.with, o.short)
	}
	for _, i := range o.with {
		paths[i.program], name = i.path, name+"-"+i.program
	}
	if o.repeats > 0 {
		p.repeats = o.repeats
	}
	if o.speedUp > 0 {
		p.speedUp = o.speedUp
	}
	p.peers = slices.DeleteFunc(slices.Clone(p.peers), func(p peer) bool { return !named(p.Name, o.peers) })
	p.workloads = slices.DeleteFunc(p.workloads, func(w workload) bool { return !named(w.Name(), o.loads) })
	if len(p.peers) == 0 || len(p.workloads) == 0 {
		return fmt.Errorf("no peer has %q in its name, or no load %q", o.peers, o.loads)
	}
	r := results{Started: time.Now(), Version: stage.Version(o.whisperpool, "version"), Machine: stage.ThisMachine(), Model: model, SpeedUp: p.speedUp}
	m := placement{plan: p, dir: filepath.Join(o.out, "logs"), paths: paths, backend: o.backend, say: say}
	series, notes, err := m.measure(ctx)
	r.Series, r.Notes, r.Took = series, notes, time.Since(r.Started).Round(time.Second).String()
	if len(r.comparisons()) > 0 { // what there is before an error, too
		r.text(out)
		if kept := o.keep(name, r, r.drawing()); kept != nil {
			return errors.Join(err, kept)
		}
	}
	return err
}

// named says whether a name has one of the words in it, which are separated by commas. No word is in all.
func named(name, words string) bool {
	return slices.ContainsFunc(strings.Split(words, ","), func(word string) bool { return strings.Contains(name, strings.TrimSpace(word)) })
}

// keep writes figures and chart; drawing may be nil.
func (o options) keep(name string, figures any, drawing *bench.Drawing) error {
	encoded, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.out, name+".json"), append(encoded, '\n'), 0o644); err != nil {
		return err
	}
	if drawing == nil {
		return nil
	}
	return os.WriteFile(filepath.Join(o.out, name+".svg"), drawing.SVG(), 0o644)
}
