package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

var refusals = []scenario{
	{ID: "size", Name: "uploads and forms beyond every limit", Theme: limits, Short: true,
		Criterion: "each refused with the right status and in OpenAI's shape, none reaches a backend, nothing left afterwards", Run: beyondLimits},
	{ID: "spool", Name: "more uploads than the queue may hold", Theme: limits, Short: true,
		Criterion: "503 with Retry-After and never an error of another kind, bytes held within the limit, those taken are served, files of the spool for their owner only", Run: spoolQuota},
	{ID: "tenant", Name: "one tenant sends a flood", Theme: limits,
		Criterion: "429 with Retry-After beyond its limit; p99 of the others at most 1.5 x base; they do not fail", Run: tenantFlood},
	{ID: "bomb", Name: "a small upload that says it is a week of audio, compressed requests", Theme: limits, Short: true,
		Criterion: "refused or served like any other within 2 s; memory grows by less than 64 MiB; others served", Run: bombs},
	{ID: "flood", Name: "1000 connections that send a byte a second or nothing", Theme: limits, Peers: true, Alone: true,
		Criterion: "others served, p99 at most 1.2 x base; files and memory back within 20 % when they are gone", Run: connectionFlood},
	{ID: "keys", Name: "API keys: none, wrong, right, one over its limit", Theme: limits, Short: true,
		Criterion: "401 without a key of the list, before the body is read; 429 with Retry-After beyond the limit; no key in the log", Run: apiKeys},
}

// openAIShape: an error as OpenAI's clients read it.
func openAIShape(a answer) bool {
	return strings.Contains(a.text, `"error"`) && strings.Contains(a.text, `"message"`) && strings.Contains(a.text, `"type"`)
}

func beyondLimits(ctx context.Context, e *env) (string, bool, error) {
	fakes, f, err := e.warmPool(ctx, 2, law{Fixed: 50 * time.Millisecond}, setup{pool: "upload {\n max_size 1MiB\n}"})
	if err != nil {
		return "", false, err
	}
	began := time.Now()
	many := make([]string, 0, 600)
	for i := range 300 {
		many = append(many, fmt.Sprintf("field%d", i), "x")
	}
	var wrong []string
	check := func(what string, a answer, want ...int) {
		for _, status := range want {
			if a.status == status && openAIShape(a) {
				return
			}
		}
		wrong = append(wrong, fmt.Sprintf("%s: %s", what, a))
	}
	form := func(c clip, fields ...string) answer {
		body, contentType := c.form(fields...)
		return post(ctx, f.url+transcriptions, c, body, contentType)
	}
	check("2 MiB", form(newClip(260), "model", "base"), 413)
	check("300 fields", form(newClip(1), many...), 400)
	check("a field of 1 MiB less a bit", form(newClip(1), "prompt", strings.Repeat("x", 900_000)), 400, 413)
	check("a part with a header of 100 kB", post(ctx, f.url+transcriptions, clip{}, []byte("--"+boundary+"\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nX-Long: "+
		strings.Repeat("x", 100_000)+"\r\n\r\nRIFF\r\n--"+boundary+"--\r\n"), "multipart/form-data; boundary="+boundary), 400)
	check("no file", post(ctx, f.url+transcriptions, clip{}, []byte("--"+boundary+"--\r\n"), "multipart/form-data; boundary="+boundary), 400)
	check("no form", post(ctx, f.url+transcriptions, clip{}, []byte("{}"), "application/json"), 400, 415)
	check("a form cut off", post(ctx, f.url+transcriptions, clip{}, []byte("--"+boundary+"\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF"), "multipart/form-data; boundary="+boundary), 400)
	check("another model", form(newClip(1), "model", "no-such-model"), 404)
	a := form(newClip(1), "model", "base", "response_format", "yaml")
	check("another format", a, 400)
	huge := transcribe(ctx, f.url, newClip(1), "X-Long", strings.Repeat("x", 2<<20))
	if huge.status != 431 && huge.err == nil {
		wrong = append(wrong, "2 MiB of header: "+huge.String())
	}
	reached := 0
	for _, one := range fakes {
		for _, r := range one.seen(began) {
			if r.clip != 0 {
				reached++
			}
		}
	}
	back, zero := f.backToZero(ctx)
	return fmt.Sprintf("%d of 10 were not refused as they should be%s; %d reached a backend; afterwards %s", len(wrong), first(wrong), reached, back), len(wrong) == 0 && reached == 0 && zero, nil
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return " (" + all[0] + ")"
}

func spoolQuota(ctx context.Context, e *env) (string, bool, error) {
	fakes, err := e.pool(ctx, 1, "card", law{Fixed: 500 * time.Millisecond})
	if err != nil {
		return "", false, err
	}
	spool := filepath.Join(e.dir, "spool")
	if err := os.MkdirAll(spool, 0o755); err != nil {
		return "", false, err
	}
	const most = 10 << 20
	f, err := e.front(ctx, "front", setup{pool: "queue {\n max_bytes 10MiB\n}\nupload {\n memory 1MiB\n spool " + spool + "\n}"}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	if err := f.warm(ctx, 1); err != nil {
		return "", false, err
	}
	held, opened := 0.0, ""
	limited, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for limited.Err() == nil {
			if m, err := f.metrics(limited); err == nil {
				held = max(held, m.sum("whisperpool_upload_bytes"))
			}
			if found := readable(spool, f.cmd.Process.Pid); found != "" {
				opened = found
			}
			pause(limited, 50*time.Millisecond)
		}
	})
	got := play(ctx, f.url, atOnce(30, 120)) // of 1 MB each, at once
	cancel()
	watching.Wait()
	served, refused := 0, 0
	var wrong []string
	for _, a := range got.all {
		switch {
		case a.served():
			served++
		case a.status == 503 && a.header.Get("Retry-After") != "" && openAIShape(a):
			refused++
		default:
			wrong = append(wrong, a.String())
		}
	}
	back, zero := f.backToZero(ctx)
	return fmt.Sprintf("of 30 uploads of 1 MB %d served, %d refused, %d otherwise%s; at the most %.1f of 10 MiB held%s; afterwards %s", served, refused, len(wrong), first(wrong), held/(1<<20), opened, back),
		served > 0 && refused > 0 && len(wrong) == 0 && held <= most && held > 1<<20 && opened == "" && zero, nil
}

// readable is a file of the spool that others than its owner may open, in the folder or open in the
// process; "" when there is none.
func readable(spool string, pid int) string {
	var paths []string
	names, _ := filepath.Glob(filepath.Join(spool, "*"))        // the pattern is right
	open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the same
	for _, path := range open {
		if target, err := os.Readlink(path); err == nil && strings.HasPrefix(target, spool) {
			paths = append(paths, path)
		}
	}
	for _, path := range append(paths, names...) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			return fmt.Sprintf("; a file of mode %v", info.Mode())
		}
	}
	return ""
}

func tenantFlood(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond, Noise: 0.1}
	lengths := between(1, 5)
	t, err := e.twin(ctx, 8, card, setup{pool: "tenant {header.X-Tenant} {\n max_queued 30\n}"})
	if err != nil {
		return "", false, err
	}
	length := pick(e, 25*time.Second, 15*time.Second)
	stop := make(chan struct{})
	flood := make(chan *tally)
	go func() {
		all := &tally{began: time.Now()}
		var wg sync.WaitGroup
		for range 80 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					a := transcribe(ctx, t.faulty.url, newClip(3), "X-Tenant", "flood")
					if all.add(a); !a.served() {
						pause(ctx, 500*time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
		flood <- all
	}()
	base, others := t.play(ctx, poisson(23, rate(0.25, 8, card, lengths), length, lengths), "X-Tenant", "quiet")
	close(stop)
	sent := <-flood
	limited, wrong := 0, []string{}
	for _, a := range sent.failed() {
		if a.status == 429 && a.header.Get("Retry-After") != "" && openAIShape(a) {
			limited++
		} else {
			wrong = append(wrong, a.String())
		}
	}
	p99 := ratio(others.p99(), base.p99())
	return fmt.Sprintf("of its %d requests %d got 429, %d failed otherwise%s; p99 of others %.2f x base, %d of %d failed%s", sent.count(), limited, len(wrong), first(wrong), p99,
			len(others.failed()), others.count(), others.firstFailure()),
		limited > 0 && len(wrong) == 0 && p99 <= 1.5 && len(others.failed()) == 0, nil
}

func bombs(ctx context.Context, e *env) (string, bool, error) {
	_, f, err := e.warmPool(ctx, 2, law{Fixed: 50 * time.Millisecond, PerSecond: 10 * time.Millisecond}, setup{})
	if err != nil {
		return "", false, err
	}
	before := f.memory()
	week := newClip(2).wav()
	binary.LittleEndian.PutUint32(week[4:], 0xffff_fff0) // sizes as of a week
	binary.LittleEndian.PutUint32(week[54:], 0xffff_ff00)
	flac := append([]byte("fLaC\x80\x00\x00\x22"), bytes.Repeat([]byte{0xff}, 34)...)
	ogg := append([]byte("OggS\x00\x04"), bytes.Repeat([]byte{0x7f}, 200)...)
	mp4 := append([]byte("\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00"), bytes.Repeat([]byte{0xff, 0xff, 0xff, 0xff, 'm', 'o', 'o', 'v'}, 100)...)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(make([]byte, 256<<20)); err != nil {
		return "", false, err
	}
	if err := w.Close(); err != nil {
		return "", false, err
	}
	var slow time.Duration
	var wrong []string
	note := func(what string, a answer) {
		slow = max(slow, a.took)
		if a.status == 0 || a.status >= 500 {
			wrong = append(wrong, fmt.Sprintf("%s: %s", what, a))
		}
	}
	for _, file := range [][]byte{week, flac, ogg, mp4, nil} {
		body, contentType := formOf("a.wav", file, "model", "base")
		note(fmt.Sprintf("%.4q", file), post(ctx, f.url+transcriptions, clip{}, body, contentType))
	}
	body, contentType := formOf("a.wav", zipped.Bytes(), "model", "base")
	note("a zip in a form", post(ctx, f.url+transcriptions, clip{}, body, contentType))
	note("a zipped form", post(ctx, f.url+transcriptions, clip{}, zipped.Bytes(), contentType, "Content-Encoding", "gzip"))
	grown := f.memory() - before
	after := transcribe(ctx, f.url, newClip(3))
	return fmt.Sprintf("all within %s, memory grew by %.1f MiB, %d not handled%s, then served: %v", ms(slow), float64(grown)/(1<<20), len(wrong), first(wrong), after.served()),
		slow <= 2*time.Second && grown < 64<<20 && len(wrong) == 0 && after.served(), nil
}

func connectionFlood(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond, Noise: 0.1}
	lengths := between(1, 5)
	t, err := e.twin(ctx, 4, card, setup{})
	if err != nil {
		return "", false, err
	}
	f := t.faulty
	files, memory := f.files(), f.memory()
	limited, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	refused := 0
	var mu sync.Mutex
	for i := range pick(e, 1000, 500) {
		wg.Go(func() {
			var d net.Dialer
			conn, err := d.DialContext(limited, "tcp", strings.TrimPrefix(f.url, "http://"))
			if err != nil {
				mu.Lock()
				refused++
				mu.Unlock()
				return
			}
			defer conn.Close()
			text := "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nContent-Type: multipart/form-data; boundary=" + boundary + "\r\n\r\n"
			for at := 0; limited.Err() == nil; at++ {
				if i%2 == 0 && at < len(text) {
					if _, err := conn.Write([]byte{text[at]}); err != nil {
						return
					}
				}
				pause(limited, time.Second)
			}
		})
	}
	base, others := t.play(ctx, poisson(24, rate(0.3, 4, card, lengths), pick(e, 30*time.Second, 15*time.Second), lengths))
	most := f.files()
	cancel()
	wg.Wait()
	var left int
	var resident int64
	_, back := await(ctx, 20*time.Second, func() bool {
		left, resident = f.files(), f.memory()
		return float64(left) <= 1.2*float64(files)+10
	})
	p99 := ratio(others.p99(), base.p99())
	return fmt.Sprintf("%d of %d others failed%s, p99 %.2f x base; files %d before, %d at the most, %d after; memory %.0f MiB before, %.0f after", len(others.failed()), others.count(), others.firstFailure(), p99,
			files, most, left, float64(memory)/(1<<20), float64(resident)/(1<<20)),
		len(others.failed()) == 0 && p99 <= 1.2 && back, nil
}

func apiKeys(ctx context.Context, e *env) (string, bool, error) {
	fakes, err := e.pool(ctx, 2, "card", law{Fixed: 50 * time.Millisecond})
	if err != nil {
		return "", false, err
	}
	const good, few = "a-key-that-nobody-knows-1", "a-key-that-nobody-knows-2"
	path, err := e.write("keys", "team-a "+good+"\nteam-b "+few+" requests_per_minute=3\n")
	if err != nil {
		return "", false, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{pool: "api_keys {file." + path + "}", level: "DEBUG"}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	var wrong []string
	check := func(what string, a answer, want int) {
		if a.status != want {
			wrong = append(wrong, fmt.Sprintf("%s: %s", what, a))
		}
	}
	check("no key", transcribe(ctx, f.url, newClip(1)), 401)
	check("a wrong key", transcribe(ctx, f.url, newClip(1), "Authorization", "Bearer a-key-that-nobody-knows-3"), 401)
	check("half a key", transcribe(ctx, f.url, newClip(1), "Authorization", "Bearer "+good[:20]), 401)
	check("the right key", transcribe(ctx, f.url, newClip(1), "Authorization", "Bearer "+good), 200)
	limited, bare := 0, 0
	for range 6 {
		a := transcribe(ctx, f.url, newClip(1), "Authorization", "Bearer "+few)
		if a.status == 429 {
			limited++
			if a.header.Get("Retry-After") == "" {
				bare++
			}
		}
	}
	// A body that never comes must not be waited for.
	reader := &slowly{ctx, bytes.Repeat([]byte("x"), 1_000_000), 10_000, -1}
	began := time.Now()
	early := refusedEarly(ctx, f.url+transcriptions, reader)
	waited := time.Since(began)
	f.signal(syscall.SIGTERM)
	<-f.ended
	leaked := findLine(f.text(), good, few)
	return fmt.Sprintf("%d wrong answers%s, %d of 6 over the limit of 3 a minute got 429 (%d without Retry-After), without a key and with a slow body %d after %s; in the log: %q", len(wrong), first(wrong), limited, bare, early, ms(waited), leaked),
		len(wrong) == 0 && limited == 3 && bare == 0 && early == 401 && waited < 5*time.Second && leaked == "", nil
}
