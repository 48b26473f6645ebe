package caddymodule

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/transcript"
)

// The process's end, in Caddy's order: 1. the signal, from which on /health fails, 2. shutdown_delay, in which all is
// served, 3. the servers stop accepting, and grace_period begins, 4. shortly before it ends what is left is
// answered with 503, since the next thing is that 5. connections are cut. A second signal goes to 5 at once.
const (
	// lastWords is the part of the grace period that is kept for step 4, and lastWordsMax its most.
	lastWords    = 0.2
	lastWordsMax = time.Second
	// shutDownRetry is when to come back: another process may be up by then.
	shutDownRetry = 5 * time.Second
)

// shutDown is the refusal of what was not done by the end of the grace period.
func shutDown() *transcript.Error {
	return transcript.Unavailable("shutting_down", shutDownRetry, "the proxy is shutting down; send the request again")
}

// hurry ends an upload that is still under way when the grace period ends.
func (t *transcription) hurry(w http.ResponseWriter) (stop func() bool) {
	return context.AfterFunc(t.pool.closing, func() {
		_ = http.NewResponseController(w).SetReadDeadline(past)
	})
}

// watchShutdown has the pool give up what is left before the server's grace period ends. ctx is that of a
// handler's Provision.
func watchShutdown(ctx caddy.Context, pool *Pool) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return
	}
	server.RegisterOnShutdown(func() {
		if !caddy.Exiting() {
			return // after a reload requests run on
		}
		app, err := ctx.AppIfConfigured("http")
		if err != nil {
			return
		}
		if grace := time.Duration(app.(*caddyhttp.App).GracePeriod); grace > 0 { // else everything is waited for
			time.AfterFunc(grace-min(time.Duration(lastWords*float64(grace)), lastWordsMax), pool.close)
		}
	})
}

// signals is what ends the process at once when it is shutting down already.
var signals sync.Once

// stopping has a second signal end the process: Caddy does so for a second SIGINT alone, and not for one
// that comes after SIGTERM.
type stopping struct{}

// Handle is called before anything is stopped, also for a reload.
func (stopping) Handle(context.Context, caddy.Event) error {
	if !caddy.Exiting() {
		return nil
	}
	signals.Do(func() {
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		go func() {
			caddy.Log().Named("whisper_pool").Warn("ending at once, as a second signal says", zap.Stringer("signal", <-again))
			os.Exit(caddy.ExitCodeForceQuit)
		}()
	})
	return nil
}

var _ caddyevents.Handler = stopping{}
