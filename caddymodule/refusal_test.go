package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRefusesBadInput(t *testing.T) {
	backend := newWhisper(t, func(s *whisper) { s.models = []string{"base", "tiny.en"} })
	p := newProxy(t, "backend "+backend.address()+"\nalias small base\nupload {\n\tmax_size 100KiB\n}")
	p.ready(1)
	clip := wav(0.5)
	for _, c := range []struct {
		name, path string
		file       []byte
		fields     []string
		status     int
		says       string
	}{
		{"no file", transcriptions, nil, []string{"model=base"}, 400, "no field named file"},
		{"empty file", transcriptions, []byte{}, []string{"model=base"}, 400, "empty"},
		{"not audio", transcriptions, []byte(strings.Repeat("this is text. ", 100)), []string{"model=base"}, 400, "not audio"},
		{"cut short", transcriptions, clip[:20], []string{"model=base"}, 400, "audio"},
		{"unknown model", transcriptions, clip, []string{"model=huge"}, 404, `"huge" does not exist; there are base, small, tiny.en`},
		{"no model", transcriptions, clip, nil, 400, "model"},
		{"which default", transcriptions, clip, []string{"model=whisper-1"}, 404, "this pool has none; there are base, small, tiny.en"},
		{"which default of inference", "/inference", clip, []string{"model=base"}, 404, "this pool has none"},
		{"unknown format", transcriptions, clip, []string{"model=base", "response_format=docx"}, 400, "response_format"},
		{"bad temperature", transcriptions, clip, []string{"model=base", "temperature=hot"}, 400, "temperature"},
		{"bad language", transcriptions, clip, []string{"model=base", "language=klingon"}, 400, "language"},
		{"bad beam", "/inference", clip, []string{"beam_size=1000000"}, 400, "beam_size"},
		{"English only", transcriptions, clip, []string{"model=tiny.en", "language=de"}, 400, "any language but English"},
		{"translation by English only", "/v1/audio/translations", clip, []string{"model=tiny.en"}, 400, `no backend can translate with the model "tiny.en"`},
		{"too large", transcriptions, wav(10), []string{"model=base"}, 413, "larger than 100 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := p.post(c.path, c.file, c.fields...)
			message, _ := r.problem(t)
			if r.status != c.status || !strings.Contains(message, c.says) {
				t.Errorf("status %d, want %d with %q: %s", r.status, c.status, c.says, message)
			}
			if r.header.Get("X-Request-Id") == "" || r.header.Get("X-Should-Retry") != "false" {
				t.Errorf("headers %v", r.header)
			}
		})
	}
	if n := len(backend.requests()); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}
	if held := p.pool().uploads.held.Load() + p.pool().uploads.memory.Load(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

func TestRefusesBadForms(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	clip := string(wav(0.1))
	part := func(disposition, value string) string {
		return "--x\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n"
	}
	file := part(`name="file"; filename="a.wav"`, clip)
	model := part(`name="model"`, "base")
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		says                    string
	}{
		{"JSON", "application/json", `{"file":"x"}`, 400, "multipart/form-data"},
		{"no content type", "", "x", 400, "multipart/form-data"},
		{"no boundary", "multipart/form-data", "x", 400, "multipart/form-data"},
		{"no parts", "multipart/form-data; boundary=x", "hello", 400, "damaged or cut short"},
		{"empty", "multipart/form-data; boundary=x", "", 400, "damaged or cut short"},
		{"cut short", "multipart/form-data; boundary=x", model + file[:len(file)-50], 400, "damaged or cut short"},
		{"other field name", "multipart/form-data; boundary=x", model + part(`name="audio"; filename="a.wav"`, clip) + "--x--\r\n", 400, `a file named "audio"`},
		{"two files", "multipart/form-data; boundary=x", model + file + file + "--x--\r\n", 400, "more than one field named file"},
		{"file name as text", "multipart/form-data; boundary=x", model + part(`name="file"`, "jfk.wav") + "--x--\r\n", 400, "-F file=@"},
		{"long field", "multipart/form-data; boundary=x", part(`name="prompt"`, strings.Repeat("p", fieldMax+1)) + file + "--x--\r\n", 400, `"prompt" is too long`},
		{"long header", "multipart/form-data; boundary=x", part(`name="`+strings.Repeat("n", 2*partHeaderMax)+`"`, "v") + file + "--x--\r\n", 400, "header is longer"},
		{"many fields", "multipart/form-data; boundary=x", strings.Repeat(part(`name="a"`, "b"), partsMax+1) + file + "--x--\r\n", 400, "more than 200 fields"},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := http.Header{}
			if c.contentType != "" {
				header.Set("Content-Type", c.contentType)
			}
			r, err := send(t.Context(), http.MethodPost, p.url+transcriptions, header, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if message, _ := r.problem(t); r.status != c.status || !strings.Contains(message, c.says) {
				t.Errorf("status %d, want %d with %q: %s", r.status, c.status, c.says, message)
			}
		})
	}
	r, err := send(t.Context(), http.MethodPost, p.url+transcriptions,
		http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}, []byte("preamble\r\n"+file+model+"--x--\r\nepilogue"))
	if err != nil || r.status != http.StatusOK {
		t.Errorf("a file before the model, with preamble and epilogue: %v, %d: %s", err, r.status, r.body)
	}
}

func TestDeadlines(t *testing.T) {
	gate := make(chan struct{})
	defer close(gate)
	backend := newWhisper(t)
	backend.answer = held(gate)
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _, _ = p.postWith(ctx, transcriptions, nil, wav(1), "model=base") }()
	eventually(t, "the only slot is taken", func() bool { return backend.running.Load() == 1 })
	for name, value := range map[string]string{"X-Deadline-Ms": "50", "X-Stainless-Timeout": "0.05", "X-Stainless-Read-Timeout": "0.05"} {
		r, err := p.postWith(t.Context(), transcriptions, http.Header{name: {value}}, wav(1), "model=base")
		if err != nil {
			t.Fatal(err)
		}
		if _, code := r.problem(t); r.status != http.StatusServiceUnavailable || code != "deadline_passed" || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, %s, %v", name, r.status, code, r.header)
		}
	}
	for _, bad := range []string{"soon", "-5", "0", "NaN"} {
		r, err := p.postWith(t.Context(), transcriptions, http.Header{"X-Deadline-Ms": {bad}}, wav(1), "model=base")
		if err != nil {
			t.Fatal(err)
		}
		if _, code := r.problem(t); r.status != http.StatusBadRequest || code != "invalid_deadline" {
			t.Errorf("%s: status %d, %s", bad, r.status, code)
		}
	}
}

func TestQueueLimits(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t)
	backend.answer = held(gate)
	p := newProxy(t, "backend "+backend.address()+"\nqueue {\n\tmax_requests 2\n}")
	p.ready(1)
	answers := make(chan response, 3)
	for range 3 { // one runs, two wait
		go func() {
			r, err := p.postWith(context.Background(), transcriptions, nil, wav(1), "model=base")
			if err != nil {
				t.Error(err)
			}
			answers <- r
		}()
	}
	eventually(t, "two wait", func() bool { return p.pool().dispatcher.Snapshot().Queued == 2 })
	r := p.post(transcriptions, wav(1), "model=base")
	if _, code := r.problem(t); r.status != http.StatusServiceUnavailable || code != "queue_full" || r.header.Get("Retry-After") == "" {
		t.Errorf("status %d, %s, %v", r.status, code, r.header)
	}
	close(gate)
	for range 3 {
		if r := <-answers; r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
}

// TestUploadBytesLimit: what would never fit is refused for good, what does not fit now for now, both before
// they are read; and what does fit is served meanwhile.
func TestUploadBytesLimit(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t, func(s *whisper) { s.slots = 2 })
	backend.answer = held(gate)
	p := newProxy(t, "backend "+backend.address()+"\nqueue {\n\tmax_bytes 100KiB\n}")
	p.ready(1)
	r := p.post(transcriptions, wav(10), "model=base")
	if message, code := r.problem(t); r.status != http.StatusRequestEntityTooLarge || code != "too_large" || !strings.Contains(message, "100 KiB") {
		t.Errorf("more than there is room for at all: status %d, %s", r.status, r.body)
	}
	answers := make(chan int, 2)
	send := func(seconds float64) {
		r, err := p.postWith(context.Background(), transcriptions, nil, wav(seconds), "model=base")
		if err != nil {
			t.Error(err)
		}
		answers <- r.status
	}
	go send(2)
	eventually(t, "it is held", func() bool { return p.pool().uploads.held.Load() == int64(len(wav(2))) })
	for name, length := range map[string]int64{"with its length told": 80 << 10, "chunked": -1} {
		conn := p.dialRaw(length)
		if length < 0 { // only what has been read tells that there is no room
			fmt.Fprintf(conn, "%x\r\n%s%s\r\n", len(filePart)+80<<10, filePart, strings.Repeat("x", 80<<10))
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusServiceUnavailable || !bytes.Contains(text, []byte("queue_full")) || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, %s", name, resp.StatusCode, text)
		}
		_ = conn.Close()
	}
	go send(0.5)
	eventually(t, "what fits is let in", func() bool { return backend.running.Load() == 2 })
	close(gate)
	for range 2 {
		if status := <-answers; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
	eventually(t, "nothing is held", func() bool { return p.pool().uploads.held.Load() == 0 })
}

func TestNoBackendUp(t *testing.T) {
	p := newProxy(t, "backend "+freeAddress(t)+" {\n\tmodels base\n}")
	began := time.Now()
	r := p.post(transcriptions, wav(1), "model=base")
	if _, code := r.problem(t); r.status != http.StatusServiceUnavailable || code != "no_backend" || r.header.Get("Retry-After") == "" {
		t.Errorf("status %d, %s, %v", r.status, code, r.header)
	}
	if !strings.Contains(p.log(), `"detail":"connection refused"`) {
		t.Errorf("the log does not say why: %s", p.log())
	}
	if took := time.Since(began); took > 50*time.Second { // 5 s are waited for one to come back, not the four minutes of max_wait
		t.Errorf("it took %v", took)
	}
	if r := p.get("/health?pool"); r.status != http.StatusServiceUnavailable {
		t.Errorf("/health?pool: %d", r.status)
	}
	if r := p.get("/health"); r.status != http.StatusOK {
		t.Errorf("/health: %d", r.status)
	}
}

// TestRefusedUploadSeesTheAnswer: the client of a large upload that is refused early gets the answer
// although it is still sending, and a slow one gets it before it has sent all.
func TestRefusedUploadSeesTheAnswer(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address()+"\nupload {\n\tmax_size 100KiB\n}")
	for name, length := range map[string]int{"sends on": 900 << 10, "stands still": 10 << 10} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n",
				transcriptions, strings.TrimPrefix(p.url, "http://"), 900<<10)
			if _, err := conn.Write(bytes.Repeat([]byte("x"), length)); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || !bytes.Contains(body, []byte("larger than 100 KiB")) {
				t.Errorf("%v, status %d: %s", err, resp.StatusCode, body)
			}
		})
	}
}

// TestExpectContinue: a client that asks before it sends is not told to go on with what is refused.
func TestExpectContinue(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address()+"\nupload {\n\tmax_size 100KiB\n}")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		transcriptions, strings.TrimPrefix(p.url, "http://"), 900<<10)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%v, %+v", err, resp)
	}
}

// TestSlowUploadHoldsNoSlot: a backend with one slot serves others while an upload trickles in.
func TestSlowUploadHoldsNoSlot(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	body, contentType := form(wav(10), "model=base")
	reader, writer := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+transcriptions, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	slow := make(chan int, 1)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			slow <- 0
			return
		}
		_ = resp.Body.Close()
		slow <- resp.StatusCode
	}()
	if _, err := writer.Write(body[:len(body)/2]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "half of the upload is there", func() bool { return p.pool().uploads.held.Load() > 0 || p.pool().uploads.memory.Load() > 0 })
	for range 3 {
		if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
	}
	if n := len(backend.requests()); n != 3 {
		t.Errorf("the backend has had %d requests", n)
	}
	if _, err := writer.Write(body[len(body)/2:]); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	if status := <-slow; status != http.StatusOK {
		t.Errorf("the slow upload got %d", status)
	}
}

// TestUploadBreaksOff: nothing is kept of it, and nobody is blamed.
func TestUploadBreaksOff(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	body, contentType := form(wav(10), "model=base")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
		transcriptions, strings.TrimPrefix(p.url, "http://"), contentType, len(body))
	if _, err := conn.Write(body[:len(body)/2]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "part of the upload is there", func() bool { return p.pool().uploads.held.Load() > 0 })
	_ = conn.Close()
	eventually(t, "nothing of it is left", func() bool {
		return p.pool().uploads.held.Load() == 0 && p.pool().uploads.memory.Load() == 0
	})
	if n := len(backend.requests()); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}
}
