package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Faults of real processes: whisper-backend with its emulated GPU, and with real whisper.cpp where a
// model is there.
var killedOnes = []scenario{
	{ID: "kill", Name: "kill -9 of a real whisper-backend under load, then it comes back", Theme: realOnes, Short: true, Peers: true,
		Criterion: "no failures, it serves again within 10 s of its start", Run: killed},
	{ID: "stop", Name: "SIGSTOP of a real whisper-backend (a GPU that hangs), then SIGCONT", Theme: realOnes, Short: true, Peers: true,
		Criterion: "at most 2 jobs caught, all of them served after at most 10 s and twice a job's time, no failures, it serves again within 90 s of SIGCONT", Run: stopped},
	{ID: "memory", Name: "a real whisper-backend runs out of memory on a long upload", Theme: realOnes, Short: true, Peers: true,
		Criterion: "the upload kills two at most and is refused for good; nobody else fails", Run: outOfMemory},
	{ID: "swap", Name: "a real whisper-backend comes back with another model", Theme: realOnes, Short: true,
		Criterion: "the new model is served within 10 s, nothing for the old one is sent there, no failures", Run: modelSwap},
}

var whisperOnes = []scenario{
	{ID: "real", Name: "real whisper.cpp: one of two is killed, stopped, continued, under load", Theme: realOnes, Short: true, Alone: true,
		Criterion: "every transcript is right, no failures", Run: realWhisper},
	{ID: "client", Name: "OpenAI's Python client while backends are killed", Theme: realOnes, Short: true,
		Criterion: "every transcript arrives", Run: pythonClient},
}

// card is a whisper-backend with an emulated GPU, as a process.
type card struct {
	env        *env
	name, port string
	args       []string
	limit      string // of its addresses, in KiB; "": none
	*process
}

func (e *env) card(ctx context.Context, name string, args ...string) (*card, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c := &card{env: e, name: name, port: fmt.Sprint(port), args: args}
	return c, c.begin(ctx)
}

func (c *card) address() string { return "127.0.0.1:" + c.port }

func (c *card) server() server { return server{name: c.name, address: c.address(), slots: 1} }

// begin starts the process, another time too.
func (c *card) begin(ctx context.Context) error {
	args := append([]string{"--listen", c.address(), "--slots", "1", "--log-level", "warn", "--ffmpeg", "off"}, c.args...)
	program := c.env.programs.backend
	name := c.name
	if c.limit != "" {
		args = append([]string{"-c", `ulimit -v "$0"; exec "$@"`, c.limit, program}, args...)
		program, name = "bash", expectedToCrash
	}
	var err error
	if c.process, err = c.env.start(name, program, args...); err != nil {
		return err
	}
	return c.ready(ctx, "http://"+c.address()+"/health")
}

// served is how many jobs the process has done, by its metrics; 0 where it does not answer.
func (c *card) served(ctx context.Context) float64 {
	text, err := get(ctx, "http://"+c.address()+"/metrics")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var n float64
		if _, err := fmt.Sscanf(line, "whisper_backend_inference_seconds_count %f", &n); err == nil {
			return n
		}
	}
	return 0
}

func emulated(class string, speedUp float64) []string {
	return []string{"--engine", "emulator", "--emulate-class", class, "--emulate-model", "base", "--speed-up", fmt.Sprint(speedUp)}
}

// cards starts some, and a balancer in front of them.
func (e *env) cards(ctx context.Context, n int, args []string) ([]*card, *front, error) {
	var all []*card
	var told []server
	for i := range n {
		c, err := e.card(ctx, fmt.Sprintf("card-%d", i+1), args...)
		if err != nil {
			return nil, nil, err
		}
		all, told = append(all, c), append(told, c.server())
	}
	f, err := e.front(ctx, "front", setup{}, told)
	return all, f, err
}

// playFor has clients send to an emulated pool as long as sending lasts, and waits for them. An emulator's text is not of the clip, so
// being served is told by its status and by what it says of itself.
func playFor(sending, ctx context.Context, url string, perSecond float64, length time.Duration) *tally {
	t := &tally{began: time.Now()}
	var wg sync.WaitGroup
	for _, o := range poisson(9, perSecond, length, between(5, 25)) {
		if pause(sending, o.at-time.Since(t.began)); sending.Err() != nil {
			break
		}
		wg.Go(func() {
			a := transcribe(ctx, url, newClip(o.seconds))
			if strings.Contains(a.text, "[emulated ") {
				a.text += a.clip.text()
			}
			t.add(a)
		})
	}
	wg.Wait()
	return t
}

func (f *front) warmCards(ctx context.Context, n int) error {
	got := playFor(ctx, ctx, f.url, float64(n), 3*time.Second)
	if len(got.failed()) > 0 {
		return fmt.Errorf("%s did not serve while nothing was wrong%s", f.kind, got.firstFailure())
	}
	return nil
}

func killed(ctx context.Context, e *env) (string, bool, error) {
	cards, f, err := e.cards(ctx, 3, emulated("T4", 1))
	if err != nil {
		return "", false, err
	}
	if err := f.warmCards(ctx, 3); err != nil {
		return "", false, err
	}
	done := make(chan *tally)
	go func() { done <- playFor(ctx, ctx, f.url, 3, pick(e, 40*time.Second, 30*time.Second)) }()
	pause(ctx, 3*time.Second)
	one := cards[0]
	one.kill()
	pause(ctx, 6*time.Second)
	if err := one.begin(ctx); err != nil {
		return "", false, err
	}
	again, came := await(ctx, 20*time.Second, func() bool { return one.served(ctx) > 0 })
	if !came {
		again = -1
	}
	got := <-done
	return fmt.Sprintf("%d of %d failed%s, it served again %s after its start", len(got.failed()), got.count(), got.firstFailure(), ms(again)),
		len(got.failed()) == 0 && again >= 0 && again <= 10*time.Second, nil
}

func stopped(ctx context.Context, e *env) (string, bool, error) {
	cards, f, err := e.cards(ctx, 3, emulated("T4", 1))
	if err != nil {
		return "", false, err
	}
	if err := f.warmCards(ctx, 3); err != nil {
		return "", false, err
	}
	// Clients have limits of their own, or one that hangs would be waited for as long as this run lasts.
	const most = 90 * time.Second
	limited, cancel := context.WithTimeout(ctx, 60*time.Second+most)
	defer cancel()
	sending, enough := context.WithCancel(limited)
	done := make(chan *tally)
	go func() { done <- playFor(sending, limited, f.url, 3, 30*time.Second+most) }()
	pause(ctx, 3*time.Second)
	one := cards[0]
	one.signal(syscall.SIGSTOP)
	at := time.Now()
	pause(ctx, 20*time.Second)
	one.signal(syscall.SIGCONT)
	continued := time.Now()
	pause(ctx, 500*time.Millisecond) // for what it had of before
	before := one.served(ctx)
	_, came := await(ctx, most, func() bool { return one.served(ctx) > before })
	again := time.Since(continued)
	enough()
	got := <-done
	caught, rescue := 0, time.Duration(0)
	for _, a := range got.all {
		if a.took > 5*time.Second && a.began.Before(continued) && a.began.After(at.Add(-3*time.Second)) {
			caught++
			rescue = max(rescue, a.took)
		}
	}
	return fmt.Sprintf("%d took long, the longest %s; %d of %d failed%s; it served again %s after SIGCONT", caught, ms(rescue), len(got.failed()), got.count(), got.firstFailure(), ms(again)),
		caught <= 2 && rescue <= 10*time.Second+6*time.Second && len(got.failed()) == 0 && came && again <= most, nil
}

func outOfMemory(ctx context.Context, e *env) (string, bool, error) {
	var told []server
	var doomed []*card
	for i := range 4 {
		port, err := freePort()
		if err != nil {
			return "", false, err
		}
		// A Go program has 1.3 GB of addresses from its start. A limit on its data would not do: Linux does not
		// count what is mapped where addresses were set aside before, as Go does.
		c := &card{env: e, name: fmt.Sprintf("card-%d", i+1), port: fmt.Sprint(port), args: emulated("H100", 10), limit: "1600000"}
		if err := c.begin(ctx); err != nil {
			return "", false, err
		}
		doomed, told = append(doomed, c), append(told, c.server())
	}
	f, err := e.front(ctx, "front", setup{}, told)
	if err != nil {
		return "", false, err
	}
	if err := f.warmCards(ctx, 4); err != nil {
		return "", false, err
	}
	done := make(chan *tally)
	go func() { done <- playFor(ctx, ctx, f.url, 3, 25*time.Second) }()
	pause(ctx, time.Second)
	limited, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	const hours = 2.0 // of audio, which are 460 MB when they are decoded
	long := transcribe(limited, f.url, newClip(hours*3600))
	dead := 0
	for _, c := range doomed {
		select {
		case <-c.ended:
			dead++
			if err := c.begin(ctx); err != nil {
				return "", false, err
			}
		default:
		}
	}
	if dead == 0 {
		return skipped("the limit of memory does not end a process here: %s", long)
	}
	again := transcribe(limited, f.url, long.clip)
	for _, c := range doomed {
		select {
		case <-c.ended:
			dead++
		default:
		}
	}
	got := <-done
	return fmt.Sprintf("%d processes died of it; answered %q, again %q; %d of %d others failed%s", dead, long, again, len(got.failed()), got.count(), got.firstFailure()),
		dead <= 2 && long.status >= 400 && long.header.Get("X-Should-Retry") == "false" && len(got.failed()) == 0, nil
}

func modelSwap(ctx context.Context, e *env) (string, bool, error) {
	cards, f, err := e.cards(ctx, 3, emulated("H100", 1))
	if err != nil {
		return "", false, err
	}
	if err := f.warmCards(ctx, 3); err != nil {
		return "", false, err
	}
	done := make(chan *tally)
	go func() { done <- playFor(ctx, ctx, f.url, 5, 25*time.Second) }()
	pause(ctx, 2*time.Second)
	one := cards[0]
	one.stop()
	one.args[5] = "small" // the value of --emulate-model
	if err := one.begin(ctx); err != nil {
		return "", false, err
	}
	body, contentType := newClip(5).form("model", "small")
	var last answer
	took, came := await(ctx, 15*time.Second, func() bool {
		last = post(ctx, f.url+transcriptions, clip{}, body, contentType)
		return last.status == 200
	})
	if !came {
		return fmt.Sprintf("the new model is not served after %s: %s", ms(took), last), false, nil
	}
	served := one.served(ctx)
	got := <-done
	strays := one.served(ctx) - served
	return fmt.Sprintf("the new model was served %s after it was there, %.0f of the old one's sent to it, %d of %d failed%s", ms(took), strays, len(got.failed()), got.count(), got.firstFailure()),
		took <= 10*time.Second && strays == 0 && len(got.failed()) == 0, nil
}

func realWhisper(ctx context.Context, e *env) (string, bool, error) {
	if e.programs.real == "" || e.programs.model == "" || e.programs.recording == "" {
		return skipped("real whisper.cpp is not here; make build model recordings gets it")
	}
	e.programs.backend = e.programs.real
	recording, err := os.ReadFile(e.programs.recording)
	if err != nil {
		return "", false, err
	}
	cards, f, err := e.cards(ctx, 2, []string{"--model", e.programs.model, "--threads", "1", "--gpu", "off"})
	if err != nil {
		return skipped("the engine is not built: %v", err)
	}
	const words = "ask not what your country can do for you"
	send := func() (answer, bool) {
		body, contentType := formOf("jfk.wav", recording, "model", "tiny.en")
		limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		a := post(limited, f.url+transcriptions, clip{}, body, contentType)
		return a, a.status == 200 && strings.Contains(strings.ToLower(a.text), words)
	}
	if a, right := send(); !right {
		return "", false, fmt.Errorf("before any fault: %s", a)
	}
	got := sendUntil(send)
	// Each fault lasts until some more were served, since nobody knows how fast this machine is.
	got.more(ctx, 1)
	cards[0].kill()
	got.more(ctx, 2)
	if err := cards[0].begin(ctx); err != nil {
		return "", false, err
	}
	got.more(ctx, 2)
	cards[1].signal(syscall.SIGSTOP)
	got.more(ctx, 2)
	cards[1].signal(syscall.SIGCONT)
	got.more(ctx, 2)
	all, wrong, first := got.end()
	return fmt.Sprintf("%d of %d wrong%s", wrong, all, first), wrong == 0 && all >= 9, nil
}

// sending sends one recording after the other, two at a time, until it is told to stop.
type sending struct {
	stop chan struct{}
	wg   sync.WaitGroup

	mu         sync.Mutex
	all, wrong int
	first      string // of what was wrong
}

func sendUntil(send func() (answer, bool)) *sending {
	s := &sending{stop: make(chan struct{})}
	for range 2 {
		s.wg.Go(func() {
			for {
				select {
				case <-s.stop:
					return
				default:
				}
				a, right := send()
				s.mu.Lock()
				if s.all++; !right {
					s.wrong++
					s.first = " (" + a.String() + ")"
				}
				s.mu.Unlock()
			}
		})
	}
	return s
}

// more waits until n more have been answered, or for two minutes.
func (s *sending) more(ctx context.Context, n int) {
	count := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.all
	}
	until := count() + n
	await(ctx, 2*time.Minute, func() bool { return count() >= until })
}

func (s *sending) end() (all, wrong int, first string) {
	close(s.stop)
	s.wg.Wait()
	return s.all, s.wrong, s.first
}

// pythonScript sends clips with OpenAI's client, as people use it.
const pythonScript = `
import io, json, sys, openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0, timeout=60)
good, bad = 0, []
for i in range(int(sys.argv[3])):
    try:
        with open(sys.argv[2], "rb") as f:
            if client.audio.transcriptions.create(model="whisper-1", file=f).text:
                good += 1
    except Exception as e:
        bad.append(repr(e))
print(json.dumps({"good": good, "bad": bad}))
`

func pythonClient(ctx context.Context, e *env) (string, bool, error) {
	if e.programs.python == "" {
		return skipped("OpenAI's client is not here; make test-tools gets it")
	}
	fakes, err := e.pool(ctx, 3, "card", law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond})
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	script, err := e.write("client.py", pythonScript)
	if err != nil {
		return "", false, err
	}
	file, err := e.write("clip.wav", string(newClip(5).wav()))
	if err != nil {
		return "", false, err
	}
	limited, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for limited.Err() == nil {
			one := fakes[rng.IntN(len(fakes))]
			one.die()
			pause(limited, 300*time.Millisecond)
			if one.rise(ctx) != nil {
				return
			}
			pause(limited, 200*time.Millisecond)
		}
	})
	out, err := exec.CommandContext(ctx, e.programs.python, script, f.url, file, "60").Output()
	cancel()
	wg.Wait()
	var said struct {
		Good int
		Bad  []string
	}
	if err != nil || json.Unmarshal(out, &said) != nil {
		return "", false, fmt.Errorf("the client: %w: %s", err, out)
	}
	return fmt.Sprintf("%d of 60 arrived %s", said.Good, strings.Join(said.Bad, "; ")), said.Good == 60 && len(said.Bad) == 0, nil
}
