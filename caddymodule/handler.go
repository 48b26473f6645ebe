package caddymodule

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/whisperpool/whisperpool/transcript"
)

// Handler serves transcriptions from a pool of whisper servers. It takes POST
// /v1/audio/transcriptions and /v1/audio/translations as OpenAI's API has them and /inference as
// whisper.cpp's server has it, /asr and /detect-language as whisper-asr-webservice has them, and answers
// GET /v1/models, /v1/models/{id}, /status and /health. All other paths, and OPTIONS, go to the next handler.
//
// Uploads are spooled, then queued, and each is sent to the backend that is expected to finish it
// first. When a backend fails before it has answered, another one is tried.
//
// Errors are answered in the shape of OpenAI's API, because its clients read nothing else. They are
// written directly and so do not go through handle_errors.
//
// Handlers that name the same pool share its backends and its queue. Their options backends, discover, policy,
// queue, breaker, attempts, retry_budget, hedge and record must then be equal; default_model, aliases, priority, tenant,
// upload and api_keys may differ.
type Handler struct {
	// The pool's name, in logs and metrics. Default: `default`.
	Pool string `json:"pool,omitempty"`

	// The whisper servers. At least one of them, or of discover, is required.
	Backends []Backend `json:"backends,omitempty"`

	// Where to find more whisper servers.
	Discover []Discover `json:"discover,omitempty"`

	// How a backend is chosen: `latency_aware`, `least_outstanding`, `fastest_idle`, `round_robin` or
	// `random`. Default: `latency_aware`.
	Policy string `json:"policy,omitempty"`

	// What may wait, and how long.
	Queue *Queue `json:"queue,omitempty"`

	// When a failing backend is left alone.
	Breaker *Breaker `json:"breaker,omitempty"`

	// How often a transcription is tried. Default: 3.
	Attempts int `json:"attempts,omitempty"`

	// Which share of the transcriptions that succeed may be spent on trying others again after a backend has
	// answered with an error, so that retries do not become the load: above 0, up to 1. Default: 0.1.
	RetryBudget float64 `json:"retry_budget,omitempty"`

	// Whether a transcription that takes far longer than predicted is started a second time on a backend
	// that is idle. Default: false.
	Hedge bool `json:"hedge,omitempty"`

	// Where to record what the scheduler does. Off unless set.
	Record *Record `json:"record,omitempty"`

	// The model for clients that name none, or one that stands for the default such as `whisper-1`.
	// Default: the only model that the backends serve, if it is one.
	DefaultModel string `json:"default_model,omitempty"`

	// Other names for models.
	Aliases map[string]string `json:"aliases,omitempty"`

	// How urgent a request is: placeholders that the request gives a value, such as
	// `{http.request.header.X-Priority}`. What is `interactive` goes first, what is `batch` last, unless
	// it has waited for long; anything else is `default`. Off unless set: a client can say what it likes.
	Priority string `json:"priority,omitempty"`

	// Who sends a request, for fairness among them. Off unless set.
	Tenant *Tenant `json:"tenant,omitempty"`

	// What uploads may take.
	Upload *Upload `json:"upload,omitempty"`

	// Where the API keys are that requests must bring as `Authorization: Bearer <key>`: placeholders that
	// are expanded when the configuration is loaded, such as `{file./etc/whisperpool/keys}` or
	// `{env.WHISPERPOOL_KEYS}`. There a line is: a name, the key or `sha256:` and the hexadecimal SHA-256
	// of it, and optionally `requests_per_minute=<count>` and `jobs=<count>` (at a time). Default: no key
	// is asked for.
	APIKeys string `json:"api_keys,omitempty"`

	pool *Pool
	keys *keyring
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.whisper_pool", New: func() caddy.Module { return new(Handler) }}
}

// Provision checks the configuration and stages it with the app. Nothing is asked of the backends
// before the app is started.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.fill()
	if err := h.validate(); err != nil {
		return fmt.Errorf("pool %s: %w", h.Pool, err)
	}
	keys, err := loadKeys(h.APIKeys, caddy.NewReplacer())
	if err != nil {
		return fmt.Errorf("pool %s: %w", h.Pool, err)
	}
	h.keys = keys
	app, err := ctx.App("whisper_pool")
	if err != nil {
		return err
	}
	h.pool = loadPool(h.Pool)
	if err := app.(*App).stage(ctx, h, h.pool); err != nil {
		return fmt.Errorf("pool %s: %w", h.Pool, err)
	}
	return nil
}

// Cleanup gives the pool back. Requests that run have it still.
func (h *Handler) Cleanup() error {
	if h.pool != nil {
		h.pool.release()
		h.pool = nil
	}
	return nil
}

// The paths that are ours, and how each is asked for.
var methods = map[string]string{
	"/v1/audio/transcriptions": http.MethodPost,
	"/v1/audio/translations":   http.MethodPost,
	"/inference":               http.MethodPost,
	"/asr":                     http.MethodPost,
	"/detect-language":         http.MethodPost,
	"/status":                  http.MethodGet,
	"/v1/models":               http.MethodGet,
	"/health":                  http.MethodGet,
}

// ServeHTTP serves what is ours and passes the rest on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	model := strings.TrimPrefix(r.URL.Path, "/v1/models/")
	if model == r.URL.Path {
		model = ""
	}
	method, ours := methods[r.URL.Path]
	if model != "" {
		method, ours = http.MethodGet, true
	}
	if !ours || r.Method == http.MethodOptions {
		return next.ServeHTTP(w, r)
	}
	id := requestID(r)
	w.Header().Set(requestIDHeader, id) // whatever becomes of it: it is what OpenAI's clients call request_id
	// A reference of its own: a reload may clean the handler up under the request.
	pool := loadPool(h.Pool)
	defer pool.release()
	if r.URL.Path != "/health" { // which tells nothing, to whoever balances load before this
		leave, ok := h.admit(w, r, pool, id)
		if !ok {
			return nil
		}
		defer leave()
	}
	if r.Method != method && (r.Method != http.MethodHead || method != http.MethodGet) {
		h.refuseMethod(w, r, method)
		return nil
	}
	switch r.URL.Path {
	case "/health":
		serveHealth(w, r, pool)
	case "/status":
		serveStatus(w)
	default:
		if d, takesAudio := dialects[r.URL.Path]; takesAudio {
			h.serve(w, r, pool, d, id)
		} else {
			h.serveModels(w, r, pool, model)
		}
	}
	return nil
}

func (h *Handler) refuseMethod(w http.ResponseWriter, r *http.Request, method string) {
	if method == http.MethodGet {
		method = "GET, HEAD"
	}
	w.Header().Set("Allow", method+", OPTIONS")
	h.refuse(w, r, nil, &transcript.Error{
		Status: http.StatusMethodNotAllowed, Type: "invalid_request_error", Code: "method_not_allowed", Final: true,
		Message: fmt.Sprintf("%s is asked for with %s, not with %s", r.URL.Path, method, quoted(r.Method)),
	})
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
