package backend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
)

// named is a blocking engine of a model of its own.
type named struct {
	*blocking
	id string
}

func (n named) Info() backend.EngineInfo {
	info := n.blocking.Info()
	info.Model, info.Bytes = n.id, 100
	return info
}

// engines are models with engines that wait.
type engines struct {
	dir string
	ids []string

	mu   sync.Mutex
	fail map[string]error
	made map[string]*blocking // the newest of each model
	hold chan struct{}        // unless nil, a load waits until it is closed
	load func(*blocking)      // unless nil, gets each one that is made
}

func newEngines(dir string, ids ...string) *engines {
	return &engines{dir: dir, ids: ids, fail: map[string]error{}, made: map[string]*blocking{}}
}

func (e *engines) Models() []backend.Model {
	all := make([]backend.Model, len(e.ids))
	for i, id := range e.ids {
		all[i] = backend.Model{ID: id, Path: filepath.Join(e.dir, "ggml-"+id+".bin"), Bytes: 100, Multilingual: true, Translates: true}
	}
	return all
}

func (e *engines) Load(_ context.Context, id string, slots int) (backend.Transcriber, error) {
	e.mu.Lock()
	hold := e.hold
	e.mu.Unlock()
	if hold != nil {
		<-hold
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail[id]; err != nil {
		return nil, err
	}
	e.made[id] = newBlocking(slots)
	if e.load != nil {
		e.load(e.made[id])
	}
	return named{e.made[id], id}, nil
}

func (e *engines) of(t *testing.T, id string) *blocking {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.made[id] == nil {
		t.Fatalf("the model %s was never loaded", id)
	}
	return e.made[id]
}

// runLibrary runs a server with a library until it is ready.
func runLibrary(t *testing.T, cfg backend.Config, e *engines) running {
	t.Helper()
	cfg.Library = e
	r := run(t, cfg, nil)
	until(t, "it is ready", func() bool { status, _ := health(t, r.base); return status == http.StatusOK })
	return r
}

// inference starts a request of a client that names no model.
func inference(t *testing.T, base string) <-chan answer {
	t.Helper()
	done := make(chan answer, 1)
	contentType, body := form(wav(0.2))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/inference", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- answer{body: err.Error()}
			return
		}
		_ = resp.Body.Close()
		done <- answer{status: resp.StatusCode}
	}()
	return done
}

func load(t *testing.T, base, path string) answer {
	t.Helper()
	contentType, body := form(nil, "model", path)
	return send(t, http.MethodPost, base+"/load", contentType, body)
}

func finish(t *testing.T, e *blocking, done <-chan answer) {
	t.Helper()
	await(t, e.started, "the job")
	e.release <- struct{}{}
	if a := await(t, done, "the answer"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestLoadChangesTheModelOfWhoNamesNone(t *testing.T) {
	e := newEngines(t.TempDir(), "base", "large")
	r := runLibrary(t, backend.Config{ModelsDir: e.dir, Queue: 10, MinSlots: 2, MaxSlots: 2}, e)
	base := e.of(t, "base")
	before := inference(t, r.base)
	await(t, base.started, "the job before")
	a := load(t, r.base, filepath.Join(e.dir, "ggml-large.bin"))
	if a.status != http.StatusOK || a.body != "Load was successful!" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	finish(t, e.of(t, "large"), inference(t, r.base))
	base.release <- struct{}{}
	if a := await(t, before, "the answer from the old model"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	done, _ := start(t, r.base) // asks for base by name
	finish(t, base, done)
	if a := load(t, r.base, "ggml-base.bin"); a.status != http.StatusOK { // in the folder
		t.Errorf("%d %s", a.status, a.body)
	}
	finish(t, base, inference(t, r.base))
	stopped(t, r, e)
}

// stopped ends a server; all its engines must be closed.
func stopped(t *testing.T, r running, e *engines) {
	t.Helper()
	r.stop()
	if err := await(t, r.done, "the end"); err != nil {
		t.Error(err)
	}
	for id, engine := range e.made {
		if !engine.closed.Load() {
			t.Errorf("the engine of %s was not closed", id)
		}
	}
}

// Where there is no memory for both, the old model makes room, and nobody is refused for it.
func TestLoadWithoutMemoryForBoth(t *testing.T) {
	e := newEngines(t.TempDir(), "base", "large")
	r := runLibrary(t, backend.Config{ModelsDir: e.dir, Queue: 10, MemoryMax: 150}, e)
	base := e.of(t, "base")
	first := inference(t, r.base)
	await(t, base.started, "the first job")
	loaded := make(chan answer, 1)
	contentType, body := form(nil, "model", filepath.Join(e.dir, "ggml-large.bin"))
	go func() {
		resp, err := http.Post(r.base+"/load", contentType, bytes.NewReader(body))
		if err != nil {
			loaded <- answer{body: err.Error()}
			return
		}
		_ = resp.Body.Close()
		loaded <- answer{status: resp.StatusCode}
	}()
	until(t, "the load is under way", func() bool { return report(t, r.base).Models[1].Loading })
	var later []<-chan answer
	for range 3 {
		later = append(later, inference(t, r.base))
	}
	if status, body := health(t, r.base); status != http.StatusOK {
		t.Errorf("/health meanwhile: %d %s", status, body)
	}
	base.release <- struct{}{}
	if a := await(t, first, "the first answer"); a.status != http.StatusOK {
		t.Errorf("the job that ran: %d %s", a.status, a.body)
	}
	if a := await(t, loaded, "the load"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if !base.closed.Load() {
		t.Error("the old model was not unloaded")
	}
	large := e.of(t, "large")
	for range later { // one slot: one after the other, in any order
		await(t, large.started, "a job that waited")
		large.release <- struct{}{}
	}
	for _, done := range later {
		if a := await(t, done, "an answer"); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	stopped(t, r, e)
}

func TestAFailedLoadKeepsTheModel(t *testing.T) {
	for _, memory := range []int64{1000, 150} { // also where the old one had to go
		e := newEngines(t.TempDir(), "base", "broken")
		e.fail["broken"] = errors.New("the file is cut short")
		r := runLibrary(t, backend.Config{ModelsDir: e.dir, MemoryMax: memory}, e)
		a := load(t, r.base, "ggml-broken.bin")
		if p := a.problem(t); a.status != http.StatusInternalServerError || !strings.Contains(p.message, "cut short") || !strings.Contains(p.message, "old one stays") {
			t.Errorf("%d %s", a.status, a.body)
		}
		if status, body := health(t, r.base); status != http.StatusOK || body != `{"status":"ok"}` {
			t.Errorf("/health: %d %s", status, body)
		}
		done := inference(t, r.base)
		until(t, "the old model is there", func() bool { return !e.of(t, "base").closed.Load() })
		finish(t, e.of(t, "base"), done)
		contains(t, send(t, http.MethodGet, r.base+"/metrics", "", nil).body, "whisper_backend_model_load_failures_total 1")
		stopped(t, r, e)
	}
}

func TestLoadRefusals(t *testing.T) {
	dir := t.TempDir()
	e := newEngines(filepath.Join(dir, "models"), "base")
	r := runLibrary(t, backend.Config{ModelsDir: e.dir}, e)
	closed := runLibrary(t, backend.Config{}, newEngines(dir, "base"))
	for _, c := range []struct {
		base, path string
		status     int
		code, says string
	}{
		{r.base, filepath.Join(dir, "ggml-other.bin"), 403, "model_not_allowed", "--models-dir"},
		{r.base, "/etc/passwd", 403, "model_not_allowed", "--models-dir"},
		{r.base, "../ggml-other.bin", 403, "model_not_allowed", "--models-dir"},
		{r.base, e.dir + "/../ggml-other.bin", 403, "model_not_allowed", "--models-dir"},
		{r.base, "ggml-missing.bin", 400, "model_not_found", "no ggml model"},
		{r.base, e.dir + "/x/../ggml-missing.bin", 400, "model_not_found", "no ggml model"},
		{r.base, "", 400, "missing_required_parameter", "-F model=PATH"},
		{closed.base, "ggml-missing.bin", 403, "model_not_allowed", "without --models-dir"},
	} {
		a := load(t, c.base, c.path)
		if p := a.problem(t); a.status != c.status || p.code != c.code || !strings.Contains(p.message, c.says) || strings.Contains(a.body, dir) {
			t.Errorf("%q: %d %s", c.path, a.status, a.body)
		}
	}
	for _, c := range []struct{ contentType, body, code string }{
		{"application/json", `{"model":"x"}`, "invalid_content_type"},
		{"multipart/form-data; boundary=b", "--b\r\n", "missing_required_parameter"},
		{"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n" + strings.Repeat("x", 1<<17) + "\r\n--b--\r\n", "missing_required_parameter"},
	} {
		a := send(t, http.MethodPost, r.base+"/load", c.contentType, []byte(c.body))
		if a.status != http.StatusBadRequest || a.problem(t).code != c.code {
			t.Errorf("%.40q: %d %s", c.body, a.status, a.body)
		}
	}
	contentType, body := form(nil, "model", "ggml-base.bin")
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, r.base+"/load", bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Origin", "https://evil.example.com")
	if a := do(t, req); a.status != http.StatusForbidden || a.problem(t).code != "cross_origin" {
		t.Errorf("a web page's: %d %s", a.status, a.body)
	}
	if got := report(t, r.base); got.Busy != 0 || !got.Ready {
		t.Errorf("%+v", got)
	}
	for _, one := range []running{r, closed} {
		one.stop()
		if err := await(t, one.done, "the end"); err != nil {
			t.Error(err)
		}
	}
}

// A swap under load: twenty clients without a break while the model changes back and forth; none is
// refused and none gets another model's engine after it was closed.
func TestSwapsUnderLoad(t *testing.T) {
	e := newEngines(t.TempDir(), "base", "large")
	ctx, stop := context.WithCancel(t.Context())
	var feeders, clients sync.WaitGroup
	// Lets every job of an engine go; also of one that is loaded again for a job that waited for it through a swap.
	e.load = func(engine *blocking) {
		feeders.Go(func() {
			for {
				select {
				case engine.release <- struct{}{}:
				case <-engine.started:
				case <-engine.ended:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	r := runLibrary(t, backend.Config{ModelsDir: e.dir, Queue: 100, MemoryMax: 150, MinSlots: 4, MaxSlots: 4}, e)
	t.Cleanup(clients.Wait)
	for range 20 {
		clients.Go(func() {
			for range 10 {
				if a := <-inference(t, r.base); a.status != http.StatusOK {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	swaps := make(chan error, 1)
	go func() {
		defer close(swaps)
		for i := range 6 {
			path := []string{"ggml-large.bin", "ggml-base.bin"}[i%2]
			contentType, body := form(nil, "model", path)
			resp, err := http.Post(r.base+"/load", contentType, bytes.NewReader(body))
			if err != nil {
				swaps <- err
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				swaps <- fmt.Errorf("swap %d: %s", i, resp.Status)
				return
			}
		}
	}()
	if err := await(t, swaps, "the swaps"); err != nil {
		t.Error(err)
	}
	clients.Wait()
	stop()
	feeders.Wait()
	stopped(t, r, e)
}
