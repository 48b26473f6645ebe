package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// accuracyOptions are the flags of accuracy alone.
type accuracyOptions struct {
	paths          []string
	workers        int
	temperatureInc float64
	goroot         string
	only           *regexp.Regexp // clips whose names match
	reportOnly     bool
}

// Paths that a clip can take, besides a number: the context given with the request.
const (
	pathFull  = "full"  // the whole context
	pathShort = "short" // the server's own choice, with --short-clips on
)

func (a *accuracyOptions) flags(f *flag.FlagSet) {
	f.Func("paths", "`paths` for accuracy, comma-separated: full, short (the server's own choice) or a context such as 768 (default full,512,768,1280)",
		func(s string) error { a.paths = listed(s); return nil })
	f.IntVar(&a.workers, "workers", 2, "as `many` clips at once for accuracy, each on a processor of its own")
	f.Float64Var(&a.temperatureInc, "temperature-inc", 0, "for accuracy; 0 is without a second try at another `temperature`, so that chance plays no part")
	f.StringVar(&a.goroot, "goroot", "", "Go's `folder`, whose test data has the text that is read aloud")
	f.Func("only", "only clips whose names match this `expression`, such as 11s or '^real' (default all)", func(s string) (err error) {
		a.only, err = regexp.Compile(s)
		return err
	})
	f.BoolVar(&a.reportOnly, "report", false, "print what accuracy has measured so far and measure nothing")
}

func (a *accuracyOptions) check() error {
	if len(a.paths) == 0 {
		a.paths = []string{pathFull, "512", "768", "1280"}
	}
	for _, p := range a.paths {
		if n, err := strconv.Atoi(p); p != pathFull && p != pathShort && (err != nil || n < 1 || n > 1500) {
			return fmt.Errorf("-paths has %q; there are full, short and numbers up to 1500", p)
		}
	}
	if a.workers < 1 {
		return errors.New("-workers must be at least 1")
	}
	return nil
}

// heard is what became of a clip on one path; a line of accuracy.jsonl.
type heard struct {
	Clip    string  `json:"clip"`
	Real    bool    `json:"real"`
	Bucket  int     `json:"bucket"`
	Seconds float64 `json:"seconds"`
	Model   string  `json:"model"`
	Search  string  `json:"search"`
	Path    string  `json:"path"`
	Inc     float64 `json:"temperature_inc"`

	Said     string  `json:"said"`
	Text     string  `json:"text"`
	Words    int     `json:"words"`
	Errors   int     `json:"errors"`
	Deleted  int     `json:"deleted"`
	CPU      float64 `json:"cpu_seconds"` // of the server, in ticks of 10 ms
	Wall     float64 `json:"wall_seconds"`
	Logprob  float64 `json:"min_avg_logprob"`
	Ratio    float64 `json:"max_compression_ratio"`
	Segments int     `json:"segments"`
	Failed   string  `json:"failed,omitempty"`
}

func (h heard) key() string {
	return fmt.Sprintf("%s|%s|%s|%s|%g", h.Clip, h.Model, h.Search, h.Path, h.Inc)
}

// task is one of them to be measured.
type task struct {
	heard
	file string
}

func (o options) measureAccuracy(ctx context.Context, out, say io.Writer) error {
	store := filepath.Join(o.out, "accuracy.jsonl")
	done, err := readHeard(store)
	if err != nil {
		return err
	}
	if !o.accuracy.reportOnly {
		tasks, err := o.tasks(ctx, done, say)
		if err != nil {
			return err
		}
		if err := o.hear(ctx, tasks, store, say); err != nil {
			return err
		}
		if done, err = readHeard(store); err != nil {
			return err
		}
	}
	r := summarise(done)
	r.text(out)
	return o.keep("accuracy", r, r.drawing())
}

// readHeard reads what was measured before, the last of each key; a last line that was cut off does
// not count.
func readHeard(path string) ([]heard, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	at := map[string]int{}
	var all []heard
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var h heard
		if json.Unmarshal(lines.Bytes(), &h) != nil || h.Failed != "" {
			continue
		}
		if i, found := at[h.key()]; found {
			all[i] = h
			continue
		}
		at[h.key()] = len(all)
		all = append(all, h)
	}
	return all, lines.Err()
}

// tasks are those that are not done yet, a clip of each bucket after the other, so that what there is
// after a while says something of all.
func (o options) tasks(ctx context.Context, done []heard, say io.Writer) ([]task, error) {
	root, err := o.goRoot(ctx)
	if err != nil {
		return nil, err
	}
	text, err := readOpticks(root)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.out, "clips")
	read, err := synthesised(ctx, text, dir, func(f string, args ...any) { fmt.Fprintf(say, f+"\n", args...) })
	if err != nil {
		return nil, err
	}
	real, err := recorded(ctx, o.recordings, dir)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, h := range done {
		known[h.key()] = true
	}
	var tasks []task
	for _, c := range inTurn(append(real, read...)) {
		if o.accuracy.only != nil && !o.accuracy.only.MatchString(c.Name) {
			continue
		}
		for _, model := range o.modelNames {
			for _, search := range o.searchesOr("greedy", "beam") {
				for _, path := range o.accuracy.paths {
					t := task{heard{Clip: c.Name, Real: c.Real, Bucket: c.Bucket, Seconds: c.Seconds, Model: model, Search: search, Path: path,
						Inc: o.accuracy.temperatureInc, Said: c.Words}, c.Path}
					if fits(path, c.Seconds) && !known[t.key()] {
						tasks = append(tasks, t)
					}
				}
			}
		}
	}
	fmt.Fprintf(say, "%d clips with %d distinct words; %d to hear, %d heard before\n", len(real)+len(read), distinctSaid(append(real, read...)), len(tasks), len(done))
	return tasks, nil
}

func distinctSaid(clips []clip) int {
	var said []string
	for _, c := range clips {
		said = append(said, c.Words)
	}
	return distinct(said...)
}

func (o options) goRoot(ctx context.Context) (string, error) {
	if o.accuracy.goroot != "" {
		return o.accuracy.goroot, nil
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	return strings.TrimSpace(string(out)), err
}

// inTurn orders clips so that the buckets take turns.
func inTurn(clips []clip) []clip {
	byBucket := map[int][]clip{}
	for _, c := range clips {
		byBucket[c.Bucket] = append(byBucket[c.Bucket], c)
	}
	var all []clip
	for len(all) < len(clips) {
		for _, b := range buckets {
			// Buckets with more clips get more turns, so that they end together.
			for range max(1, len(byBucket[b])/12) {
				if len(byBucket[b]) > 0 {
					all = append(all, byBucket[b][0])
					byBucket[b] = byBucket[b][1:]
				}
			}
		}
	}
	return all
}

// framesSpare is how many frames of 20 ms a context must have beyond the audio.
const framesSpare = 200

// contextShort is the one that short-clip states have; a larger one is for clips that don't fit it.
const contextShort = 768

// fits tells whether a path is one for a clip: with too little context whisper loops.
func fits(path string, seconds float64) bool {
	context, err := strconv.Atoi(path)
	need := 50*seconds + framesSpare
	return err != nil || need <= float64(context) && (context <= contextShort || need > contextShort)
}

// hear does the tasks, each worker with servers of its own, and adds each to the store when it is done.
func (o options) hear(ctx context.Context, tasks []task, store string, say io.Writer) error {
	file, err := os.OpenFile(store, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan task)
	var wg sync.WaitGroup
	var mu sync.Mutex
	began, count := time.Now(), 0
	for i := range o.accuracy.workers {
		wg.Go(func() {
			w := &listener{options: o, name: fmt.Sprintf("worker-%d", i)}
			defer w.stop()
			for t := range todo {
				err := w.hear(ctx, &t)
				if err != nil {
					cancel(err)
					continue
				}
				mu.Lock()
				line, _ := json.Marshal(t.heard) // plain data
				_, err = file.Write(append(line, '\n'))
				if count++; count%20 == 0 || count == len(tasks) {
					left := time.Since(began) / time.Duration(count) * time.Duration(len(tasks)-count)
					fmt.Fprintf(say, "%d of %d heard, about %s left\n", count, len(tasks), left.Round(time.Second))
				}
				mu.Unlock()
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, t := range tasks {
		select {
		case todo <- t:
		case <-ctx.Done():
		}
	}
	close(todo)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("stopped, what was heard is kept: %w", err)
	}
	return nil
}
