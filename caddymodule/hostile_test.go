package caddymodule

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// answerOf reads one answer from a raw connection.
func answerOf(t *testing.T, conn io.Reader) response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(text)}
}

// TestHostileForms: forms that are made to cost something, or to be read otherwise than they look, are
// refused in words and soon, and none reaches a backend.
func TestHostileForms(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address()+"\nupload {\n\tmax_size 8MiB\n}")
	p.ready(1)
	clip := string(wav(0.1))
	long := strings.Repeat("b", boundaryMax+1)
	field := func(name, value string) string {
		return "--x\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	for _, c := range []struct {
		name, boundary, coding, body string
		status                       int
		says                         string
	}{
		{"long boundary", long, "", "--" + long + "\r\n\r\n--" + long + "--", 400, "longer than 70"},
		{"huge boundary", strings.Repeat("b", 10<<10), "", "x", 400, "longer than 70"},
		{"nearly boundaries", "x", "", filePart + strings.Repeat("\r\n--y\r\n--x-\r\n--", 400000), 400, "damaged or cut short"},
		{"line ends", "x", "", filePart + strings.Repeat("\r\n", 3<<20), 400, "damaged or cut short"},
		{"nothing but preamble", "x", "", strings.Repeat("preamble\r\n", 400000), 400, "header is longer"},
		{"nested form", "x", "", "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n" +
			"--y\r\nContent-Disposition: file; filename=\"a.wav\"\r\n\r\n" + clip + "\r\n--y--\r\n\r\n" + field("model", "base") + "--x--\r\n", 400, "not audio"},
		{"compressed", "x", "gzip", "\x1f\x8b\x08", 415, "Content-Encoding"},
		{"compressed twice", "x", "identity, br", "x", 415, "Content-Encoding"},
		{"many small headers", "x", "", "--x\r\n" + strings.Repeat("A: b\r\n", 20000) + "\r\n--x--\r\n", 400, "header is longer"},
		{"fields without end", "x", "", strings.Repeat(field("prompt", strings.Repeat("p", 60<<10)), 6), 400, "too long"},
		{"names without end", "x", "", strings.Repeat(field(strings.Repeat("n", 10<<10), ""), 40), 400, "too long"},
		{"two files, one hidden", "x", "", filePart + clip + "\r\n" + filePart + clip + "\r\n--x--\r\n", 400, "more than one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := http.Header{"Content-Type": {"multipart/form-data; boundary=" + c.boundary}}
			if c.coding != "" {
				header.Set("Content-Encoding", c.coding)
			}
			began := processorTime(t)
			r, err := send(t.Context(), http.MethodPost, p.url+transcriptions, header, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if message, _ := r.problem(t); r.status != c.status || !strings.Contains(message, c.says) || r.header.Get("X-Should-Retry") != "false" {
				t.Errorf("status %d, want %d with %q: %s", r.status, c.status, c.says, r.body)
			}
			if took := processorTime(t) - began; took > 10*time.Second {
				t.Errorf("it took %v of the processor", took)
			}
		})
	}
	t.Run("shorter than told", func(t *testing.T) { // the rest would be the next request
		conn := p.dialRaw(int64(len(filePart) + 100))
		_, _ = io.WriteString(conn, filePart+clip)
		if r := answerOf(t, conn); r.status != http.StatusBadRequest || !strings.Contains(r.body, "cut short") {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	})
	for name, start := range map[string]string{
		"a file without end": filePart, "another file without end": strings.Replace(filePart, `"file"`, `"other"`, 1),
		"an epilogue without end": filePart + clip + "\r\n--x--\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := p.dialRaw(-1)
			fmt.Fprintf(conn, "%x\r\n%s\r\n", len(start), start)
			piece := "100000\r\n" + strings.Repeat("x", 1<<20) + "\r\n"
			for range 10 {
				if _, err := io.WriteString(conn, piece); err != nil {
					t.Fatal(err)
				}
			}
			if r := answerOf(t, conn); r.status != http.StatusRequestEntityTooLarge {
				t.Errorf("status %d: %s", r.status, r.body)
			}
		})
	}
	if n := len(backend.requests()); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}
	eventually(t, "nothing is held", func() bool { return p.pool().uploads.held.Load() == 0 && p.pool().uploads.memory.Load() == 0 })
}

// TestNothingIsInjected: what clients and backends write ends up as values, never as headers, parts or lines.
func TestNothingIsInjected(t *testing.T) {
	backend := newWhisper(t)
	var file atomic.Pointer[multipart.FileHeader]
	backend.answer = func(w http.ResponseWriter, r *http.Request, got sent) {
		file.Store(r.MultipartForm.File["file"][0])
		w.Header().Set("Set-Cookie", "evil=1")
		w.Header().Set("X-Evil", "1")
		w.Header().Set("X-Request-Id", "evil")
		w.Header().Set("X-Whisperpool-Backend", "evil")
		if strings.Contains(strings.Join(got.form["prompt"], ""), "refuse me") {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"message":"bad\r\nX-Evil: 1 <script>alert(1)</script>","type":"a\nb","param":"c\r\nd","code":"e\u0000f"}}`)
			return
		}
		speak(w, r, got)
	}
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	prompt := "a\r\n--boundary\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nother\r\n--boundary--\r\n"
	ask := func(id, prompt string) response {
		t.Helper()
		part := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename*=utf-8''..%2F..%2Fa%22%0d%0aX-Evil%3A%201.wav\r\n" +
			"Content-Type: audio/wav; x=\"a%0d%0aX-Evil: 1\"\r\n\r\n" + string(wav(1)) + "\r\n"
		body := part + "--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n" + strings.ReplaceAll(prompt, "--x", "--z") +
			"\r\n--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nbase\r\n--x--\r\n"
		r, err := send(t.Context(), http.MethodPost, p.url+transcriptions, http.Header{
			"Content-Type": {"multipart/form-data; boundary=x"}, "X-Request-Id": {id}, "X-Evil": {"1"}, "Cookie": {"a=b"}, "Authorization": {"Bearer sk-secret"},
		}, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Set-Cookie", "X-Evil"} {
			if r.header.Get(name) != "" {
				t.Errorf("the backend's %s was passed on", name)
			}
		}
		return r
	}
	r := ask("mine-1", prompt)
	if r.status != http.StatusOK || r.header.Get("X-Request-Id") != "mine-1" || r.header.Get("X-Whisperpool-Backend") != backend.address() {
		t.Fatalf("status %d, %v: %s", r.status, r.header, r.body)
	}
	got := backend.requests()[0]
	if v := got.form["prompt"]; len(v) != 1 || v[0] != prompt || len(got.form["model"]) != 1 || got.form["model"][0] != "base" {
		t.Errorf("the backend got %q", got.form)
	}
	if name := file.Load().Filename; strings.ContainsAny(name, "/\"\r\n :") || !strings.HasSuffix(name, ".wav") || file.Load().Header.Get("X-Evil") != "" {
		t.Errorf("file name %q, header %v", name, file.Load().Header)
	}
	for _, name := range []string{"X-Evil", "Cookie", "Authorization"} {
		if got.header.Get(name) != "" {
			t.Errorf("the client's %s was passed on", name)
		}
	}
	for _, id := range []string{strings.Repeat("i", 129), "two words", "tab\there", "caf\u00e9", ""} {
		if r := ask(id, prompt); r.status != http.StatusOK || r.header.Get("X-Request-Id") == id || r.header.Get("X-Request-Id") == "" {
			t.Errorf("id %q: status %d, answered as %q", id, r.status, r.header.Get("X-Request-Id"))
		}
	}
	r = ask("mine-2", "refuse me")
	if message, _ := r.problem(t); r.status != http.StatusBadRequest || r.header.Get("Content-Type") != "application/json" || strings.ContainsAny(message, "<>\r\n\x00") {
		t.Errorf("status %d, %v: %q", r.status, r.header, message)
	}
}

// TestSlowUploads is scenario 24: 500 clients that upload 10 kB a second, every other of which goes away in the
// middle. None has a slot before it is there, those that come in one piece are served meanwhile, memory stays
// within its limit, and all that stay are served.
func TestSlowUploads(t *testing.T) {
	const clients, memory = 500, 4<<20 + 500*requestShare
	backend := newWhisper(t, func(s *whisper) { s.slots = 4 })
	p := newProxy(t, fmt.Sprintf("backend %s\nupload {\n\tmemory %d\n}", backend.address(), memory))
	p.ready(1)
	body := filePart + string(wav(0.9)) + "\r\n--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nbase\r\n--x--\r\n"
	const piece, every = 1000, 100 * time.Millisecond
	var wg sync.WaitGroup
	var served, left, most atomic.Int64
	in, others := make(chan struct{}), make(chan struct{})
	letIn, goOn := sync.OnceFunc(func() { close(in) }), sync.OnceFunc(func() { close(others) })
	defer letIn()
	defer goOn()
	for i := range clients {
		conn := p.dialRaw(int64(len(body)))
		wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for at := 0; at < len(body); at += piece {
				if at > 0 {
					<-in // those that came first had room that the others' requests take: they give it back with their next piece
				}
				if at > len(body)/2 {
					<-others // or a busy machine would have the first done before the others are served
					if i%2 == 1 {
						_ = conn.Close()
						left.Add(1)
						return
					}
				}
				if _, err := io.WriteString(conn, body[at:min(at+piece, len(body))]); err != nil {
					t.Error(err)
					return
				}
				<-tick.C
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%v, %+v", err, resp)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			served.Add(1)
		})
	}
	eventually(t, "all are there", func() bool { return p.pool().uploads.requests.Load() == clients })
	letIn()
	eventually(t, "all are uploading, within the limit", func() bool {
		inMemory := p.pool().uploads.memory.Load()
		return inMemory > 1<<20 && inMemory+clients*requestShare <= memory
	})
	slow := len(backend.requests())
	for range 10 {
		if r, err := p.postWith(t.Context(), transcriptions, nil, wav(1), "model=base"); err != nil || r.status != http.StatusOK {
			t.Errorf("%v, status %d: %s", err, r.status, r.body)
		}
		most.Store(max(most.Load(), p.pool().uploads.memory.Load()+requestShare*p.pool().uploads.requests.Load()))
	}
	n := len(backend.requests())
	goOn()
	if slow != 0 || n != 10 {
		t.Errorf("%d requests reached the backend before, %d while others upload", slow, n)
	}
	wg.Wait()
	if served.Load() != clients/2 || left.Load() != clients/2 || most.Load() > memory+10*requestShare { // one that has just come in is over it until the next piece of another comes
		t.Errorf("%d served, %d left, at most %d bytes in memory", served.Load(), left.Load(), most.Load())
	}
	if n = len(backend.requests()); n != 10+clients/2 {
		t.Errorf("%d requests reached the backend", n)
	}
	eventually(t, "nothing is held", func() bool { return p.pool().uploads.held.Load() == 0 && p.pool().uploads.memory.Load() == 0 })
}

// TestIdleUploadsAreSmall: connections that began an upload and stand still take little beside what is counted.
func TestIdleUploadsAreSmall(t *testing.T) {
	const clients, counted = 1000, 1 << 20
	backend := newWhisper(t)
	p := newProxy(t, fmt.Sprintf("backend %s\nupload {\n\tmemory %d\n}", backend.address(), counted))
	p.ready(1)
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	for name, sent := range map[string]string{"before the file": "--x\r\nContent-Disposition: form-", "in the file": filePart + strings.Repeat("x", 20<<10)} {
		t.Run(name, func(t *testing.T) {
			before := inUse()
			ctx, leave := context.WithCancel(context.Background())
			defer leave()
			for range clients {
				conn := p.dialRaw(1 << 20)
				context.AfterFunc(ctx, func() { _ = conn.Close() })
				if _, err := io.WriteString(conn, sent); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all are there", func() bool {
				held := p.pool().uploads.held.Load()
				return p.pool().uploads.requests.Load() == clients && goroutinesIn("readForm") == clients && (name == "before the file" || held > clients*10<<10)
			})
			each := (int64(inUse()) - int64(before) - counted - surgeMax*chunkSize) / clients // without what is bounded for all of them
			t.Logf("%d bytes for each upload, the test's own end of the connection included", each)
			if each > 48<<10 {
				t.Errorf("%d bytes", each)
			}
			leave()
			eventually(t, "all are gone", func() bool { return goroutinesIn("readForm") == 0 })
		})
	}
}

// processorTime is what this process has used, which does not depend on what else runs on the machine.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// goroutinesIn counts goroutines that have a function on their stack.
func goroutinesIn(function string) int {
	buffer := make([]byte, 64<<20)
	return strings.Count(string(buffer[:runtime.Stack(buffer, true)]), "caddymodule."+function+"(")
}
