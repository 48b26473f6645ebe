package backend

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
)

// Config is what an operator may choose about the server. The zero value is usable: each field says
// what its zero means.
type Config struct {
	// GPUClass is told to proxies, which take it for a first guess of the speed. "": found out from
	// the device's name. A known class of GPU is corrected to CPU when the engine runs on the CPU.
	GPUClass string
	// Version of the program, for the load report.
	Version string
	// Queue is how many jobs may wait for a slot; one more is refused. 0: 16. Negative: none waits.
	Queue int
	// UploadMax is the largest request body in bytes. 0: 1 GiB.
	UploadMax int64
	// AudioMax is the longest audio. 0: 4 hours.
	AudioMax time.Duration
	// BeamSizeMax bounds the beams and candidates (beam_size, best_of) that clients may ask for. 0: 8.
	BeamSizeMax int
	// FFmpeg is the path of the ffmpeg program, for formats that are not decoded in Go. "": none.
	FFmpeg string
	// Decoders is how many uploads are decoded side by side. 0: as many as there are processors.
	Decoders int
	// TempDir is where uploads that do not fit memory are put, in files without a name. "": the
	// system's folder for such files.
	TempDir string
	// Grace is how long jobs may go on after the server was told to stop. 0: 30 s.
	Grace time.Duration
	// MinSlots and MaxSlots bound the slots, which are made and freed as jobs come and go. 0: as many
	// as the engine has from the start, for ever.
	MinSlots, MaxSlots int
	// TargetOngoing is how many jobs, running and waiting, there should be for each slot. 0: 0.8,
	// which keeps a slot in hand: below 1 there become more also behind a proxy that never sends
	// more jobs than there are slots.
	TargetOngoing float64
	// UpscaleDelay and DownscaleDelay are how long more, or fewer, slots must have been wanted.
	UpscaleDelay, DownscaleDelay time.Duration
	// Library is the models that can be loaded on demand, the first being the default. nil: only the
	// engine that the server is given.
	Library Library
	// MemoryMax is how many bytes all loaded models may take, weights and slots. 0: most of what is
	// free on the device, or in the machine, once the first model is loaded.
	MemoryMax int64
	// UnloadAfter is how long a model of the Library stays loaded that nobody uses. 0: the default
	// model for ever, others for 10 minutes. Negative: all for ever.
	UnloadAfter time.Duration
	// ModelsDir is the folder in which POST /load may find models. "": it loads none but those that
	// are served already.
	ModelsDir string
	// KeyFile is a file of API keys, one a line, of which clients must send one. "": none is needed.
	KeyFile string
	// Detectors tell speech from silence, for as many jobs at once as there are of them, so that silence can be cut
	// out before the engine has its turn. None: it never is. The server closes them.
	Detectors []SpeechDetector
	// VAD has silence cut out for clients, too, that do not ask for it, unless they ask for the contrary.
	VAD bool
	// Ready, unless nil, is called once, when the server begins to take work.
	Ready func()
	// Wrap, unless nil, is put between the API keys and the routes: the emulator's faults.
	Wrap func(http.Handler) http.Handler
	// Log gets what operators should know: never audio, file names or transcripts. nil: nothing.
	Log *slog.Logger
}

// unloadAfterDefault is how long models other than the default one stay, unless configured.
const unloadAfterDefault = 10 * time.Minute

// Limits that operators have no reason to choose.
const (
	uploadStall     = 60 * time.Second // longest pause within an upload
	uploadRateMin   = 1 << 10          // bytes a second that an upload must come at after that time, on average
	answerStall     = 60 * time.Second // longest time for a client to take its answer
	uploadMemory    = 32 << 20         // an upload up to this size is held in memory,
	uploadMemoryAll = 256 << 20        // if all of them together are not larger than this
	uploadsMax      = 256              // bodies that are read at once, over all that could ever be worked on soon
	fieldBytesMax   = 1 << 20          // all fields of a form but the file
	fieldsMax       = 200              // parts of a form
	drainBytesMax   = 1 << 20          // read after an early refusal,
	drainTimeMax    = 2 * time.Second  // for at most this long, so that the client sees the answer
	idleTimeout     = 75 * time.Second // well over the 4 s for which proxies keep idle connections
)

// withDefaults fills in what was left zero and refuses what makes no sense.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.UploadMax < 0:
		return c, fmt.Errorf("the largest upload must be more than %d bytes", c.UploadMax)
	case c.AudioMax < 0:
		return c, fmt.Errorf("the longest audio must be more than %v", c.AudioMax)
	case c.BeamSizeMax < 0 || c.BeamSizeMax > 8:
		return c, errors.New("the largest beam size must be within 1 and 8, since whisper.cpp has room for 8 decoders")
	case c.MinSlots < 0 || c.MaxSlots < c.MinSlots || c.MaxSlots > 0 && c.MinSlots == 0:
		return c, fmt.Errorf("%d to %d slots is no range", c.MinSlots, c.MaxSlots)
	case c.TargetOngoing < 0 || c.UpscaleDelay < 0 || c.DownscaleDelay < 0:
		return c, errors.New("the target of jobs a slot and the delays of scaling must not be negative")
	case c.MemoryMax < 0:
		return c, fmt.Errorf("the memory of models must be more than %d bytes", c.MemoryMax)
	case c.Grace < 0:
		return c, fmt.Errorf("the time to finish must not be %v", c.Grace)
	case c.VAD && len(c.Detectors) == 0:
		return c, errors.New("silence can be cut out only with a model that tells speech from it")
	}
	orDefault(&c.Queue, 16)
	c.Queue = max(c.Queue, 0)
	orDefault(&c.UploadMax, 1<<30)
	orDefault(&c.AudioMax, 4*time.Hour)
	orDefault(&c.BeamSizeMax, 8)
	orDefault(&c.Decoders, runtime.GOMAXPROCS(0))
	orDefault(&c.TargetOngoing, 0.8)
	orDefault(&c.Grace, 30*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.GPUClass = string(gpu.ParseClass(c.GPUClass))
	return c, nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
