package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// options are what the flags say.
type options struct {
	engine, model, modelID string
	slots, threads         int
	gpu, gpuClass          string
	gpuDevice              int
	listen                 string
	queue                  int
	uploadMax              byteSize
	audioMax, grace        time.Duration
	beamSizeMax            int
	ffmpeg                 string
	emulateClass           string
	emulateModel           string
	speedUp                float64
	seed                   uint64
	logFormat              string
	logLevel               string
	version                bool
	flags                  *flag.FlagSet
}

// group is a part of the help, with the flags that it explains.
type group struct {
	title string
	flags []string
}

// groups hold every flag once; a test sees to that.
var groups = []group{
	{"What to serve", []string{"model", "model-id", "engine"}},
	{"On what", []string{"slots", "threads", "gpu", "gpu-device", "gpu-class"}},
	{"To whom", []string{"listen", "queue", "max-upload", "max-audio", "beam-size-max", "ffmpeg", "grace"}},
	{"The emulator (--engine emulator)", []string{"emulate-class", "emulate-model", "speed-up", "seed"}},
	{"What it says", []string{"log-format", "log-level", "version"}},
}

// newOptions makes the options at their defaults, with the flags that set them. The word in
// backquotes is the name of a flag's value; the help shows it behind the flag.
func newOptions() *options {
	o := &options{uploadMax: 1 << 30, flags: flag.NewFlagSet("whisper-backend", flag.ContinueOnError)}
	f := o.flags
	f.SetOutput(io.Discard) // errors are told in one sentence, see run
	f.StringVar(&o.model, "model", "", "`PATH` ggml model file, such as ggml-base.bin; needed by the engine whispercpp")
	f.StringVar(&o.modelID, "model-id", "", "`NAME` what clients call the model; without it the file's name: base for ggml-base.bin")
	f.StringVar(&o.engine, "engine", "whispercpp", "`ENGINE` whispercpp, or emulator, which needs no model and no GPU: it takes as long as a GPU would and answers with a made-up text")

	f.IntVar(&o.slots, "slots", 0, "`N` jobs that run side by side, each with a state of its own on one copy of the weights; 0: chosen from the GPU class, or from the cores")
	f.IntVar(&o.threads, "threads", 0, "`N` CPU threads of each slot; 0: the cores divided among the slots, at most 8")
	f.StringVar(&o.gpu, "gpu", "auto", "`MODE` auto uses a GPU where there is one, required fails without, off uses the CPU")
	f.IntVar(&o.gpuDevice, "gpu-device", 0, "`N` which GPU, from 0; one process serves one GPU")
	f.StringVar(&o.gpuClass, "gpu-class", "", "`CLASS` what proxies are told of the GPU, a first guess at the speed and a label in metrics: T4, L4, A10G, A100, H100, CPU or a word of your own; without it, found in the device's name")

	f.StringVar(&o.listen, "listen", "127.0.0.1:8000", "`ADDRESS` where to listen; :8000 is every interface, so mind that there is no authentication")
	f.IntVar(&o.queue, "queue", 16, "`N` jobs that may wait for a slot; one more is refused with 503, so that a proxy sends it elsewhere")
	f.Var(&o.uploadMax, "max-upload", "`SIZE` largest upload, such as 500MB or 1GiB; large ones are put in nameless files under $TMPDIR (/tmp)")
	f.DurationVar(&o.audioMax, "max-audio", 4*time.Hour, "`DURATION` longest recording, such as 90m")
	f.IntVar(&o.beamSizeMax, "beam-size-max", 8, "`N` most beams and candidates (beam_size, best_of) that a client may ask for, 1 to 8; fewer take less memory on a GPU")
	f.StringVar(&o.ffmpeg, "ffmpeg", "auto", "`PATH` the program ffmpeg, which decodes what is not decoded here (MP4, M4A, AAC); auto: the one that is installed, if any; off: none")
	f.DurationVar(&o.grace, "grace", 30*time.Second, "`DURATION` how long jobs may go on after SIGTERM or Ctrl-C; a second signal ends at once")

	f.StringVar(&o.emulateClass, "emulate-class", "T4", "`CLASS` GPU whose times are emulated: T4, A10G or H100")
	f.StringVar(&o.emulateModel, "emulate-model", "base", "`MODEL` the model whose times are emulated, and under whose name it is served: tiny, base, small, medium, large-v3, turbo")
	f.Float64Var(&o.speedUp, "speed-up", 1, "`FACTOR` how many times as fast as the GPU")
	f.Uint64Var(&o.seed, "seed", 1, "`N` seed of the emulator's chance: the same seed and the same jobs in order take the same times")

	f.StringVar(&o.logFormat, "log-format", "console", "`FORMAT` console or json, of the log on standard error; it never holds audio, file names or transcripts")
	f.StringVar(&o.logLevel, "log-level", "info", "`LEVEL` least level that is logged: debug, info, warn or error")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	return o
}

var errHelp = errors.New("help was asked for")

// parse reads the command line. The error is a phrase for a person, without a full stop.
func parse(args []string) (*options, error) {
	o := newOptions()
	if err := o.flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, errHelp
		}
		return nil, withDashes(err)
	}
	if o.flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", o.flags.Arg(0))
	}
	if o.version {
		return o, nil
	}
	return o, o.check()
}

// withDashes writes flags the way the help does, which package flag does not.
func withDashes(err error) error {
	return errors.New(strings.NewReplacer(
		"flag provided but not defined: -", "unknown flag --",
		"flag needs an argument: -", "a value is missing after --",
		"flag -", "flag --",
	).Replace(err.Error()))
}

// check refuses values that no flag parser can know to be wrong.
func (o *options) check() error {
	for _, c := range []struct {
		flag, value string
		allowed     []string
	}{
		{"engine", o.engine, []string{"whispercpp", "emulator"}},
		{"gpu", o.gpu, []string{"auto", "required", "off"}},
		{"log-format", o.logFormat, []string{"console", "json"}},
		{"log-level", o.logLevel, []string{"debug", "info", "warn", "error"}},
	} {
		if !slices.Contains(c.allowed, c.value) {
			return fmt.Errorf("--%s is %q; allowed are %s", c.flag, c.value, strings.Join(c.allowed, ", "))
		}
	}
	for _, c := range []struct {
		flag        string
		value       int
		least, most int
	}{
		{"slots", o.slots, 0, 64},
		{"threads", o.threads, 0, 512},
		{"gpu-device", o.gpuDevice, 0, 64},
		{"queue", o.queue, 0, 100000},
		{"beam-size-max", o.beamSizeMax, 1, 8},
	} {
		if c.value < c.least || c.value > c.most {
			return fmt.Errorf("--%s is %d; allowed are %d to %d", c.flag, c.value, c.least, c.most)
		}
	}
	switch {
	case o.engine == "whispercpp" && o.model == "":
		return errors.New("name the model file with --model, or try the server without one with --engine emulator")
	case o.engine == "emulator" && o.model != "":
		return errors.New("the emulator reads no model, so --model does not go with it")
	case o.audioMax < time.Second:
		return fmt.Errorf("--max-audio is %v; it must be a second or more", o.audioMax)
	case o.grace < 0:
		return fmt.Errorf("--grace is %v; it must not be negative", o.grace)
	}
	return nil
}

// byteSize is a flag for a number of bytes.
type byteSize int64

func (b *byteSize) String() string {
	if *b == 0 { // package flag asks a zero value for its text
		return ""
	}
	return strings.NewReplacer(" ", "", ".0", "").Replace(humanize.IBytes(uint64(*b)))
}

func (b *byteSize) Set(s string) error {
	n, err := humanize.ParseBytes(s)
	if err != nil || n < 1 || n > 1<<40 {
		return errors.New("want a size such as 500MB or 1GiB, at most 1TiB")
	}
	*b = byteSize(n)
	return nil
}
