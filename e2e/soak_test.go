package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// soakSize is how much is asked of the backend.
type soakSize struct {
	recordings  int // that clients send
	longSeconds int // of one recording that is sent along
	clients     int // at once
	disconnects int // in the middle of the work
	swaps       int // of the model that is served to who names none
	flat        int // requests over which the memory must not grow
	growth      int // bytes by which it may all the same
}

// What the C library and Go's collector keep for later goes up and down. Over few requests that is more than over
// many, since at the first of them not all slots have run with all models; every request here has a state made and
// freed that takes as much.
var (
	soakShort = soakSize{recordings: 4, longSeconds: 65, clients: 12, disconnects: 2, swaps: 2, flat: 20, growth: 64 << 20}
	soakWhole = soakSize{recordings: 11, longSeconds: 3600, clients: 200, disconnects: 50, swaps: 6, flat: 500, growth: 24 << 20}
)

// soak is a backend under load.
type soak struct {
	url     string
	clips   map[string][]byte
	names   []string                     // of the clips
	answers map[string]map[string]string // by model and clip: what it answers alone
}

// TestSoak: a long recording, many clients at once, some that leave in the middle of the work, and models that are
// swapped, all at the same time. Each client gets the words of its own recording; afterwards nothing is left behind,
// and further requests take no more memory.
func TestSoak(t *testing.T) {
	real(t)
	size := soakShort
	if whole("WHISPERPOOL_SOAK") {
		size = soakWhole
	}
	models := filepath.Dir(model(t, "base"))
	address, process := startBackend(t, "tiny.en", "--slots", "2", "--models-dir", models, "--unload-after", "-1s", "--queue", strconv.Itoa(size.clients+100), "--log-level", "warn")
	s := &soak{url: "http://" + address, clips: map[string][]byte{}, answers: map[string]map[string]string{}}
	files := recordingsAll(t)
	for _, path := range files[len(files)-size.recordings:] {
		name := filepath.Base(path)
		s.names = append(s.names, name)
		s.clips[name] = wavFile(clipRate, 1, samplesOf(t, path))
	}
	base, _ := startBackend(t, "base") // apart, so that the other one has to load base under load
	s.learn(t, "tiny.en", s.url)
	s.learn(t, "base", "http://"+base)
	instance := s.report(t).Instance
	before := s.metrics(t)

	var wg sync.WaitGroup
	wg.Go(func() { s.long(t, size.longSeconds) })
	wg.Go(func() { s.crowd(t, size.clients) })
	wg.Go(func() { s.leave(t, size.disconnects) })
	wg.Go(func() { s.swap(t, models, size.swaps) })
	wg.Wait()

	if !t.Failed() {
		s.idle(t)
		s.flat(t, size.flat, size.growth)
		s.nothingLeft(t, before)
	}
	select {
	case <-process.done:
		t.Error("the backend has ended")
	default:
		if now := s.report(t).Instance; now != instance {
			t.Errorf("the backend is %s, was %s", now, instance)
		}
	}
}

// ask transcribes a clip; without a model, by the one that is served to who names none.
func (s *soak) ask(ctx context.Context, url, clip, model string) (string, error) {
	fields := []string{"temperature_inc=0", "audio_ctx=512", "response_format=text"}
	if model != "" {
		fields = append(fields, "model="+model)
	}
	r, err := post(ctx, url+inferencePath, upload{file: s.clips[clip], fields: fields})
	if err == nil && r.status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", r.status, r.body)
	}
	return r.body, err
}

// learn asks for each clip alone. No two may have the same answer, or a wrong one would not be seen.
func (s *soak) learn(t *testing.T, model, url string) {
	t.Helper()
	clipOf, answers := map[string]string{}, map[string]string{}
	for _, clip := range s.names {
		text, err := s.ask(t.Context(), url, clip, model)
		if err != nil {
			t.Fatal(err)
		}
		if other, taken := clipOf[text]; taken {
			t.Fatalf("%s gives %s and %s the same text: %s", model, clip, other, text)
		}
		clipOf[text], answers[clip] = clip, text
	}
	s.answers[model] = answers
}

// patient is for requests that stand behind hours of work.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	t.Cleanup(cancel)
	return ctx
}

// check asks for a clip and wants the words of that clip, by one of the models.
func (s *soak) check(t *testing.T, clip, model string, by ...string) {
	text, err := s.ask(patient(t), s.url, clip, model)
	if err != nil {
		t.Errorf("%s by %q: %v", clip, model, err)
		return
	}
	for _, m := range by {
		if text == s.answers[m][clip] {
			return
		}
	}
	t.Errorf("%s by %q got %q", clip, model, text)
}

// long sends a recording of so many seconds, all that there is again and again.
func (s *soak) long(t *testing.T, seconds int) {
	var samples []int16
	var words []string
	for len(samples) < seconds*clipRate {
		for _, r := range recordings(t) {
			samples = append(samples, samplesOf(t, r.path)...)
			words = append(words, r.words)
		}
	}
	began := time.Now()
	r, err := post(patient(t), s.url+transcriptions, upload{file: wavFile(clipRate, 1, samples), fields: []string{"model=tiny.en", "response_format=verbose_json"}})
	if err != nil || r.status != http.StatusOK {
		t.Errorf("the long recording: status %d, %v: %s", r.status, err, r.body)
		return
	}
	var answer struct {
		Text     string
		Duration float64
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil {
		t.Errorf("the long recording: %v", err)
	}
	if length := float64(len(samples)) / clipRate; answer.Duration < length-0.01 || answer.Duration > length+0.01 {
		t.Errorf("the long recording is %.2f s, not %.2f s", length, answer.Duration)
	}
	wrong, of := wordErrors(answer.Text, strings.Join(words, " "))
	t.Logf("a recording of %.0f s took %.0f s; %d of %d words are wrong", answer.Duration, time.Since(began).Seconds(), wrong, of)
	if 3*wrong > of { // tiny.en, and a recording that is none: what is said goes on in the middle of a window
		t.Errorf("%d of %d words of the long recording are wrong", wrong, of)
	}
}

// crowd asks as so many clients at once, each for a clip of its own.
func (s *soak) crowd(t *testing.T, clients int) {
	began := time.Now()
	var wg sync.WaitGroup
	for i := range clients {
		clip := s.names[rand.N(len(s.names))]
		wg.Go(func() {
			switch i % 4 {
			case 0:
				s.check(t, clip, "", "tiny.en", "base") // whichever is served to who names none
			case 1:
				s.check(t, clip, "base", "base")
			default:
				s.check(t, clip, "tiny.en", "tiny.en")
			}
		})
	}
	wg.Wait()
	t.Logf("%d clients at once took %.0f s", clients, time.Since(began).Seconds())
}

// leave has so many clients leave once they have the first piece of their answer, which is long before there
// would be the last: all their jobs must be stopped.
func (s *soak) leave(t *testing.T, disconnects int) {
	var samples []int16
	for range 3 {
		for _, r := range recordings(t) {
			samples = append(samples, samplesOf(t, r.path)...)
		}
	}
	windows := upload{file: wavFile(clipRate, 1, samples), fields: []string{"model=tiny.en", "stream=true"}}
	var wg sync.WaitGroup
	for left := range min(disconnects, 5) {
		wg.Go(func() {
			for ; left < disconnects; left += 5 {
				if err := s.leaveAfterFirstPiece(patient(t), windows); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.wait(t, fmt.Sprintf("%d jobs to be stopped whose clients have left", disconnects), func() bool {
		return int(s.metrics(t)["whisper_backend_aborts_total"]) == disconnects
	})
}

func (s *soak) leaveAfterFirstPiece(ctx context.Context, u upload) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	contentType, body := u.form()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+transcriptions, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "transcript.text.delta") {
			return nil
		}
	}
	return fmt.Errorf("no piece of a streamed answer came: status %d, %w", resp.StatusCode, lines.Err())
}

// swap makes the other model the one for who names none, and back, under load.
func (s *soak) swap(t *testing.T, folder string, swaps int) {
	for i := range swaps {
		name := []string{"base", "tiny.en"}[i%2]
		r, err := post(t.Context(), s.url+"/load", upload{fields: []string{"model=" + filepath.Join(folder, "ggml-"+name+".bin")}})
		if err != nil || r.status != http.StatusOK {
			t.Errorf("loading %s: status %d, %v: %s", name, r.status, err, r.body)
			return
		}
		for _, clip := range s.names[:2] {
			s.check(t, clip, "", name)
		}
	}
}

// idle waits until nothing runs and nothing waits.
func (s *soak) idle(t *testing.T) {
	t.Helper()
	s.wait(t, "an idle server", func() bool { r := s.report(t); return r.Busy == 0 && r.Queued == 0 })
}

func (s *soak) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for limit := time.After(startMax); !done(); {
		select {
		case <-again.C:
		case <-limit:
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

// flat sends requests of all kinds and compares the memory after each fifth of them with that after the first.
func (s *soak) flat(t *testing.T, requests, growthMax int) {
	t.Helper()
	var sizes []float64
	for range 6 { // the first is there to have everything touched once
		work := make(chan int, requests/5)
		for i := range requests / 5 {
			work <- i
		}
		close(work)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range work {
					name := []string{"tiny.en", "tiny.en", "tiny.en", "base"}[i%4]
					s.check(t, s.names[i%len(s.names)], name, name)
				}
			})
		}
		wg.Wait()
		s.idle(t)
		sizes = append(sizes, s.metrics(t)["process_resident_memory_bytes"])
	}
	megabytes := make([]string, len(sizes))
	for i, b := range sizes {
		megabytes[i] = strconv.Itoa(int(b) >> 20)
	}
	t.Logf("memory in MiB after each %d of %d requests: %s", requests/5, requests/5*6, strings.Join(megabytes, ", "))
	if growth := sizes[5] - sizes[0]; growth > float64(growthMax) {
		t.Errorf("the memory grew by %.0f MiB over %d requests", growth/(1<<20), requests)
	}
}

// nothingLeft wants as many goroutines and descriptors as there were, but for some of idle connections.
func (s *soak) nothingLeft(t *testing.T, before map[string]float64) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		s.wait(t, fmt.Sprintf("%s to be no more than the %v before", name, before[name]), func() bool {
			return s.metrics(t)[name] <= before[name]+4
		})
	}
}

// soakReport is what of the load report is looked at.
type soakReport struct {
	Instance     string
	Busy, Queued int
}

func (s *soak) report(t *testing.T) (r soakReport) {
	t.Helper()
	got, err := exchange(t.Context(), http.MethodGet, s.url+"/load-report", "", nil)
	if err == nil {
		err = json.Unmarshal([]byte(got.body), &r)
	}
	if err != nil {
		t.Errorf("the load report: %v", err)
	}
	return r
}

// metrics reads what is there for Prometheus: names, with their labels, and values.
func (s *soak) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	got, err := exchange(t.Context(), http.MethodGet, s.url+"/metrics", "", nil)
	if err != nil || got.status != http.StatusOK {
		t.Errorf("the metrics: status %d, %v", got.status, err)
	}
	values := map[string]float64{}
	for line := range strings.Lines(got.body) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if number, err := strconv.ParseFloat(value, 64); ok && err == nil && name != "#" {
			values[name] = number
		}
	}
	return values
}
