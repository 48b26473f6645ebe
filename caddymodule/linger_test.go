package caddymodule

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dialRaw opens a connection and begins an upload; length < 0: chunked.
func (p *proxy) dialRaw(length int64) net.Conn {
	p.t.Helper()
	host := strings.TrimPrefix(p.url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	size := fmt.Sprintf("Content-Length: %d", length)
	if length < 0 {
		size = "Transfer-Encoding: chunked"
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=x\r\n%s\r\n\r\n", transcriptions, host, size)
	return conn
}

const filePart = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"

// TestAnswerAfterWholeUpload: a client that reads nothing before it has sent all of a far too large
// upload gets the answer, and what was held of the upload is free long before.
func TestAnswerAfterWholeUpload(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address()+"\nupload {\n\tmax_size 25MiB\n}")
	for name, chunked := range map[string]bool{"with its length told": false, "chunked": true} {
		t.Run(name, func(t *testing.T) {
			const whole = 40 << 20
			length := int64(whole)
			if chunked {
				length = -1
			}
			conn := p.dialRaw(length)
			piece := bytes.Repeat([]byte("x"), 1<<20)
			if copy(piece, filePart); chunked {
				piece = append([]byte("100000\r\n"), append(piece, "\r\n"...)...)
			}
			for n := range whole >> 20 {
				if _, err := conn.Write(piece); err != nil {
					t.Fatalf("after %d MiB: %v", n, err)
				}
				if n == whole>>20-2 { // far beyond the limit
					eventually(t, "nothing of it is held", func() bool { return p.pool().uploads.held.Load() == 0 })
				}
			}
			if chunked {
				_, _ = io.WriteString(conn, "0\r\n\r\n")
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || !bytes.Contains(text, []byte("larger than 25 MiB")) {
				t.Errorf("%v, status %d: %s", err, resp.StatusCode, text)
			}
		})
	}
}

// TestLingeringIsBounded: who sends without end is cut off, by bytes; and at once where as many as may
// are being waited for already.
func TestLingeringIsBounded(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address()+"\nupload {\n\tmax_size 1MiB\n}")
	flood := func() (sent int64) {
		conn := p.dialRaw(-1)
		piece := append([]byte("100000\r\n"), append(bytes.Repeat([]byte("x"), 1<<20), "\r\n"...)...)
		for sent < 2*lingerBytes {
			n, err := conn.Write(piece)
			if sent += int64(n); err != nil {
				return sent
			}
		}
		t.Errorf("%d bytes were taken", sent)
		return sent
	}
	if sent := flood(); sent < lingerBytes/2 {
		t.Errorf("cut off after %d bytes", sent)
	}
	for range lingerMost {
		lingering <- struct{}{}
	}
	defer func() {
		for range lingerMost {
			<-lingering
		}
	}()
	if sent := flood(); sent > 64<<20 { // sockets' buffers are part of it
		t.Errorf("%d bytes were taken although too many linger", sent)
	}
}
