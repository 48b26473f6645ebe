// Command faults breaks backends on purpose, behind a real proxy process and over real sockets, and
// tells for each fault what clients saw and whether that was within its criterion. It starts all that
// it needs on this machine, on the loopback interface only, and stops it again. `make faults` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	held, err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	case !held:
		os.Exit(1)
	}
}

const help = `Usage: faults [flags]

Breaks backends behind a proxy and tells what its clients saw. The exit status is 1 when a criterion
is not held, and 2 when nothing could be measured. In the short form what was not held gets a second
try; what fails twice while this machine stands still most of the time is undecided, and no failure.

Flags:
`

// options are what the flags say.
type options struct {
	programs programs
	out      string
	run      *regexp.Regexp
	short    bool
	fronts   []frontKind
	from     []string
	list     bool
	jobs     int
}

// programs are the paths of what is started.
type programs struct {
	whisperpool, backend string
	real                 string // a whisper-backend with whisper.cpp in it; "": none, and what needs one is skipped
	model                string // for it
	recording            string // with speech, for it
	python               string // with OpenAI's client; ""
}

func parse(args []string, w io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	f.SetOutput(w)
	f.Usage = func() {
		fmt.Fprint(w, help)
		f.PrintDefaults()
	}
	f.StringVar(&o.programs.whisperpool, "whisperpool", "bin/whisperpool", "the program `path`")
	f.StringVar(&o.programs.backend, "whisper-backend", "bin/whisper-backend", "the program `path`")
	f.StringVar(&o.programs.real, "real", "", "`path` of a whisper-backend with whisper.cpp in it; without it what needs that is skipped")
	f.StringVar(&o.programs.model, "model", "", "`path` of the model for it")
	f.StringVar(&o.programs.recording, "recording", "", "`path` of a WAV file with speech for it")
	f.StringVar(&o.programs.python, "python", "", "`path` of a Python with OpenAI's client; without it what needs that is skipped")
	f.StringVar(&o.out, "out", "run/faults", "`folder` for the figures (JSON) and all logs")
	pattern := f.String("run", "", "run only scenarios whose number or name matches this regular `expression`")
	f.BoolVar(&o.short, "short", false, "only those that are quick, and shorter: under five minutes")
	peers := f.Bool("peers", false, "also put stock Caddy's reverse_proxy and HAProxy through them")
	fronts := f.String("fronts", string(ours), "balancers, comma-separated: whisperpool, caddy, haproxy")
	from := f.String("from", "", "run nothing, print the table of these figures (`files`, comma-separated); of a scenario that is in several the last counts")
	f.BoolVar(&o.list, "list", false, "list the scenarios and stop")
	f.IntVar(&o.jobs, "jobs", 12, "scenarios `count` that run side by side")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.jobs < 1 {
		return o, errors.New("-jobs must be at least 1")
	}
	if *from != "" {
		o.from = strings.Split(*from, ",")
	}
	if *peers {
		*fronts = "whisperpool,caddy,haproxy"
	}
	for name := range strings.SplitSeq(*fronts, ",") {
		kind := frontKind(strings.TrimSpace(name))
		if !slices.Contains([]frontKind{ours, stockCaddy, haproxy}, kind) {
			return o, fmt.Errorf("-fronts: there is no balancer %q here; there are whisperpool, caddy and haproxy", kind)
		}
		o.fronts = append(o.fronts, kind)
	}
	var err error
	if o.run, err = regexp.Compile("(?i)" + *pattern); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	return o, nil
}

func command(ctx context.Context, args []string, out, say io.Writer) (held bool, err error) {
	o, err := parse(args, say)
	if err != nil {
		return false, err
	}
	if o.from != nil {
		return true, o.print(out)
	}
	chosen := slices.DeleteFunc(slices.Clone(scenarios()), func(s scenario) bool {
		return o.short && !s.Short || !o.run.MatchString(s.ID+" "+s.Name)
	})
	if o.list {
		for _, s := range chosen {
			fmt.Fprintf(out, "%-6s %-9s %s: %s\n", s.ID, s.Theme, s.Name, s.Criterion)
		}
		return true, nil
	}
	if len(chosen) == 0 {
		return false, errors.New("no scenario matches; -list shows all")
	}
	for _, path := range []*string{&o.programs.whisperpool, &o.programs.backend, &o.out, &o.programs.real, &o.programs.model} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return false, err
		}
	}
	for _, program := range []string{o.programs.whisperpool, o.programs.backend} {
		if !isProgram(program) {
			return false, fmt.Errorf("%s is not there; make faults builds it", program)
		}
	}
	if err := raiseFiles(); err != nil {
		return false, err
	}
	if _, err := find("haproxy"); err != nil && slices.Contains(o.fronts, haproxy) {
		fmt.Fprintln(say, "without HAProxy:", err)
		o.fronts = slices.DeleteFunc(o.fronts, func(k frontKind) bool { return k == haproxy })
	}
	r := newRun(o, say)
	r.all(ctx, chosen, o.fronts)
	if err := r.keep(); err != nil {
		return false, err
	}
	r.table(out)
	if ctx.Err() != nil {
		return false, errors.New("interrupted")
	}
	return r.held(), nil
}

// raiseFiles lets this process have as many sockets as it may.
func raiseFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// oneLine makes text fit for a line of the table.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
