package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/whisperpool/whisperpool/sim"
)

func init() {
	options := &simulateOptions{}
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "simulate",
		Usage: "FILE [--compare [--svg <file>] | --what-if <change>] [--seeds <n>] [--json] | --replay <file> | --fit <file>",
		Short: "Simulates a pool in virtual time, to see what placing does before buying a card",
		Long:  simulateHelp,
		Flags: options.flags(),
		Func: func(fl caddycmd.Flags) (int, error) {
			if err := options.run(fl.Args(), os.Stdout, os.Stderr); err != nil {
				return 1, err
			}
			return 0, nil
		},
	})
}

const simulateHelp = `
Simulates the pool and the load of a scenario file, with the scheduler that serves in production, in virtual time: an
hour takes a second. Prints response times beside the least that any scheduler could reach on the same jobs. The same
file and seeds give the same figures.

  FILE           a scenario, in JSON; docs/simulate.md describes it, examples/ has some; - for standard input
  --compare      every policy and re-implementations of other load balancers side by side, with a chart
  --svg OUT      where --compare puts its chart; default: FILE with .svg in place of .json
  --what-if C    how response times change when cards come or go, such as "+2 T4" or "-1 A10G +1 H100", and at which load
  --seeds N      how many seeds instead of the file's; figures are medians over them
  --json         everything as JSON instead of tables
  --replay REC   a recording made by the proxy (option record) in place of a scenario: files, a pattern or the folder. Says
                 what happened and whether this version decides the same; with --compare or --what-if the recorded jobs are
                 simulated with other policies, or with cards that come or go
  --fit CSV      finds the slots and the service time that reproduce load tests, one table per deployment: columns
                 concurrency and mean_s, and p95_s, audio_s, deployment, gpu, model, note if there are any

Examples:
  whisperpool simulate examples/a10g-h100.json
  whisperpool simulate examples/a10g-h100.json --compare
  whisperpool simulate examples/open.json --what-if "+2 T4"
  whisperpool simulate --replay /var/lib/whisperpool/record
  whisperpool simulate --replay /var/lib/whisperpool/record --what-if "-1 T4 +1 H100"
  whisperpool simulate --fit sim/testdata/load_tests.csv
`

// simulateOptions are what the flags say.
type simulateOptions struct {
	compare, json    bool
	svg, whatIf, fit string
	replay           string
	seeds            int
}

func (o *simulateOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("simulate", flag.ExitOnError)
	fs.BoolVar(&o.compare, "compare", false, "Compare all policies and other load balancers")
	fs.StringVar(&o.svg, "svg", "", "The file for the chart of --compare")
	fs.StringVar(&o.whatIf, "what-if", "", "Cards that come or go, such as \"+2 T4\"")
	fs.IntVar(&o.seeds, "seeds", 0, "How many seeds, 0 for the file's number")
	fs.BoolVar(&o.json, "json", false, "Print JSON")
	fs.StringVar(&o.replay, "replay", "", "A recording of the proxy to replay")
	fs.StringVar(&o.fit, "fit", "", "A file of load tests to reproduce")
	return fs
}

func (o *simulateOptions) run(args []string, out, terminal io.Writer) error {
	if err := o.check(args); err != nil {
		return err
	}
	switch {
	case o.fit != "":
		return o.runFit(out)
	case o.replay != "":
		return o.runReplay(append([]string{o.replay}, args...), out, newProgress(terminal))
	}
	st, err := o.read(args[0])
	if err != nil {
		return err
	}
	progress := newProgress(terminal)
	defer progress.end()
	switch {
	case o.whatIf != "":
		return o.runWhatIf(st, out, progress)
	case o.compare:
		return o.runCompare(st, args[0], out, progress)
	default:
		return o.runPlain(st, out, progress)
	}
}

// check says which flags do not go together.
func (o *simulateOptions) check(args []string) error {
	switch {
	case o.fit != "" && o.replay != "":
		return errors.New("--fit reads load tests and --replay a recording; ask one at a time")
	case o.replay != "" && o.seeds != 0:
		return errors.New("--seeds makes chance, and a recording has none: its jobs, their moments and what they took are what they were; leave --seeds out")
	case o.fit != "" && (len(args) > 0 || o.compare || o.whatIf != "" || o.svg != ""):
		return errors.New("--fit reads load tests, not a scenario: it goes with --seeds and --json only")
	case o.fit == "" && o.replay == "" && len(args) != 1:
		return fmt.Errorf("%d files given, need one scenario: whisperpool simulate examples/a10g-h100.json", len(args))
	case o.compare && o.whatIf != "":
		return errors.New("--compare and --what-if are two questions; ask one at a time")
	case o.svg != "" && !o.compare:
		return errors.New("--svg is where --compare puts its chart; add --compare")
	case o.seeds < 0 || o.seeds > 1000:
		return fmt.Errorf("--seeds is %d, must be from 1 to 1000", o.seeds)
	}
	return nil
}

func (o *simulateOptions) read(file string) (sim.Study, error) {
	var text []byte
	var err error
	if file == "-" {
		file = "standard input"
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return sim.Study{}, err
	}
	st, err := sim.Parse(text)
	if err != nil {
		return sim.Study{}, fmt.Errorf("%s:\n%w", file, err)
	}
	if o.seeds > 0 {
		st.Seeds = o.seeds
	}
	return st, nil
}

// chartFile is where the chart goes when nobody says.
func chartFile(file string) string {
	if file == "-" {
		return "simulation.svg"
	}
	return strings.TrimSuffix(file, filepath.Ext(file)) + ".svg"
}

// study is what JSON output says of what was run.
type study struct {
	About  string    `json:"about,omitempty"`
	Pool   string    `json:"pool"`
	Load   string    `json:"load"` // what a level counts
	Levels []float64 `json:"levels"`
	Seeds  int       `json:"seeds"`
}

func studyOf(st sim.Study) study {
	return study{st.About, st.Pool(), st.Load.Word(), st.Levels, st.Seeds}
}

// run is the results of one policy at one level.
type run struct {
	Policy  string       `json:"policy"`
	Level   float64      `json:"level"`
	Results []sim.Result `json:"results"`
}

func runsOf(outcomes []sim.Outcomes) []run {
	var runs []run
	for _, o := range outcomes {
		runs = append(runs, run{o.Rival.Name(), o.Level, o.Results})
	}
	return runs
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// broken is the error of a run that violated contracts, nil when none did.
func broken(outcomes []sim.Outcomes) error {
	var all []string
	for _, o := range outcomes {
		for _, v := range o.Violations() {
			all = append(all, fmt.Sprintf("%s at %v: %s", o.Rival.Name(), o.Level, v))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("%d violated contracts, which is a bug of the scheduler; the first are:\n%s", len(all), strings.Join(all[:min(len(all), 5)], "\n"))
}
