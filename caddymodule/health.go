package caddymodule

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/whisperpool/whisperpool/scheduler"
)

// serveHealth answers GET /health: 200 while requests are served, 503 once this process shuts down
// (from the beginning of Caddy's shutdown_delay) or has no configuration for the pool. With ?pool it
// is 503 also when no backend is usable. It is for load balancers before the proxy; restarting the
// proxy helps against neither, so it is not for liveness probes.
func serveHealth(w http.ResponseWriter, r *http.Request, pool *Pool) {
	w.Header().Set("Cache-Control", "no-store")
	if shuttingDown(r) || !pool.serving() {
		w.Header().Set("Retry-After", "5")
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "shutting down"})
		return
	}
	if !r.URL.Query().Has("pool") {
		writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
		return
	}
	snapshot := pool.dispatcher.Snapshot()
	usable := countUsable(snapshot)
	state, status := "ok", http.StatusOK
	if usable == 0 {
		state, status = "no usable backend", http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	}
	writeJSON(w, status, map[string]any{
		"status": state, "pool": pool.name, "backends": len(snapshot.Backends), "usable": usable, "queued": snapshot.Queued,
	})
}

func countUsable(s scheduler.Snapshot) int {
	usable := 0
	for _, b := range s.Backends {
		if b.Usable {
			usable++
		}
	}
	return usable
}

// shuttingDown: the process is, or Caddy waits out its shutdown_delay.
func shuttingDown(r *http.Request) bool {
	if caddy.Exiting() {
		return true
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	down, _ := repl.Get("http.shutting_down")
	return down == true
}
