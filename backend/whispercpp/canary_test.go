//go:build whispercpp

package whispercpp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

const canaryChild = "WHISPERPOOL_TEST_CANARY_CHILD"

// Words that are in the prompt, a token each, and words that are in the recording.
var (
	prompted = []string{"monday", "elephant"}
	spokenOf = []string{"fellow", "americans", "country"}
)

// Nothing that clients write or say reaches the log, at any level, nor standard error: not from jobs
// that go well, fail or are stopped, and not when ggml ends the process.
func TestNothingOfClientsIsLogged(t *testing.T) {
	if told := os.Getenv(canaryChild); told != "" {
		canaries(t, told)
		return
	}
	realModel(t, "tiny.en")
	told := filepath.Join(t.TempDir(), "told")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestNothingOfClientsIsLogged$", "-test.v")
	// One arena, or else each thread reserves addresses that the end of the test counts on.
	child.Env = append(os.Environ(), canaryChild+"="+told, "MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=65536")
	out, err := child.CombinedOutput()
	said := string(out)
	for _, want := range []string{"kv self size", "initial prompt is too long", "too many decoders", "the jobs are done"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q was not said, so this shows nothing", want)
		}
	}
	heard, readErr := os.ReadFile(told)
	if readErr != nil || !strings.Contains(strings.ToLower(string(heard)), "country") {
		t.Errorf("heard %q, %v", heard, readErr)
	}
	for _, canary := range append(prompted, spokenOf...) {
		if strings.Contains(strings.ToLower(said), canary) {
			t.Errorf("%q was said", canary)
		}
	}
	// The library ended the process, in our log and without a debugger's words.
	var ended *exec.ExitError
	if !errors.As(err, &ended) || !strings.Contains(said, "level=ERROR msg=\"whisper.cpp: ") || !strings.Contains(said, "GGML_ASSERT") {
		t.Errorf("the process was to end by ggml's hand: %v", err)
	}
	if strings.Contains(said, "#0 ") || strings.Contains(said, "Inferior") {
		t.Error("a debugger was started")
	}
	if t.Failed() {
		t.Log(said)
	}
}

// canaries has jobs done with words in them that must not be said.
func canaries(t *testing.T, told string) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug - 100}))
	e := open(t, Config{ModelPath: realModel(t, "tiny.en"), Slots: 1, Threads: 1, Cold: true, Logger: log})
	samples := speechSamples(t, 0, 11)
	prompt := strings.Repeat("Monday and elephant, ", 200)
	p := greedy()
	p.Prompt, p.Words = prompt, true
	clip := backend.Job{Samples: samples, Params: p}

	stopped, stop := context.WithCancel(t.Context())
	stopping := clip
	stopping.Segment = func(transcript.Segment) { stop() }
	result, err := e.Transcribe(t.Context(), clip)
	texts := textOf(result.Transcript)
	log.Info("done", "error", err)
	p.BeamSize, p.CarryPrompt = 3, true
	result, err = e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: p})
	log.Info("done with beams", "error", err)
	if err := os.WriteFile(told, []byte(texts+textOf(result.Transcript)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = e.Transcribe(stopped, stopping)
	log.Info("stopped", "error", err)
	p.Temperature = 7
	_, err = e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: p})
	log.Info("refused", "error", err)

	o, refusal := newOptions(clip.Params, len(samples), e.limits)
	if refusal != nil {
		t.Fatal(refusal)
	}
	o.bestOf = 9 // which newOptions refuses
	s := <-e.slots.free
	_, err = s.transcribe(t.Context(), clip, o)
	log.Info("failed", "error", err)
	e.slots.release(s)
	fmt.Fprintln(os.Stderr, "the jobs are done")

	// ggml takes for granted that it gets the addresses that a state wants.
	before, _ := statm(t)
	if err := e.Resize(2); err != nil {
		t.Fatal(err)
	}
	after, _ := statm(t)
	limitMemory(t, (after-before)/2)
	err = e.Resize(3)
	log.Info("not ended", "error", err)
}
