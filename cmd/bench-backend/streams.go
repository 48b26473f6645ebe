package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
)

// contender is a server with settings.
type contender struct {
	Name    string `json:"name"`
	Theirs  bool   `json:"whisper_server"`
	Slots   int    `json:"slots"`
	Threads int    `json:"threads"` // of a slot
	Short   bool   `json:"short_clips"`
	// Equal: with the settings of whisper-server, so that the ratio says which is the better program.
	Equal bool `json:"equal_settings"`
}

// contenders share out the same processors: whisper-server works on one request at a time with all of
// them, ours with all of them on one or with one each on several.
func contenders(processors, streams int, shortClips bool) []contender {
	all := []contender{
		{Name: fmt.Sprintf("whisper-server, %d threads", processors), Theirs: true, Slots: 1, Threads: processors},
		{Name: fmt.Sprintf("ours, 1 slot of %d threads", processors), Slots: 1, Threads: processors, Equal: true},
	}
	if processors > 1 && streams > 1 {
		all = append(all, contender{Name: fmt.Sprintf("ours, %d slots of 1 thread", processors), Slots: processors, Threads: 1, Equal: true})
	}
	if shortClips {
		best := all[len(all)-1]
		best.Name, best.Short, best.Equal = strings.Replace(best.Name, "ours", "ours, short clips", 1), true, false
		all = append(all, best)
	}
	return all
}

// streamRun is one contender's run of the clips.
type streamRun struct {
	Repeat  int       `json:"repeat"`
	Seconds float64   `json:"seconds"` // from the first request to the last answer
	Each    []float64 `json:"each"`    // response times
	Own     float64   `json:"own"`     // share of the processors that servers and clients used
	Others  float64   `json:"others"`  // and programs of others
}

// streamSeries is what a contender did.
type streamSeries struct {
	Model     string      `json:"model"`
	Search    string      `json:"search"`
	Streams   int         `json:"streams"`
	Contender contender   `json:"contender"`
	Audio     float64     `json:"audio_seconds"` // of a run
	Runs      []streamRun `json:"runs"`
}

// streamPlan is how much is measured.
type streamPlan struct {
	streams  []int
	searches []string
	repeats  int
	rounds   int // of the recordings in a run, for each stream: at the end of a run some are idle, which must weigh little
}

func (o options) streamPlan() streamPlan {
	p := streamPlan{streams: []int{1, 2, 4}, searches: []string{"greedy", "beam"}, repeats: 5, rounds: 2}
	if o.short {
		p = streamPlan{streams: []int{1, 2}, searches: []string{"greedy"}, repeats: 3, rounds: 1}
	}
	if o.repeats > 0 {
		p.repeats = o.repeats
	}
	if len(o.streams) > 0 {
		p.streams = o.streams
	}
	p.searches = o.searchesOr(p.searches...)
	return p
}

func (o options) measureStreams(ctx context.Context, out, say io.Writer) error {
	if !stage.IsProgram(o.whisperServer) {
		return errors.New("name whisper.cpp's server with -whisper-server; make bench-backend does")
	}
	if err := o.quiet(ctx, 3*time.Second); err != nil {
		return err
	}
	clips, err := o.streamClips()
	if err != nil {
		return err
	}
	r := &streamResults{Started: time.Now(), Version: stage.Version(o.backend, "--version"), Machine: stage.ThisMachine(), Processors: usable()}
	m := &streamMeter{options: o, plan: o.streamPlan(), clips: clips, say: say, results: r}
	err = m.measure(ctx)
	r.Took = time.Since(r.Started).Round(time.Second).String()
	if len(r.Series) > 0 { // what there is before an error, too
		r.text(out)
		err = errors.Join(err, o.keep("streams", r, r.drawing()))
	}
	return err
}

// usable is how many processors this program and those that it starts may use.
func usable() int { return runtime.GOMAXPROCS(0) }

// quiet refuses a machine on which others are at work: its figures would be theirs, too.
func (o options) quiet(ctx context.Context, watch time.Duration) error {
	before := stage.CPUNow()
	select {
	case <-time.After(watch):
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, others := stage.CPUNow().Since(before); others > stage.OthersMost && !o.force {
		return fmt.Errorf("programs of others use %.0f %% of the processors; wait until the machine is quiet, or use -force for figures that are not to be published", 100*others)
	}
	return nil
}

// spoken is a recording in memory.
type spoken struct {
	clip
	data []byte
}

// streamClips are the recordings of persons who speak whole sentences.
func (o options) streamClips() ([]spoken, error) {
	all, err := manifest(o.recordings)
	if err != nil {
		return nil, err
	}
	var clips []spoken
	for _, c := range all {
		if strings.Contains(c.Path, "cards") {
			continue
		}
		data, err := os.ReadFile(c.Path)
		if err != nil {
			return nil, err
		}
		clips = append(clips, spoken{c, data})
	}
	return clips, nil
}

// streamMeter measures.
type streamMeter struct {
	options options
	plan    streamPlan
	clips   []spoken
	say     io.Writer
	results *streamResults
	servers map[contender]*server
}

func (m *streamMeter) measure(ctx context.Context) error {
	for _, model := range m.options.modelNames {
		if err := m.model(ctx, model); err != nil {
			return fmt.Errorf("%s: %w", model, err)
		}
	}
	return nil
}

// model measures with one model, all servers started beforehand: who has nothing to do takes nothing.
func (m *streamMeter) model(ctx context.Context, model string) error {
	ps := &stage.Processes{Dir: filepath.Join(m.options.out, "logs", "streams-"+model)}
	defer ps.Stop()
	m.servers = map[contender]*server{}
	for _, search := range m.plan.searches {
		for _, streams := range m.plan.streams {
			var series []*streamSeries
			for _, c := range contenders(usable(), streams, hasFlag(m.options.backend, "--short-clips")) {
				if err := m.start(ctx, ps, model, c); err != nil {
					return err
				}
				series = append(series, &streamSeries{Model: model, Search: search, Streams: streams, Contender: c})
			}
			m.results.Series = append(m.results.Series, series...)
			// In turn, so that what changes on the machine meets all of them.
			for repeat := range m.plan.repeats {
				for i := range series {
					s := series[(i+repeat)%len(series)]
					if err := m.run(ctx, s, repeat); err != nil {
						return fmt.Errorf("%s: %w", s.Contender.Name, err)
					}
				}
			}
		}
	}
	return nil
}

// key is what makes a server: contenders of other numbers of streams share it.
func (c contender) key() contender {
	c.Name, c.Equal = "", false
	return c
}

func (m *streamMeter) start(ctx context.Context, ps *stage.Processes, model string, c contender) error {
	if m.servers[c.key()] != nil {
		return nil
	}
	program, flag := m.options.backend, "--listen"
	args := []string{"--model", m.options.modelPath(model), "--gpu", "off", "--slots", fmt.Sprint(c.Slots), "--threads", fmt.Sprint(c.Threads), "--queue", "64"}
	if c.Theirs {
		program, flag = m.options.whisperServer, "--port"
		args = []string{"--model", m.options.modelPath(model), "--no-gpu", "--threads", fmt.Sprint(c.Threads)}
	} else if hasFlag(program, "--short-clips") {
		choice := "off"
		if c.Short {
			choice = "on"
		}
		args = append(args, "--short-clips", choice)
	}
	name := strings.NewReplacer(" ", "-", ",", "").Replace(c.Name)
	s, err := startServer(ctx, ps, name, program, flag, args...)
	if err != nil {
		return err
	}
	m.servers[c.key()] = s
	for range c.Slots { // every slot once, so that none is new
		if _, err := postAudio(ctx, s.url+"/inference", m.clips[0].data, fieldsOf("greedy")); err != nil {
			return err
		}
	}
	return nil
}

// fieldsOf are equal for all, without what chance plays a part in.
func fieldsOf(search string) [][2]string {
	fields := [][2]string{{"language", "en"}, {"response_format", "json"}, {"temperature", "0"}, {"temperature_inc", "0"}}
	if search == "beam" {
		fields = append(fields, [2]string{"beam_size", "5"})
	}
	return fields
}

// busyTries is how often a run is made again that others disturbed.
const busyTries = 4

func (m *streamMeter) run(ctx context.Context, s *streamSeries, repeat int) error {
	for try := 1; ; try++ {
		r, audio, err := m.once(ctx, s)
		if err != nil {
			return err
		}
		disturbed := r.Others > stage.OthersMost
		fmt.Fprintf(m.say, "%s, %s, %d streams, %s: %.1f s, %.2f times real time%s\n", s.Model, s.Search, s.Streams, s.Contender.Name, r.Seconds, audio/r.Seconds, disturbance(disturbed, r.Others))
		if disturbed && !m.options.force && try < busyTries {
			continue
		}
		if disturbed && !m.options.force {
			return fmt.Errorf("the machine is busy: others used %.0f %% of the processors in %d runs; wait until it is quiet", 100*r.Others, try)
		}
		r.Repeat, s.Audio = repeat, audio
		s.Runs = append(s.Runs, r)
		return nil
	}
}

func disturbance(disturbed bool, others float64) string {
	if !disturbed {
		return ""
	}
	return fmt.Sprintf(" (others used %.0f %% of the processors)", 100*others)
}

// once has all clips transcribed, each stream taking the next when it has its answer.
func (m *streamMeter) once(ctx context.Context, s *streamSeries) (r streamRun, audio float64, err error) {
	url, fields := m.servers[s.Contender.key()].url+"/inference", fieldsOf(s.Search)
	total := m.plan.rounds * s.Streams * len(m.clips)
	r.Each = make([]float64, total)
	var next atomic.Int64
	var wg sync.WaitGroup
	failures := make(chan error, s.Streams)
	cpu, began := stage.CPUNow(), time.Now()
	for range s.Streams {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				sent := time.Now()
				if _, err := postAudio(ctx, url, m.clips[i%len(m.clips)].data, fields); err != nil {
					failures <- err
					return
				}
				r.Each[i] = time.Since(sent).Seconds()
			}
		})
	}
	wg.Wait()
	r.Seconds = time.Since(began).Seconds()
	r.Own, r.Others = stage.CPUNow().Since(cpu)
	for i := range total {
		audio += m.clips[i%len(m.clips)].Seconds
	}
	select {
	case err = <-failures:
	default:
	}
	return r, audio, err
}

func median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(xs))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
