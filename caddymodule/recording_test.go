package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/journal"
)

// segments are the files in a folder, in order.
func segments(t *testing.T, folder string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func contents(t *testing.T, files []string) []byte {
	t.Helper()
	var all []byte
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	return all
}

func replay(text []byte) (journal.Report, error) {
	return journal.Replay(slices.Values(bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))), policies.ByName)
}

// stopped stops Caddy and waits until the pool, and with it the recording, has ended.
func stopped(t *testing.T) {
	t.Helper()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	eventually(t, "the pool is gone", func() bool { _, ok := pools.References(defaultPoolName); return !ok })
}

// TestRecording: what happened, over a reload, can be replayed with the same decisions, and there is nothing in
// it that is none of a journal's business.
func TestRecording(t *testing.T) {
	t.Setenv("WHISPER_KEY", "key-of-ours")
	folder := filepath.Join(t.TempDir(), "made", "by-us")
	a, b := newWhisper(t), newWhisper(t)
	a.answer = func(w http.ResponseWriter, r *http.Request, got sent) {
		if got.form["prompt"] != nil {
			http.Error(w, "words of the backend", http.StatusInternalServerError)
			return
		}
		speak(w, r, got)
	}
	config := func(more string) string {
		return fmt.Sprintf("backend %s T4 {\n\tname a\n\theader_up Authorization {env.WHISPER_KEY}\n}\n%s\nrecord %s\ntenant {header.Authorization}",
			a.address(), more, folder)
	}
	p := newProxy(t, config(""))
	p.ready(1)
	ask := func(fields ...string) {
		t.Helper()
		r, err := persistent(func() (response, error) {
			return p.postWith(t.Context(), transcriptions, http.Header{"Authorization": {"Bearer key-of-the-client"}}, wav(1), append(fields, "model=base")...)
		})
		if err != nil || r.status != http.StatusOK {
			t.Fatalf("%v, status %d: %s", err, r.status, r.body)
		}
	}
	ask()
	p.mustLoad(site(p.url, config("backend "+b.address()+" H100")))
	p.ready(2)
	for range 5 {
		ask("prompt=words-of-the-client")
	}
	ctx, leave := context.WithCancel(t.Context())
	b.answer = func(_ http.ResponseWriter, r *http.Request, _ sent) { leave(); <-r.Context().Done() }
	a.answer = b.answer
	_, _ = p.postWith(ctx, transcriptions, nil, wav(1), "model=base")
	eventually(t, "it is noticed", func() bool { return p.pool().dispatcher.Snapshot().Running == 0 })
	stopped(t)

	files := segments(t, folder)
	if len(files) != 1 {
		t.Fatalf("files: %v", files)
	}
	text := contents(t, files)
	got, err := replay(text)
	if err != nil || got.Difference != nil || got.Decisions < 14 { // at least dispatch and settle for each
		t.Errorf("replayed %+v: %v", got, err)
	}
	if n := bytes.Count(text, []byte(`"Is":"arrived"`)); n != 7 {
		t.Errorf("%d arrivals", n)
	}
	for _, secret := range []string{"key-of", "secret-name", "words", "ask not what", "Bearer"} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%q is in the recording", secret)
		}
	}
	for path, want := range map[string]os.FileMode{files[0]: 0o600, folder: 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	p.mustLoad(site(p.url, config("")))
	p.ready(1)
	stopped(t)
	if files := segments(t, folder); len(files) != 2 {
		t.Errorf("after another start: %v", files)
	} else if got, err := replay(contents(t, files[1:])); err != nil || got.Difference != nil {
		t.Errorf("the second, which begins with what was learned: %+v, %v", got, err)
	}
}

// TestRecordingFollowsTheConfiguration: it begins, moves and ends with a reload.
func TestRecordingFollowsTheConfiguration(t *testing.T) {
	backend := newWhisper(t)
	first, second := t.TempDir(), t.TempDir()
	plain := "backend " + backend.address() + "\n"
	p := newProxy(t, plain)
	p.ready(1)
	post := func(n int) {
		t.Helper()
		for range n {
			if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
				t.Fatalf("status %d: %s", r.status, r.body)
			}
		}
	}
	post(1)
	p.mustLoad(site(p.url, plain+"record "+first))
	post(2)
	p.mustLoad(site(p.url, plain+"attempts 2\nrecord "+first)) // goes on
	post(1)
	p.mustLoad(site(p.url, plain+"record "+second))
	post(4)
	p.mustLoad(site(p.url, plain))
	post(5)
	eventually(t, "all is written", func() bool {
		return bytes.Count(contents(t, segments(t, second)), []byte(`"Is":"settle"`)) == 4
	})
	for folder, want := range map[string]int{first: 3, second: 4} {
		files := segments(t, folder)
		text := contents(t, files)
		if n := bytes.Count(text, []byte(`"Is":"arrived"`)); n != want || len(files) != 1 {
			t.Errorf("%d arrivals in %d files, want %d in one", n, len(files), want)
		}
		if _, err := replay(text); err == nil || !strings.Contains(err.Error(), "begins with segment 1") {
			t.Errorf("replayed without its beginning: %v", err)
		}
	}
}

// served has a dispatcher serve jobs that take no time.
func served(t *testing.T, d *dispatcher.Dispatcher, jobs int) {
	t.Helper()
	for range jobs {
		s := d.Run(t.Context(), scheduler.Job{Model: "base", AudioSeconds: 1}, func(context.Context, dispatcher.Attempt) scheduler.Outcome {
			return scheduler.Outcome{Result: scheduler.Success, Words: true}
		})
		if s.Reason != scheduler.Served {
			t.Errorf("settled %v", s.Reason)
		}
	}
}

func recordFailuresOf(t *testing.T, pool string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(recordFailures)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == pool {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func poolOf(t *testing.T, name string) *Pool {
	t.Helper()
	p := newPool(name)
	if err := p.dispatcher.Configure(scheduler.Config{Backends: []scheduler.Backend{{ID: "a", Address: "a:1"}}}); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRecordingIsRolled by size and count, and nobody else's files are touched.
func TestRecordingIsRolled(t *testing.T) {
	folder := t.TempDir()
	others := []string{
		segmentPrefix("main2") + "20200101T000000.000Z-000000" + segmentSuffix, segmentPrefix("main") + "notes.txt", "a" + segmentSuffix,
	}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := poolOf(t, "main")
	for range 2 { // the second goes on where the first ended
		tape := newTape(p, Record{Folder: folder, MaxSize: 4000, Keep: 3})
		p.dispatcher.Record(tape.recorder)
		served(t, p.dispatcher, 50)
		p.dispatcher.Record(nil)
		tape.end()
	}
	if err := p.Destruct(); err != nil {
		t.Fatal(err)
	}
	var ours []string
	for _, f := range segments(t, folder) {
		if strings.HasPrefix(filepath.Base(f), segmentPrefix("main")) {
			ours = append(ours, f)
		}
	}
	if len(ours) != 3 {
		t.Errorf("segments: %v", ours)
	}
	for _, name := range others {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	for i, f := range ours {
		text := contents(t, []string{f})
		if !bytes.HasPrefix(text, []byte(`{"Journal":2,"Config":{`)) || len(text) > 6000 || i < 2 && len(text) < 4000 {
			t.Errorf("%s has %d bytes and begins with %.60q", f, len(text), text)
		}
	}
	if !bytes.Contains(contents(t, ours[2:]), []byte(`"Is":"settle","Data":{"Job":100,`)) {
		t.Error("the last segment does not have the last job")
	}
}

// TestRecordingThatFails: jobs are served all the same, it is told and counted once, and tried again later.
func TestRecordingThatFails(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "later")
	synctest.Test(t, func(t *testing.T) {
		p := poolOf(t, t.Name())
		defer p.Destruct()
		before := recordFailuresOf(t, p.name) // counters live as long as the process
		failures := func() float64 { return recordFailuresOf(t, p.name) - before }
		p.mu.Lock()
		p.record(&Record{Folder: folder, MaxSize: recordSizeMin, Keep: 2})
		p.mu.Unlock()
		served(t, p.dispatcher, 10)
		synctest.Wait()
		served(t, p.dispatcher, 10)
		if n := failures(); n != 1 {
			t.Errorf("%v failures are counted", n)
		}
		time.Sleep(recordRest + time.Second) // nothing has changed
		served(t, p.dispatcher, 10)
		synctest.Wait()
		if n := failures(); n != 2 {
			t.Errorf("%v failures are counted", n)
		}
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		served(t, p.dispatcher, 10)
		time.Sleep(recordRest + time.Second)
		served(t, p.dispatcher, 7)
		p.mu.Lock()
		p.record(nil)
		p.mu.Unlock()
		synctest.Wait()
		served(t, p.dispatcher, 10)
		text := contents(t, segments(t, folder))
		if n := bytes.Count(text, []byte(`"Is":"arrived"`)); n != 7 || failures() != 2 {
			t.Errorf("%d arrivals, %v failures", n, failures())
		}
	})
}

// stone is a disk that does not come back.
type stone struct{ end chan struct{} }

func (s stone) Write(p []byte) (int, error) { <-s.end; return len(p), nil }
func (s stone) Close() error                { return nil }

// TestRecordingThatHangs keeps neither jobs nor the pool's end waiting.
func TestRecordingThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := poolOf(t, t.Name())
		before := recordFailuresOf(t, p.name) // counters live as long as the process
		tape := newTape(p, Record{Folder: "nowhere"})
		tape.recorder.Close()
		disk := stone{make(chan struct{})}
		tape.recorder = dispatcher.NewRecorder(dispatcher.RecorderOptions{
			Open: func() (io.WriteCloser, error) { return disk, nil }, Failed: tape.fail,
		})
		p.dispatcher.Record(tape.recorder)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { served(t, p.dispatcher, 2000) }) // more than is kept for the disk
		}
		wg.Wait()
		began := time.Now()
		if tape.end(); time.Since(began) != recordLast {
			t.Errorf("its end took %v", time.Since(began))
		}
		close(disk.end)
		synctest.Wait()
		if n := recordFailuresOf(t, p.name) - before; n != 1 {
			t.Errorf("%v gaps are counted", n)
		}
		if err := errors.Join(p.Destruct()); err != nil {
			t.Error(err)
		}
	})
}
