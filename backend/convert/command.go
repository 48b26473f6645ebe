package convert

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// usage is what --help prints.
const usage = `Usage: whisper-backend convert DIR OUT

Converts a faster-whisper model to the ggml file that whisper-backend and
whisper.cpp load.

  DIR   folder in CTranslate2's format: model.bin (float16 or float32) and
        tokenizer.json, vocabulary.json or vocabulary.txt; or silero_vad.jit
        of the Python package silero-vad 6.2, which tells speech from silence
  OUT   file to write, such as ggml-base.bin; it must not exist yet
`

// Exit codes of Command.
const (
	exitConverted = 0
	exitFailed    = 1
	exitUsage     = 2
)

// Command is the command line `whisper-backend convert DIR OUT`. args are what
// follows the word convert. It shows progress and errors on stderr, prints one
// line about the finished file on stdout, and returns the process's exit code:
// 0 when the file was written, 1 when not, 2 when args are wrong.
func Command(args []string, stdout, stderr io.Writer) int {
	for _, arg := range args {
		if arg == "-h" || arg == "--help" || arg == "-help" {
			fmt.Fprint(stdout, usage)
			return exitConverted
		}
	}
	if len(args) != 2 || strings.HasPrefix(args[0], "-") || strings.HasPrefix(args[1], "-") {
		fmt.Fprint(stderr, "whisper-backend convert: name the model's folder and the file to write\n\n", usage)
		return exitUsage
	}
	dir, out := args[0], args[1]
	bar := &bar{to: stderr, terminal: isTerminal(stderr)}
	var size int64
	err := Convert(dir, out, func(done, total int64) {
		size = total
		bar.show(done, total)
	})
	bar.end()
	if err != nil {
		fmt.Fprintf(stderr, "whisper-backend convert: %v\n", err)
		return exitFailed
	}
	fmt.Fprintf(stdout, "%s: %d bytes\n", out, size)
	return exitConverted
}

// isTerminal reports whether a person watches: a bar is redrawn for them, and a
// log gets lines instead.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// bar shows progress: redrawn in place at each percent on a terminal, else a
// line at each ten.
type bar struct {
	to       io.Writer
	terminal bool
	started  bool
	shown    int64 // percent
}

const barWidth = 40

func (b *bar) show(done, total int64) {
	step := int64(10)
	if b.terminal {
		step = 1
	}
	percent := 100 * done / max(total, 1) / step * step
	if b.started && percent <= b.shown {
		return
	}
	b.started, b.shown = true, percent
	if !b.terminal {
		fmt.Fprintf(b.to, "converting: %d %%\n", percent)
		return
	}
	full := int(percent * barWidth / 100)
	fmt.Fprintf(b.to, "\rconverting [%s%s] %3d %%", strings.Repeat("#", full), strings.Repeat(" ", barWidth-full), percent)
}

// end leaves the bar's line.
func (b *bar) end() {
	if b.started && b.terminal {
		fmt.Fprintln(b.to)
	}
}
