//go:build whispercpp

package whispercpp

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// What whisper.cpp does with what it is not made for, and the tests that see to it that none of that
// reaches a client:
//
//	a shrunk encoder context leaks into the next run          TestMixedRequestsGetWhatEachGetsAlone, TestShrunkContextKeepsNothing
//	detection uses the context of the run before              TestMixedRequestsGetWhatEachGetsAlone ("detected", "language")
//	detection on an English model yields nonsense             TestLanguageAlone
//	... and on one of 99 languages knows a hundredth          TestLanguageAlone
//	random numbers go on from one run to the next, by which
//	beams and all above temperature 0 are drawn               TestMixedRequestsGetWhatEachGetsAlone ("beams", "hot", "fallbacks")
//	the probability of silence is that of an earlier token    TestMixedRequestsGetWhatEachGetsAlone (all)
//	temperature above 1 or NaN answers with the words before  TestOptionsRefuseWhatHurtsWhisper
//	tiny steps of temperature never end                       TestOptionsRefuseWhatHurtsWhisper
//	negative offsets read out of bounds                       TestOptionsRefuseWhatHurtsWhisper
//	long prompts overflow the stack                           TestParametersAtTheirEnds ("long prompt"), TestPromptKeepsItsEnd
//	a carried prompt in a context of 1 token reads past it    TestParametersAtTheirEnds ("carried in no room")
//	NaN in the audio makes everything NaN                     TestSamplesMustBeNumbers
//	a duration behind the end is worked through               TestOptionsKeepTheWindowWithinTheAudio
//	a state is freed under its caller (-7)                    TestMemoryThatRunsOut
//	exceptions                                                TestMemoryThatRunsOut, TestExceptionIsAnError
//	segments end within a character                           TestWordsAreJoinedFromTokens, TestSegmentsToldAreThoseOfTheAnswer
//	aborts are taken for success between windows              TestSlotsUnderLoadWithAborts, TestSegmentsComeOnTheWay
//	two runs on one state, OpenMP's threads for every caller  slots have a thread each: TestSlotsTogetherHearWhatEachHearsAlone
//	C strings are never freed by the bindings                 ours are, by defers; TestMemoryStaysFlat
//	files are believed                                        TestCheckModel...

// The library throws std::out_of_range for a model whose vocabulary lacks the space, which New would
// refuse to load.
func TestExceptionIsAnError(t *testing.T) {
	raw, err := os.ReadFile(writeSynthetic(t, syntheticModel(51864)))
	if err != nil {
		t.Fatal(err)
	}
	space := []byte{1, 0, 0, 0, ' '}
	at := bytes.Index(raw, space)
	raw[at+4] = '!' // there are two of those now
	path := t.TempDir() + "/ggml-spaceless.bin"
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := loadBackends(); err != nil {
		t.Fatal(err)
	}
	e := &engine{
		device: device{name: "CPU"}, threads: 1,
		limits: limits{id: "spaceless", model: syntheticModel(51864), beamSize: 1, bestOf: 1, maxDecoders: 8},
	}
	e.slots = newSlots(1, e.makeSlot)
	if err := e.load(Config{ModelPath: path}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	if err := e.Resize(1); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the slot outlives it
		if _, err := e.Transcribe(t.Context(), backend.Job{Samples: tone(1), Params: greedy()}); err == nil || !strings.Contains(err.Error(), "at") {
			t.Errorf("%v", err)
		}
	}
}

const memoryChild = "WHISPERPOOL_TEST_MEMORY_CHILD"

// Memory that runs out in the middle of a job is the job's failure, not the process's: neither where
// the library throws nor where it frees the state under its caller.
func TestMemoryThatRunsOut(t *testing.T) {
	if os.Getenv(memoryChild) == "" {
		realModel(t, "tiny.en")
		child := exec.Command(os.Args[0], "-test.run", "^TestMemoryThatRunsOut$", "-test.v")
		// The C library would else serve from what it has kept of memory that was freed.
		child.Env = append(os.Environ(), memoryChild+"=1", "MALLOC_MMAP_THRESHOLD_=65536", "MALLOC_TRIM_THRESHOLD_=0")
		if out, err := child.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	e := openReal(t, "tiny.en", 1)
	second, long := tone(1), make([]float32, 30*60*SampleRate)
	job := func(samples []float32, p transcript.Params) error {
		_, err := e.Transcribe(t.Context(), backend.Job{Samples: samples, Params: p})
		return err
	}
	if err := job(second, greedy()); err != nil {
		t.Fatal(err)
	}
	debug.SetGCPercent(-1) // Go itself had better not want any now
	wide := greedy()
	wide.BeamSize = 8 // 31 MB
	failed := 0
	for _, c := range []struct {
		samples []float32
		p       transcript.Params
	}{{second, wide}, {long, greedy()}} {
		restore := limitMemory(t, 20<<20)
		err := job(c.samples, c.p)
		restore()
		switch {
		case err == nil: // there was memory that had been freed, which the race detector has much of
		case strings.Contains(err.Error(), "code -7"), strings.Contains(err.Error(), "bad_alloc"):
			failed++
		default:
			t.Error(err)
		}
		if err := job(second, greedy()); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
	if failed == 0 {
		t.Error("memory did not run out")
	}
}

// limitMemory lets the process have so many bytes more until restore is called.
func limitMemory(t *testing.T, more uint64) (restore func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &before); err != nil {
		t.Fatal(err)
	}
	size, _ := statm(t)
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: size + more, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &before); err != nil {
			t.Fatal(err)
		}
	}
}

// statm is how many bytes the process has of addresses and of memory.
func statm(t testing.TB) (size, resident uint64) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	if _, err := fmt.Sscan(string(raw), &size, &resident); err != nil {
		t.Fatal(err)
	}
	page := uint64(os.Getpagesize())
	return size * page, resident * page
}

// 140 requests take no more memory than the first 40 did; `make soak` has 500.
func TestMemoryStaysFlat(t *testing.T) {
	e := openSynthetic(t, 51865, 2)
	requests := []transcript.Params{
		{Language: "en", Prompt: strings.Repeat("word ", 60), TemperatureInc: ptr(0.0)},
		{Language: "de", Words: true, MaxLen: 5, TemperatureInc: ptr(0.0)},
		{TemperatureInc: ptr(0.0)},
		{Language: "en", BeamSize: 2, AudioCtx: 64, TemperatureInc: ptr(0.0)}, // a state of its own
	}
	samples := tone(0.5)
	run := func(count int) uint64 {
		for i := range count {
			if _, err := e.Transcribe(t.Context(), backend.Job{
				Samples: samples, Params: requests[i%len(requests)], Segment: func(transcript.Segment) {},
			}); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
		debug.FreeOSMemory()
		_, resident := statm(t)
		return resident
	}
	before := run(40)
	after := run(100)
	t.Logf("%d MB after 40 requests, %d MB after 140", before>>20, after>>20)
	if after > before+6<<20 {
		t.Errorf("%d kB a request are not given back", (after-before)>>10/100)
	}
}
