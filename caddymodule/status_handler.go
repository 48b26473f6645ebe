package caddymodule

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(StatusHandler{})
	httpcaddyfile.RegisterHandlerDirective("whisper_pool_status", parseStatusDirective)
	httpcaddyfile.RegisterDirectiveOrder("whisper_pool_status", httpcaddyfile.Before, "reverse_proxy")
}

func parseStatusDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(StatusHandler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// StatusHandler shows on a site how the pools do, to read only: GET /whisper_pool/ is a page, GET
// /whisper_pool/pools the same as JSON, and GET /whisper_pool/autoscale what whoever scales the pools goes by. All
// other paths, and other methods, go to the next handler.
//
// Whoever reaches the site sees it, so put an authentication handler before it where that is not everybody's business.
// It tells the names of pools, backends, GPU classes and models, how much they have served, and how long recordings
// are and wait. It has no addresses, unless asked to, and never ids of requests, or anything else that a client wrote.
type StatusHandler struct {
	// The pools that are shown. Default: all pools of this Caddy.
	Pools []string `json:"pools,omitempty"`

	// Whether to show the addresses of backends. Without it, a backend that has no name of its own is called by its
	// place. Default: false.
	Addresses bool `json:"addresses,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (StatusHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.whisper_pool_status", New: func() caddy.Module { return new(StatusHandler) }}
}

// Provision checks the names of the pools. Whether there are such is only known while they are served.
func (h *StatusHandler) Provision(caddy.Context) error {
	for i, name := range h.Pools {
		if err := checkName("pool", name); err != nil {
			return err
		}
		if slices.Contains(h.Pools[:i], name) {
			return fmt.Errorf("pool %s is given twice", name)
		}
	}
	return nil
}

// ServeHTTP serves the page and its JSON, wherever a prefix before them was stripped, and passes the rest on.
func (h *StatusHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return next.ServeHTTP(w, r)
	}
	switch r.URL.Path {
	case strings.TrimSuffix(adminPath, "/"):
		w.Header().Set("Location", "whisper_pool/") // relative, since a prefix may have been stripped
		w.WriteHeader(http.StatusPermanentRedirect)
	case adminPath:
		statusPage.ServeHTTP(w, r)
	case adminPath + "pools":
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, http.StatusOK, statusOf(h.shown(), audience{addresses: h.Addresses}))
	case adminPath + autoscalePath:
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, http.StatusOK, autoscaleOf(h.shown()))
	default:
		return next.ServeHTTP(w, r)
	}
	return nil
}

// shown are the pools to show, by name.
func (h *StatusHandler) shown() []*Pool {
	all := allPools()
	if len(h.Pools) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(p *Pool) bool { return !slices.Contains(h.Pools, p.name) })
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	whisper_pool_status [<matcher>] [<pool...>] {
//	    addresses on|off
//	}
func (h *StatusHandler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	h.Pools = d.RemainingArgs()
	if err := parseBlock(d, "whisper_pool_status", statusOptions, h); err != nil {
		return err
	}
	if err := h.Provision(caddy.Context{}); err != nil {
		return d.Errf("whisper_pool_status: %v", err)
	}
	return nil
}

var statusOptions = options[*StatusHandler]{
	"addresses": {"addresses on|off", false, onOff(func(h *StatusHandler) *bool { return &h.Addresses })},
}

var (
	_ caddy.Provisioner           = (*StatusHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*StatusHandler)(nil)
	_ caddyfile.Unmarshaler       = (*StatusHandler)(nil)
)
