package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/whisperpool/whisperpool/backend/whispercpp"
)

// options are what the flags say.
type options struct {
	engine, modelID    string
	models             list
	modelsDir          string
	memoryMax          byteSize
	unloadAfter        time.Duration
	slots, threads     int
	minSlots, maxSlots int
	target             float64
	upDelay, downDelay time.Duration
	gpu, gpuClass      string
	shortClips         string
	vadModel           string
	vad                bool
	listen, keyFile    string
	queue              int
	uploadMax          byteSize
	audioMax, grace    time.Duration
	beamSizeMax        int
	ffmpeg             string
	emulateClass       string
	emulateModels      list
	emulateMemory      byteSize
	emulateLoad        time.Duration
	profiles           list
	emulateFaults      list
	speedUp            float64
	seed               uint64
	logFormat          string
	logLevel           string
	version            bool
	flags              *flag.FlagSet
}

// group is a part of the help, with the flags that it explains.
type group struct {
	title string
	flags []string
}

// groups hold every flag once; a test sees to that.
var groups = []group{
	{"What to serve", []string{"model", "model-id", "models-dir", "memory-max", "unload-after", "engine"}},
	{"On what", []string{"slots", "threads", "gpu", "gpu-class", "short-clips"}},
	{"Without silence", []string{"vad-model", "vad"}},
	{"Slots that come and go", []string{"min-slots", "max-slots", "target-ongoing-requests", "upscale-delay", "downscale-delay"}},
	{"To whom", []string{"listen", "api-key-file", "queue", "max-upload", "max-audio", "beam-size-max", "ffmpeg", "grace"}},
	{"The emulator (--engine emulator)", []string{"emulate-class", "emulate-model", "emulate-memory", "emulate-load", "profile", "fault", "speed-up", "seed"}},
	{"What it says", []string{"log-format", "log-level", "version"}},
}

// newOptions makes the options at their defaults, with the flags that set them. The word in
// backquotes is the name of a flag's value; the help shows it behind the flag.
func newOptions() *options {
	o := &options{uploadMax: 1 << 30, flags: flag.NewFlagSet("whisper-backend", flag.ContinueOnError)}
	f := o.flags
	f.SetOutput(io.Discard) // errors are told in one sentence, see run
	f.Var(&o.models, "model", "`PATH` ggml model file, such as ggml-base.bin; may be given several times: the first is the default model and loaded at the start, the others are loaded when a client names them")
	f.StringVar(&o.modelID, "model-id", "", "`NAME` what clients call the first --model; without it the file's name: base for ggml-base.bin")
	f.StringVar(&o.modelsDir, "models-dir", "", "`DIR` folder whose ggml files (*.bin) are models too, also those that are put there later; POST /load takes files in it")
	f.Var(&o.memoryMax, "memory-max", "`SIZE` memory that loaded models may take in all, with their slots; before it is exceeded, the idle model is unloaded that was used least recently; without it, 90 % of the GPU's memory that is free, or 80 % of the machine's")
	f.DurationVar(&o.unloadAfter, "unload-after", 0, "`DURATION` after which a model is unloaded that nobody uses, the default model too; without it, 10m for all others; off with -1s")
	f.StringVar(&o.engine, "engine", "whispercpp", "`ENGINE` whispercpp, or emulator, which needs no model and no GPU: it takes as long as a GPU would and answers with a made-up text")

	f.IntVar(&o.slots, "slots", 0, "`N` jobs that run side by side, each with a state of its own on one copy of the weights; 0: chosen from the GPU class, or from the cores")
	f.IntVar(&o.threads, "threads", 0, "`N` CPU threads of each slot; 0: the cores divided among the slots, at most 8")
	f.StringVar(&o.gpu, "gpu", "auto", "`MODE` auto uses a GPU where there is one, required fails without, off uses the CPU, a number fails without that very GPU, counted from 0; one process serves one GPU")
	f.StringVar(&o.gpuClass, "gpu-class", "", "`CLASS` what proxies are told of the GPU, a first guess at the speed and a label in metrics: T4, L4, A10G, A100, H100, CPU or a word of your own; without it, found in the device's name")

	f.StringVar(&o.shortClips, "short-clips", "auto", "`MODE` clips well under 30 s cost less than a whole window: auto where it was measured that no word is lost by it, on, off")

	f.StringVar(&o.vadModel, "vad-model", "", "`PATH` Silero's ggml-silero-v6.2.0.bin, which tells speech from silence: clients may then have silence cut out before a recording takes a slot (vad=true of /inference, vad_filter of the others), so that it takes no time and no words are made up for it")
	f.BoolVar(&o.vad, "vad", false, "cut silence out for all who do not ask for the contrary; needs --vad-model")

	f.IntVar(&o.minSlots, "min-slots", 0, "`N` fewest slots, in place of --slots; 0: 1 if --max-slots is given")
	f.IntVar(&o.maxSlots, "max-slots", 0, "`N` most slots, in place of --slots: there become more and fewer as jobs come and go")
	f.Float64Var(&o.target, "target-ongoing-requests", 0.8, "`N` jobs, running and waiting, that there should be for each slot; below 1 a slot is kept in hand, as a proxy needs that sends no more jobs than there are slots")
	f.DurationVar(&o.upDelay, "upscale-delay", 10*time.Second, "`DURATION` for which more slots must have been wanted before there are")
	f.DurationVar(&o.downDelay, "downscale-delay", 30*time.Second, "`DURATION` for which fewer slots must have been wanted before there are")

	f.StringVar(&o.listen, "listen", "127.0.0.1:8000", "`ADDRESS` where to listen; :8000 is every interface, which wants --api-key-file or a firewall")
	f.StringVar(&o.keyFile, "api-key-file", "", "`PATH` file of API keys, one a line (# begins a comment), of which clients must send one as Authorization: Bearer KEY, for all but /health; read again when it changes, and at SIGHUP; only its owner may write it")
	f.IntVar(&o.queue, "queue", 16, "`N` jobs that may wait for a slot; one more is refused with 503, so that a proxy sends it elsewhere")
	f.Var(&o.uploadMax, "max-upload", "`SIZE` largest upload, such as 500MB or 1GiB; large ones are put in nameless files under $TMPDIR (/tmp)")
	f.DurationVar(&o.audioMax, "max-audio", 4*time.Hour, "`DURATION` longest recording, such as 90m")
	f.IntVar(&o.beamSizeMax, "beam-size-max", 8, "`N` most beams and candidates (beam_size, best_of) that a client may ask for, 1 to 8; fewer take less memory on a GPU")
	f.StringVar(&o.ffmpeg, "ffmpeg", "auto", "`PATH` the program ffmpeg, which decodes what is not decoded here (MP4, M4A, AAC); auto: the one that is installed, if any; off: none")
	f.DurationVar(&o.grace, "grace", 30*time.Second, "`DURATION` how long jobs may go on after SIGTERM or Ctrl-C; a second signal ends at once")

	f.StringVar(&o.emulateClass, "emulate-class", emulateClassDefault, "`CLASS` GPU whose times are emulated: T4, A10G or H100")
	f.Var(&o.emulateModels, "emulate-model", "`MODEL` the model whose times are emulated, and under whose name it is served: tiny, base (which it is without this flag), small, medium, large-v3, turbo; may be given several times")
	f.Var(&o.emulateMemory, "emulate-memory", "`SIZE` of the emulated card, for weights and slots (about 3.1GB and 0.75GB with large-v3); without it what the class has: 16GB, 24GB or 80GB")
	f.DurationVar(&o.emulateLoad, "emulate-load", 0, "`DURATION` that it takes to load a model; 3s to 8s would be like a T4 with large-v3, 1s to 3s like an H100")
	f.Var(&o.profiles, "profile", "`FILE` what whisper-backend calibrate measured of a device, which is emulated in place of a class and model; may be given several times, for models that share the device")
	f.Var(&o.emulateFaults, "fault", "`JSON` what is wrong from the start, such as '{\"fault\": \"slow\", \"factor\": 4}'; may be given several times; GET /emulator/fault tells the kinds, PUT and DELETE there change it")
	f.Float64Var(&o.speedUp, "speed-up", 1, "`FACTOR` how many times as fast as the GPU")
	f.Uint64Var(&o.seed, "seed", 1, "`N` seed of the emulator's chance: the same seed and the same jobs in order take the same times")

	f.StringVar(&o.logFormat, "log-format", "console", "`FORMAT` console or json, of the log on standard error; it never holds audio, file names or transcripts")
	f.StringVar(&o.logLevel, "log-level", "info", "`LEVEL` least level that is logged: debug, info, warn or error")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	return o
}

const emulateClassDefault = "T4"

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
		{"short-clips", o.shortClips, []string{"auto", "on", "off"}},
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
		{"min-slots", o.minSlots, 0, 64},
		{"max-slots", o.maxSlots, 0, 64},
		{"queue", o.queue, 0, 100000},
		{"beam-size-max", o.beamSizeMax, 1, 8},
	} {
		if c.value < c.least || c.value > c.most {
			return fmt.Errorf("--%s is %d; allowed are %d to %d", c.flag, c.value, c.least, c.most)
		}
	}
	if _, _, err := o.gpuChoice(); err != nil {
		return err
	}
	if err := o.checkModels(); err != nil {
		return err
	}
	switch {
	case o.slots > 0 && o.minSlots+o.maxSlots > 0:
		return errors.New("--slots means a number for ever, so --min-slots and --max-slots do not go with it")
	case o.minSlots > 0 && o.maxSlots < o.minSlots:
		return fmt.Errorf("--min-slots is %d, so --max-slots must be given and be as many or more", o.minSlots)
	case !(o.target > 0 && o.target <= 1000):
		return fmt.Errorf("--target-ongoing-requests is %v; it must be more than 0", o.target)
	case o.upDelay < 0 || o.downDelay < 0:
		return errors.New("--upscale-delay and --downscale-delay must not be negative")
	case o.audioMax < time.Second:
		return fmt.Errorf("--max-audio is %v; it must be a second or more", o.audioMax)
	case o.emulateLoad < 0:
		return fmt.Errorf("--emulate-load is %v; it must not be negative", o.emulateLoad)
	case o.grace < 0:
		return fmt.Errorf("--grace is %v; it must not be negative", o.grace)
	}
	return nil
}

// checkModels refuses models that the engine has no use for.
func (o *options) checkModels() error {
	switch given := len(o.models) > 0 || o.modelsDir != ""; {
	case o.engine == "whispercpp" && !given:
		return errors.New("name the model file with --model or a folder of them with --models-dir, or try the server without one with --engine emulator")
	case o.engine == "emulator" && given:
		return errors.New("the emulator reads no model, so --model and --models-dir do not go with it; see --emulate-model")
	case o.engine == "whispercpp" && len(o.emulateModels)+len(o.profiles)+len(o.emulateFaults) > 0:
		return errors.New("--emulate-model, --profile and --fault need --engine emulator")
	case len(o.profiles) > 0 && (len(o.emulateModels) > 0 || o.emulateClass != emulateClassDefault):
		return errors.New("a --profile says class and model itself, so --emulate-class and --emulate-model do not go with it")
	case o.modelID != "" && len(o.models) == 0:
		return errors.New("--model-id names the first --model, and there is none")
	case o.vad && o.vadModel == "":
		return errors.New("--vad needs --vad-model, the file of the model that tells speech from silence: `make model` gets ggml-silero-v6.2.0.bin")
	case o.engine == "emulator" && o.vadModel != "":
		return errors.New("the emulator listens to no sound, so --vad-model does not go with it")
	}
	return nil
}

// gpuChoice is what --gpu says: how much a GPU is wanted, and which.
func (o *options) gpuChoice() (mode string, number int, err error) {
	switch o.gpu {
	case whispercpp.GPUAuto, whispercpp.GPURequired, whispercpp.GPUOff:
		return o.gpu, 0, nil
	}
	const most = 64
	number, err = strconv.Atoi(o.gpu)
	if err != nil || number < 0 || number > most {
		return "", 0, fmt.Errorf("--gpu is %q; allowed are auto, required, off and the number of a GPU, from 0", o.gpu)
	}
	return whispercpp.GPURequired, number, nil
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ", ") }

func (l *list) Set(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	*l = append(*l, s)
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
