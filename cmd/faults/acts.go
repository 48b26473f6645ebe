package main

import (
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// work takes a slot for the time that the clip takes; false when the client left before.
func (c *call) work() bool {
	select {
	case <-c.fake.places:
	case <-c.r.Context().Done():
		return false
	}
	defer func() { c.fake.places <- struct{}{} }()
	timer := time.NewTimer(c.fake.took(c.seconds))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.r.Context().Done():
		return false
	}
}

// serve is what a backend does that has no fault.
func (c *call) serve() {
	if c.work() {
		c.answer(clipText(c.clip))
	}
}

// answer writes a transcript. It is noted as served before, since the client may be gone as soon as it
// has it.
func (c *call) answer(text string) {
	c.fake.note(func() { c.served = true })
	var segments []map[string]any
	if text != "" {
		segments = []map[string]any{{"id": 0, "start": 0.0, "end": c.seconds, "text": " " + text}}
	}
	end := time.Duration(c.seconds * float64(time.Second))
	span := func(comma string) string {
		if text == "" {
			return ""
		}
		second := fmt.Sprintf("%02d:%02d:%02d%s%03d", int(end.Hours()), int(end.Minutes())%60, int(end.Seconds())%60, comma, end.Milliseconds()%1000)
		return fmt.Sprintf("00:00:00%s000 --> %s\n%s\n\n", comma, second, text)
	}
	if c.stream {
		c.write(http.StatusOK, "text/event-stream", delta(text)+doneEvent(text))
		return
	}
	switch c.format {
	case "text":
		c.write(http.StatusOK, "text/plain", text+"\n")
	case "srt":
		if text != "" {
			text = "1\n" + span(",")
		}
		c.write(http.StatusOK, "application/x-subrip", text)
	case "vtt":
		c.write(http.StatusOK, "text/vtt", "WEBVTT\n\n"+span("."))
	case "verbose_json":
		c.json(http.StatusOK, map[string]any{"task": "transcribe", "language": "english", "duration": c.seconds, "text": text, "segments": append([]map[string]any{}, segments...)})
	default:
		c.json(http.StatusOK, map[string]any{"text": text})
	}
}

func delta(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf("data: {\"type\":\"transcript.text.delta\",\"delta\":%q}\n\n", text)
}

func doneEvent(text string) string {
	return fmt.Sprintf("data: {\"type\":\"transcript.text.done\",\"text\":%q}\n\n", text)
}

// sayLoading answers as a server that has no model yet: whisper-server says 404 to everything.
func (c *call) sayLoading() {
	if c.fake.dialect == likeWhisperServer {
		c.write(http.StatusNotFound, "text/plain", "File Not Found ("+c.r.URL.Path+")")
		return
	}
	c.json(http.StatusServiceUnavailable, map[string]any{"error": map[string]any{"message": "the model is being loaded", "type": "server_error", "code": "loading"}})
}

// after waits a while and then acts; the client may leave meanwhile.
func after(d time.Duration, then act) act {
	return func(c *call) {
		select {
		case <-time.After(d):
			then(c)
		case <-c.r.Context().Done():
		}
	}
}

// answering gives a fixed answer.
func answering(status int, contentType, body string, headers ...string) act {
	return func(c *call) {
		for i := 0; i+1 < len(headers); i += 2 {
			c.w.Header().Set(headers[i], headers[i+1])
		}
		c.write(status, contentType, body)
	}
}

// serverError is the fastest of black holes.
func serverError(c *call) {
	c.json(http.StatusInternalServerError, map[string]any{"error": map[string]any{"message": "CUDA error: device-side assert triggered", "type": "server_error"}})
}

// sometimes acts so on a share of the calls, and serves the others.
func sometimes(share float64, seed uint64, a act) act {
	rng := mathrand.New(mathrand.NewPCG(seed, 7))
	return func(c *call) {
		c.fake.mu.Lock()
		hit := rng.Float64() < share
		c.fake.mu.Unlock()
		if hit {
			a(c)
			return
		}
		c.serve()
	}
}

// hanging never answers. The request was read, and a client that leaves is noticed.
func hanging(c *call) { <-c.r.Context().Done() }

// raw writes bytes to the connection as they are, and then closes or resets it, or keeps it open
// until the client leaves.
func raw(text string, end ending) act {
	return func(c *call) {
		conn, buffered, err := c.w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, text) // the client may be gone
		switch end {
		case byReset:
			reset(conn)
		case never:
			_, _ = io.Copy(io.Discard, buffered) // until the other side closes
			c.fake.note(func() { c.left = time.Now() })
		}
	}
}

type ending uint8

const (
	byClose ending = iota + 1
	byReset
	never
)

func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // so that Close resets
	}
	if t, ok := conn.(*tracked); ok {
		reset(t.Conn)
	}
}

// response is a head with a length that need not be true, and a body.
func response(length int, body string) string {
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	if length >= 0 {
		head += "Content-Length: " + strconv.Itoa(length) + "\r\n"
	}
	return head + "\r\n" + body
}

// dripping sends the head of its answer a byte at a time, so slowly that it never gets to its end.
func dripping(c *call) {
	conn, _, err := c.w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	head := "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Filler: 0123456789\r\n", 1000)
	for i := range head {
		if _, err := io.WriteString(conn, head[i:i+1]); err != nil {
			c.fake.note(func() { c.left = time.Now() })
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// turning answers 429 or 503 and says when to come again.
func turning(status int, retryAfter time.Duration) act {
	return answering(status, "application/json", `{"error":{"message":"too many requests","type":"rate_limit_error"}}`,
		"Retry-After", fmt.Sprint(int(retryAfter.Seconds())))
}
