package backend

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Server is the HTTP API in front of one device, with the models on it.
type Server struct {
	cfg      Config
	log      *slog.Logger
	instance string
	since    time.Time
	metrics  *metrics
	routes   routes
	stall    time.Duration // longest pause within an upload

	tendEvery time.Duration

	device   atomic.Pointer[device] // the first that was loaded, which tells what the server runs on; nil until it is
	used     atomic.Bool            // the server was given its first engine
	shelf    *shelf                 // the models
	keys     *keys                  // nil: none is needed
	slots    *slots                 // places on the device, which all models share
	gate     *gate                  // transcription requests
	uploads  atomic.Int64           // requests whose body is being read
	memory   *semaphore.Weighted    // bytes of uploads in memory
	decoders *semaphore.Weighted    // uploads that are decoded at once
	decoded  *semaphore.Weighted    // seconds of decoded audio in memory

	detectors detectors // of speech
}

// New makes a server for an engine. The engine may be nil: then the server says that it is loading
// until it is given one with [Server.Use]. The error says what is wrong with cfg or the engine.
func New(cfg Config, engine Transcriber) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails, by its contract
	s := &Server{
		cfg: cfg, log: cfg.Log, instance: hex.EncodeToString(id), since: time.Now(),
		gate: newGate(), stall: uploadStall, tendEvery: tendEvery, slots: newSlots(0, cfg.Queue),
		memory:   semaphore.NewWeighted(uploadMemoryAll),
		decoders: semaphore.NewWeighted(int64(cfg.Decoders)),
		decoded:  semaphore.NewWeighted(decodedSecondsMax(cfg)),

		detectors: newDetectors(cfg.Detectors),
	}
	s.metrics = newMetrics(s)
	s.shelf = newShelf(s, cfg.Library)
	if cfg.KeyFile != "" {
		if s.keys, err = newKeys(cfg.KeyFile, s.log); err != nil {
			return nil, err
		}
	}
	s.routes = s.newRoutes()
	if engine != nil {
		if err := s.Use(engine); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Handler answers all requests of the API, see the routes.
func (s *Server) Handler() http.Handler {
	if s.cfg.Wrap != nil {
		return s.guarded(s.cfg.Wrap(s.routes))
	}
	return s.guarded(s.routes)
}

// errShutdown is why jobs are aborted that outlast the grace period.
var errShutdown = errors.New("the server is shutting down")

// Serve answers on ln until ctx ends, then drains: /health fails at once, new work is refused, and
// what was accepted may go on for the configured grace period before it is aborted. load
// makes the first engine while /health and /load-report are answered already; its failure ends the
// server. nil: the engine that New got, or the library's default model. Serve closes the listener and the engine, and returns nil after a drain.
func (s *Server) Serve(ctx context.Context, ln net.Listener, load func() (Transcriber, error)) error {
	base, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	server := &http.Server{
		Handler:           s.Handler(),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	loaded := make(chan error, 1)
	if load == nil && s.cfg.Library != nil {
		load = s.loadDefault
	}
	if load != nil {
		go func() { loaded <- s.load(load) }()
	}
	tending, rest := context.WithCancel(ctx)
	var tended sync.WaitGroup
	tended.Go(func() { s.tend(tending) })
	defer tended.Wait()
	defer rest()
	for {
		select {
		case err := <-served:
			return fmt.Errorf("listen on %s: %w", ln.Addr(), err)
		case err := <-loaded:
			if err != nil {
				_ = server.Close()
				return err
			}
		case <-ctx.Done():
			return s.drain(server, abort)
		}
	}
}

// loadDefault makes the engine of the library's first model.
func (s *Server) loadDefault() (Transcriber, error) {
	known := s.shelf.known()
	if len(known) == 0 {
		return nil, errors.New("there is no model to serve")
	}
	return s.cfg.Library.Load(s.shelf.life, known[0].ID, max(1, s.cfg.MinSlots))
}

func (s *Server) load(load func() (Transcriber, error)) error {
	engine, err := load()
	if err != nil {
		return err
	}
	return s.Use(engine)
}

// drain ends the server: first what is in it may finish, then it is aborted.
func (s *Server) drain(server *http.Server, abort context.CancelCauseFunc) error {
	empty := s.gate.close()
	s.log.Info("shutting down", "requests", s.gate.count(), "grace", s.cfg.Grace)
	select {
	case <-empty:
	case <-time.After(s.cfg.Grace):
		s.log.Warn("aborting what is left", "requests", s.gate.count())
		abort(errShutdown)
		// Uploads do not look at the context; their connections are closed below.
	}
	const answered = 3 * time.Second // for aborted jobs to end and answers to reach their clients
	ctx, cancel := context.WithTimeout(context.Background(), answered)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
	select {
	case <-empty:
	case <-time.After(answered):
		return fmt.Errorf("%d requests did not stop", s.gate.count())
	}
	return errors.Join(s.shelf.shut(), s.detectors.close())
}
