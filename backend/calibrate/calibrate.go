// Package calibrate measures how long a transcription server takes for clips of several lengths, alone
// and side by side, and fits the law of package gpu to it. The server may be of any make that answers
// OpenAI's transcriptions or whisper.cpp's /inference; nothing is asked of it but transcripts.
package calibrate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
)

// Options say what to measure.
type Options struct {
	URL      string // of the server, without a path
	API      string // "openai", "inference", or "auto": found out
	Key      string // of the API; "": none
	Model    string // "": the server's default
	Class    string // of GPU; "": what the server says, if it does
	Language string // that is spoken; "": English
	// Speech is what clips are cut of, at 16 kHz. It may be empty with an emulator only.
	Speech  []float32
	Lengths []float64 // seconds of the clips that are sent alone
	Streams []int     // how many at once; 1 is measured always
	Repeat  int       // clips of each length, and for each stream of each number of them
	Timeout time.Duration

	Progress func(done, total int) // may be nil; not called twice at once
	Note     func(text string)     // gets what a person should know; may be nil
}

// Result is what came of it.
type Result struct {
	Profile gpu.Profile
	Samples []gpu.Sample // those of jobs alone first
}

// crowdSeconds is the length of clips that are sent side by side: less than a window, so that all are
// alike, and much of one, so that the device works most of the time.
const crowdSeconds = 24

// Run measures. The error says what to do.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	s, err := newServer(ctx, o)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	if len(o.Speech) == 0 && !s.emulator {
		return Result{}, errors.New("name recordings of speech with --recording, since how long a model takes hangs on what is said (scripts/recordings.sh gets some)")
	}
	m := &measurement{o: o, server: s, rng: rand.New(rand.NewPCG(1, 1))}
	m.clip = m.send
	return m.run(ctx)
}

// run warms the server up and measures.
func (m *measurement) run(ctx context.Context) (Result, error) {
	if err := m.warmUp(ctx); err != nil {
		return Result{}, err
	}
	streams := m.streams()
	m.total = len(m.o.Lengths) * m.o.Repeat
	for _, n := range streams {
		m.total += n * m.o.Repeat
	}
	if err := m.alone(ctx); err != nil {
		return Result{}, err
	}
	for _, n := range streams {
		if err := m.together(ctx, n); err != nil {
			return Result{}, err
		}
	}
	return m.result(streams), nil
}

// measurement is a run.
type measurement struct {
	o      Options
	server *server
	rng    *rand.Rand // which piece of speech a clip is
	clip   func(ctx context.Context, seconds float64) (answer, error)

	mu          sync.Mutex
	done, total int
	samples     []gpu.Sample
	uncounted   bool // some answer did not tell its tokens
	wordless    int  // answers
}

// streams are the numbers of jobs side by side that the server works on, without 1.
func (m *measurement) streams() (all []int) {
	for _, n := range slices.Sorted(slices.Values(m.o.Streams)) {
		switch {
		case n == 1 || slices.Contains(all, n):
		case m.server.slots > 0 && n > m.server.slots:
			m.o.Note(fmt.Sprintf("%d streams are not measured, since the server has %d slots", n, m.server.slots))
		default:
			all = append(all, n)
		}
	}
	return all
}

// warmUp sends one clip, whose time does not count, and waits for the model if it must.
func (m *measurement) warmUp(ctx context.Context) error {
	for {
		answer, err := m.clip(ctx, crowdSeconds)
		var wait *busyError
		if errors.As(err, &wait) && wait.loading {
			m.o.Note("the server is loading its model; waiting")
			select {
			case <-time.After(wait.after):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
		if !answer.words && !m.server.emulator {
			return errors.New("the server found no words in the recordings: use some that are speech, and say --language if it is not English")
		}
		return m.server.learn(ctx, answer)
	}
}

// send transcribes a clip of that length.
func (m *measurement) send(ctx context.Context, seconds float64) (answer, error) {
	m.mu.Lock()
	samples := cut(m.o.Speech, seconds, m.rng)
	m.mu.Unlock()
	return m.server.transcribe(ctx, wav(samples))
}

// count takes down that a clip was transcribed.
func (m *measurement) count(a answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done++
	m.uncounted = m.uncounted || a.tokens == 0
	if !a.words {
		m.wordless++
	}
	if m.o.Progress != nil {
		m.o.Progress(m.done, m.total)
	}
}

// alone measures clips of all lengths, one after the other, mixed so that a device that becomes warmer
// or is throttled looks so at all of them.
func (m *measurement) alone(ctx context.Context) error {
	var order []float64
	for range m.o.Repeat {
		order = append(order, m.o.Lengths...)
	}
	m.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, seconds := range order {
		a, err := m.clip(ctx, seconds)
		if err != nil {
			return err
		}
		m.count(a)
		m.samples = append(m.samples, gpu.Sample{Seconds: seconds, Tokens: a.tokens, Took: a.took.Seconds(), Beside: 1})
	}
	return nil
}

// together measures so many streams, each of which sends a clip when its last is answered.
func (m *measurement) together(ctx context.Context, streams int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var answers []answer
	left := streams * m.o.Repeat
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			for {
				mu.Lock()
				left--
				enough := left < 0
				mu.Unlock()
				if enough {
					return
				}
				a, err := m.clip(ctx, crowdSeconds)
				if err != nil {
					cancel(err) // the first counts
					return
				}
				m.count(a)
				mu.Lock()
				answers = append(answers, a)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, a := range answers {
		m.samples = append(m.samples, gpu.Sample{Seconds: crowdSeconds, Tokens: a.tokens, Took: a.took.Seconds(), Beside: beside(a, answers)})
	}
	return nil
}

// beside is how many of the jobs ran while one did, on average.
func beside(a answer, all []answer) float64 {
	sum := time.Duration(0)
	for _, b := range all {
		from, to := a.end.Add(-a.took), a.end
		if began := b.end.Add(-b.took); began.After(from) {
			from = began
		}
		if b.end.Before(to) {
			to = b.end
		}
		sum += max(0, to.Sub(from))
	}
	return float64(sum) / float64(max(a.took, 1))
}

// result fits the law.
func (m *measurement) result(streams []int) Result {
	tokens := "counted"
	if m.uncounted || m.server.emulator {
		tokens = "assumed"
		for i := range m.samples {
			m.samples[i].Tokens = 0
		}
	}
	if m.wordless > 0 && !m.server.emulator {
		m.o.Note(fmt.Sprintf("%d of %d answers had no words; pauses in the recordings make the law less sure", m.wordless, m.done))
	}
	law := gpu.Fit(m.samples)
	speech, seconds := 0.0, 0.0
	var alone, together []float64
	for _, s := range m.samples {
		off := math.Abs(law.Off(s) - 1)
		if s.Beside > 1 {
			together = append(together, off)
			continue
		}
		alone = append(alone, off)
		speech += s.Speech() * s.Seconds
		seconds += s.Seconds
	}
	p := gpu.Profile{
		Class: m.o.Class, Model: m.o.Model, Device: m.server.device, Slots: m.server.slots, Law: gpu.NewProfileLaw(law),
		Speech: math.Round(1000*speech/seconds) / 1000,
		Measured: &gpu.Measured{
			At: time.Now().UTC().Truncate(time.Second), Jobs: len(m.samples), Lengths: m.o.Lengths, Streams: append([]int{1}, streams...),
			Tokens: tokens, Off: rounded(median(alone)), OffBesides: rounded(median(together)),
		},
	}
	if p.Model == "" {
		p.Model = m.server.model
	}
	if p.Class == "" {
		p.Class = m.server.class
	}
	if p.Slots == 0 {
		p.Slots = law.UsefulSlots(slices.Max(append(streams, 1)))
	}
	return Result{p, m.samples}
}

func rounded(v float64) float64 { return math.Round(1000*v) / 1000 }

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
