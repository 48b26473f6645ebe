package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// TestTrial: an attempt without a client is sent as any other is, whatever the kind, and says whether words came
// back.
func TestTrial(t *testing.T) {
	for _, kind := range []string{"whisperpool", "openai", "whisper_server"} {
		t.Run(kind, func(t *testing.T) {
			backend := newWhisper(t, func(s *whisper) { s.kind = kind })
			p := newProxy(t, "backend "+backend.address()+" {\n\tname gpu\n}\ndefault_model base")
			p.ready(1)
			try := func() scheduler.Outcome {
				return p.pool().trial(t.Context(), dispatcher.Attempt{Dispatch: scheduler.Dispatch{Backend: "gpu", Model: "base", Trial: true}})
			}
			if o := try(); o.Result != scheduler.Success || !o.Words {
				t.Errorf("%+v", o)
			}
			if got := backend.requests()[0]; got.fileHash != digest(spoken) {
				t.Errorf("%d bytes were sent, not the %d that are spoken", got.fileSize, len(spoken))
			}
			backend.answer = func(w http.ResponseWriter, _ *http.Request, _ sent) { reply(w, map[string]any{"text": ""}) }
			if o := try(); o.Result != scheduler.Success || o.Words {
				t.Errorf("without words: %+v", o)
			}
			backend.answer = func(w http.ResponseWriter, _ *http.Request, _ sent) {
				w.WriteHeader(http.StatusUnsupportedMediaType)
				reply(w, map[string]any{"error": map[string]any{"message": "no", "type": "invalid_request_error"}})
			}
			if o := try(); o.Result != scheduler.ClientError {
				t.Errorf("refused: %+v", o)
			}
			ctx, cancel := context.WithCancel(t.Context())
			backend.answer = func(_ http.ResponseWriter, r *http.Request, _ sent) {
				cancel()
				<-r.Context().Done()
			}
			if o := p.pool().trial(ctx, dispatcher.Attempt{Dispatch: scheduler.Dispatch{Backend: "gpu", Model: "base", Trial: true}}); o.Result != scheduler.Aborted {
				t.Errorf("ended: %+v", o)
			}
			if n := p.pool().running.Load(); n != 0 {
				t.Errorf("%d attempts of clients are counted", n)
			}
		})
	}
}

// TestSpoken: what backends are tried with is what it is said to be.
func TestSpoken(t *testing.T) {
	info, err := audio.Probe(bytes.NewReader(spoken), int64(len(spoken)))
	if err != nil || info.Seconds != spokenSeconds || info.Estimated {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestHedgedServes: where jobs may be started twice, answers and clients that leave are as they are otherwise.
func TestHedgedServes(t *testing.T) {
	backend := newWhisper(t, func(s *whisper) { s.slots = 2 })
	p := newProxy(t, "backend "+backend.address()+"\nhedge on")
	p.ready(1)
	for range 5 {
		if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK || r.header.Get("X-Whisperpool-Attempts") != "1" {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	backend.answer = func(_ http.ResponseWriter, r *http.Request, _ sent) {
		leave()
		<-r.Context().Done()
	}
	if r, err := p.postWith(ctx, transcriptions, nil, wav(1), "model=base"); err == nil {
		t.Errorf("status %d", r.status)
	}
	eventually(t, "nothing is left inside", func() bool {
		s := p.pool().dispatcher.Snapshot()
		return s.Running == 0 && s.HeldBytes == 0 && p.pool().inside.Load() == 0 && p.pool().uploads.held.Load() == 0
	})
}

// TestDeathOnKeptConnection: a backend that dies of what it was sent on a kept connection, and is not there any
// more when that is redialled, is no stale connection.
func TestDeathOnKeptConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var died sync.Once
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go dieOfSecond(conn, listener, &died)
		}
	}()
	p := newProxy(t, "backend "+listener.Addr().String()+" {\n\tkind openai\n\tmodels base\n\tname mortal\n}")
	p.ready(1)
	try := func() scheduler.Outcome {
		return p.pool().trial(t.Context(), dispatcher.Attempt{Dispatch: scheduler.Dispatch{Backend: "mortal", Model: "base", Trial: true}})
	}
	if o := try(); o.Result != scheduler.Success {
		t.Fatalf("%+v", o)
	}
	if o := try(); o.Result != scheduler.Died || o.Unreached {
		t.Errorf("%+v", o)
	}
	if o := try(); o.Result != scheduler.Died || !o.Unreached {
		t.Errorf("with nobody there: %+v", o)
	}
}

// dieOfSecond answers a connection's first transcription, and works on the second for a while before it ends all.
func dieOfSecond(conn net.Conn, listener net.Listener, died *sync.Once) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for posts := 0; ; {
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		body := `{"object":"list","data":[{"id":"base"}]}`
		if req.Method == http.MethodPost {
			body = `{"text":"ask not what"}`
			posts++
		}
		if posts == 2 {
			<-time.After(100 * time.Millisecond)
			died.Do(func() { _ = listener.Close() })
			_ = conn.(*net.TCPConn).SetLinger(0)
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}
