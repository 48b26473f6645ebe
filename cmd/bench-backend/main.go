// Command bench-backend measures whisper-backend on this machine: its speed beside whisper.cpp's own
// server, and what its path for short clips costs in words. It starts all that it needs on the loopback
// interface only, and stops it again. `make bench-backend` and `make accuracy` run it.
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
	"strconv"
	"strings"
	"syscall"

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

const help = `Usage: bench-backend [flags] streams|accuracy

  streams    one stream and several, against whisper-server with equal settings
  accuracy   words and processor time of short clips, with the whole context and with less of it;
             goes on where it was stopped

Flags:
`

// options are what the flags say.
type options struct {
	backend, whisperServer string
	models, recordings     string // folders
	out                    string
	modelNames             []string
	short, force           bool
	repeats                int
	streams                []int    // at once; nil: the usual
	searches               []string // greedy, beam; nil: the usual
	accuracy               accuracyOptions
}

func parse(args []string, w io.Writer) (options, string, error) {
	var o options
	f := flag.NewFlagSet("bench-backend", flag.ContinueOnError)
	f.SetOutput(w)
	f.Usage = func() {
		fmt.Fprint(w, help)
		f.PrintDefaults()
	}
	f.StringVar(&o.backend, "whisper-backend", "bin/whisper-backend", "the program `path`")
	f.StringVar(&o.whisperServer, "whisper-server", "", "whisper.cpp's server `path`, built from the same source")
	f.StringVar(&o.models, "models", "", "`folder` with ggml-NAME.bin")
	f.StringVar(&o.recordings, "recordings", "", "`folder` with recordings and manifest.tsv")
	f.StringVar(&o.out, "out", "run/bench-backend", "`folder` for figures (JSON), charts (SVG) and logs")
	names := f.String("model", "tiny.en,base", "`names` of the models, comma-separated")
	f.BoolVar(&o.short, "short", false, "a few minutes, for coarse differences")
	f.BoolVar(&o.force, "force", false, "measure although the machine is busy")
	f.IntVar(&o.repeats, "repeat", 0, "repetitions `count` instead of the usual")
	f.Func("streams", "`numbers` of streams at once, comma-separated, instead of the usual", func(text string) error {
		for _, word := range listed(text) {
			n, err := strconv.Atoi(word)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is no number of streams", word)
			}
			o.streams = append(o.streams, n)
		}
		return nil
	})
	f.Func("search", "`ways` to search, comma-separated: greedy, beam (default both; with -short greedy)", func(text string) error {
		for _, word := range listed(text) {
			if word != "greedy" && word != "beam" {
				return fmt.Errorf("%q is not there; there are greedy and beam", word)
			}
			o.searches = append(o.searches, word)
		}
		return nil
	})
	o.accuracy.flags(f)
	if err := f.Parse(args); err != nil {
		return o, "", err
	}
	o.modelNames = listed(*names)
	switch {
	case f.NArg() != 1 || f.Arg(0) != "streams" && f.Arg(0) != "accuracy":
		return o, "", errors.New("say what to measure: streams or accuracy (see -help)")
	case o.repeats < 0:
		return o, "", errors.New("-repeat must be at least 1")
	case len(o.modelNames) == 0:
		return o, "", errors.New("name a model with -model")
	case o.models == "" || o.recordings == "":
		return o, "", errors.New("name the folders with -models and -recordings; make bench-backend does")
	}
	return o, f.Arg(0), o.accuracy.check()
}

// searchesOr are the ways to search that were asked for, else the usual ones.
func (o options) searchesOr(usual ...string) []string {
	if len(o.searches) > 0 {
		return o.searches
	}
	return usual
}

// listed are the words of a list with commas.
func listed(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

func command(ctx context.Context, args []string, out, say io.Writer) error {
	o, what, err := parse(args, say)
	if err != nil {
		return err
	}
	for _, path := range []*string{&o.backend, &o.whisperServer, &o.models, &o.recordings, &o.out} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if !stage.IsProgram(o.backend) {
		return fmt.Errorf("%s is not there; make bench-backend builds it", o.backend)
	}
	for _, name := range o.modelNames {
		if _, err := os.Stat(o.modelPath(name)); err != nil {
			return fmt.Errorf("there is no model %s: %w", name, err)
		}
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	if what == "accuracy" {
		return o.measureAccuracy(ctx, out, say)
	}
	return o.measureStreams(ctx, out, say)
}

func (o options) modelPath(name string) string { return filepath.Join(o.models, "ggml-"+name+".bin") }

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
