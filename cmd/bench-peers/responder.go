package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// responder is a backend with OpenAI's API that answers as soon as it has read a request, or holds
// all requests back until it is released.
type responder struct {
	address string
	server  *http.Server
	held    chan struct{} // closed when requests may be answered
	served  atomic.Int64
}

// startResponder listens on the loopback interface; a held one answers nothing before release.
func startResponder(held bool) (*responder, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // no name is looked up
	if err != nil {
		return nil, err
	}
	r := &responder{address: l.Addr().String(), held: make(chan struct{})}
	if !held {
		close(r.held)
	}
	mux := http.NewServeMux()
	say := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		}
	}
	mux.HandleFunc("GET /health", say(`{"status":"ok"}`))
	mux.HandleFunc("GET /v1/models", say(`{"object":"list","data":[{"id":"base","object":"model"}]}`))
	answer := say(`{"text":"The answer of a responder that heard nothing."}`)
	mux.HandleFunc("POST /v1/audio/transcriptions", func(w http.ResponseWriter, q *http.Request) {
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return // nobody is there to answer
		}
		select {
		case <-r.held:
		case <-q.Context().Done():
			return
		}
		answer(w, q)
		r.served.Add(1)
	})
	r.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = r.server.Serve(l) }() // it ends with stop
	return r, nil
}

func (r *responder) release() { close(r.held) }

func (r *responder) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if r.server.Shutdown(ctx) != nil {
		_ = r.server.Close() // requests are still under way
	}
}
