package calibrate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
)

// usage is what --help prints.
const usage = `Usage: whisper-backend calibrate --recording FILE [flags] -o PROFILE

Measures how long a transcription server takes, for clips of several lengths,
alone and side by side, and writes it down as a profile, by which
whisper-backend --engine emulator --profile PROFILE is as fast. The server may be
whisper-backend, whisper.cpp's, or any that speaks OpenAI's API with
verbose_json; nobody else should use it meanwhile.

  -o FILE             profile to write; one that is there is replaced
  --url URL           the server (default http://127.0.0.1:8000)
  --recording PATH    recording of speech, or a folder of them, that clips are cut
                      of; may be given several times; a few minutes are better
                      than a sentence; not needed with an emulator
  --model NAME        model to ask for; without it the server's default
  --class CLASS       GPU class, a name for the profile; without it what
                      whisper-backend says
  --key-file FILE     file whose first line is the API key
  --api API           openai, inference (whisper.cpp's) or auto (default)
  --language CODE     that is spoken (default en)
  --lengths LIST      seconds of the clips (default 3,9,18,27,45,75,105)
  --streams LIST      jobs at once, each over clips of 24 s (default 1,2,4)
  --repeat N          clips of each length and stream (default 8); more are surer
  --timeout DURATION  for one clip (default 10m)
`

// Exit codes of Command.
const (
	exitMeasured = 0
	exitFailed   = 1
	exitUsage    = 2
)

// flags are the command line.
type flags struct {
	Options
	recordings       []string
	lengths, streams string
	keyFile, out     string
}

func parse(args []string) (*flags, error) {
	f := &flags{}
	set := flag.NewFlagSet("calibrate", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.out, "o", "", "")
	set.StringVar(&f.URL, "url", "http://127.0.0.1:8000", "")
	set.Func("recording", "", func(s string) error { f.recordings = append(f.recordings, s); return nil })
	set.StringVar(&f.Model, "model", "", "")
	set.StringVar(&f.Class, "class", "", "")
	set.StringVar(&f.keyFile, "key-file", "", "")
	set.StringVar(&f.API, "api", "auto", "")
	set.StringVar(&f.Language, "language", "en", "")
	set.StringVar(&f.lengths, "lengths", "3,9,18,27,45,75,105", "")
	set.StringVar(&f.streams, "streams", "1,2,4", "")
	set.IntVar(&f.Repeat, "repeat", 8, "")
	set.DurationVar(&f.Timeout, "timeout", 10*time.Minute, "")
	if err := set.Parse(args); err != nil {
		return nil, errors.New(strings.NewReplacer("flag provided but not defined: -", "unknown flag --", "flag needs an argument: -", "a value is missing after --").Replace(err.Error()))
	}
	return f, f.check(set.Args())
}

func (f *flags) check(rest []string) (err error) {
	if f.Lengths, err = numbers(f.lengths, 0.5, 3600); err != nil {
		return fmt.Errorf("--lengths %w", err)
	}
	streams, err := numbers(f.streams, 1, 64)
	if err != nil {
		return fmt.Errorf("--streams %w", err)
	}
	for _, n := range streams {
		if n != math.Trunc(n) {
			return fmt.Errorf("--streams has %v; it takes whole numbers", n)
		}
		f.Streams = append(f.Streams, int(n))
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case f.out == "":
		return errors.New("name the profile to write with -o, such as -o profile.json")
	case !slices.Contains([]string{"auto", apiOpenAI, apiInference}, f.API):
		return fmt.Errorf("--api is %q; allowed are auto, openai and inference", f.API)
	case f.Repeat < 1 || f.Repeat > 1000:
		return fmt.Errorf("--repeat is %d; allowed are 1 to 1000", f.Repeat)
	case f.Timeout <= 0:
		return fmt.Errorf("--timeout is %v; it must be more than 0", f.Timeout)
	}
	return nil
}

// numbers reads a list such as 1,2,4.
func numbers(text string, least, most float64) (all []float64, err error) {
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil || !(n >= least && n <= most) {
			return nil, fmt.Errorf("has %q; it takes numbers from %v to %v with commas between them", part, least, most)
		}
		all = append(all, n)
	}
	return all, nil
}

// Command is the command line `whisper-backend calibrate ...`. args are what follows the word calibrate.
// It shows progress and errors on stderr and what it found on stdout, and returns the exit code: 0 when
// the profile was written, 1 when not, 2 when args are wrong.
func Command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	for _, arg := range args {
		if arg == "-h" || arg == "--help" || arg == "-help" {
			fmt.Fprint(stdout, usage)
			return exitMeasured
		}
	}
	f, err := parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "whisper-backend calibrate: %v; see whisper-backend calibrate --help\n", err)
		return exitUsage
	}
	if err := f.run(ctx, stdout, stderr); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted; no profile was written")
		}
		fmt.Fprintf(stderr, "whisper-backend calibrate: %v\n", err)
		return exitFailed
	}
	return exitMeasured
}

func (f *flags) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	if err := f.writable(); err != nil {
		return err // before minutes of measuring
	}
	if f.keyFile != "" {
		if f.Key, err = firstKey(f.keyFile); err != nil {
			return err
		}
	}
	if len(f.recordings) > 0 {
		ffmpeg, _ := exec.LookPath("ffmpeg")
		if f.Speech, err = Recordings(ctx, f.recordings, ffmpeg); err != nil {
			return err
		}
	}
	p := newProgress(stderr)
	f.Progress, f.Note = p.show, p.note
	result, err := Run(ctx, f.Options)
	p.end()
	if err != nil {
		return err
	}
	report(stdout, result)
	if err := f.write(result.Profile); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nwrote %s; try it with whisper-backend --engine emulator --profile %s\n", f.out, f.out)
	return nil
}

// writable refuses to replace what is no profile, and a folder that is not there.
func (f *flags) writable() error {
	text, err := os.ReadFile(f.out)
	if errors.Is(err, os.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(f.out))
	} else if err == nil && len(text) > 0 {
		if _, bad := gpu.ParseProfile(text); bad != nil {
			return fmt.Errorf("%s is there already and no profile; name another file with -o", f.out)
		}
	}
	if err != nil {
		return fmt.Errorf("the profile cannot be written: %w", err)
	}
	return nil
}

// write puts the profile in place whole or not at all.
func (f *flags) write(p gpu.Profile) error {
	part := f.out + ".part"
	if err := os.WriteFile(part, p.Bytes(), 0o644); err != nil { //nolint:gosec // there is nothing secret in it
		return fmt.Errorf("the profile cannot be written: %w", err)
	}
	if err := os.Rename(part, f.out); err != nil {
		os.Remove(part)
		return fmt.Errorf("the profile cannot be written: %w", err)
	}
	return nil
}

// firstKey reads the first line of a file that is no comment.
func firstKey(path string) (string, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return "", fmt.Errorf("cannot read the API key: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if key := strings.TrimSpace(line); key != "" && !strings.HasPrefix(key, "#") {
			return key, nil
		}
	}
	return "", fmt.Errorf("there is no API key in %s", path)
}
