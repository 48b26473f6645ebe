package caddymodule

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/transcript"
)

// userPlaceholder is where Caddy's own authentication puts who asks, for access logs and for the option
// tenant.
const userPlaceholder = "http.auth.user.id"

// admissions counts what the owners of API keys do, by name. They outlive configurations, or a reload
// would give everybody a new minute.
type admissions struct {
	mu     sync.Mutex
	owners map[string]*owner // only names of configurations
}

type owner struct {
	paid time.Time // until when the requests that were admitted are paid for, at an even rate
	jobs int
}

// enter admits a request at now, or tells why not. One that is admitted must leave.
func (a *admissions) enter(g *grant, now time.Time) *transcript.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.owners[g.name]
	if o == nil {
		o = new(owner)
		if a.owners == nil {
			a.owners = map[string]*owner{}
		}
		a.owners[g.name] = o
	}
	if g.jobs > 0 && o.jobs >= g.jobs {
		return tooMany("too_many_jobs", time.Second, "as many requests with this API key are being served as it may have at a time, which is %d; try again later", g.jobs)
	}
	if g.perMinute > 0 {
		// The leaky bucket as a meter (GCRA, ITU-T I.371): a minute's worth may come at once.
		next := o.paid
		if next.Before(now) {
			next = now
		}
		next = next.Add(time.Minute / time.Duration(g.perMinute))
		if early := next.Sub(now) - time.Minute; early > 0 {
			return tooMany("rate_limit_exceeded", early, "more requests with this API key than it may send, which is %d a minute; try again later", g.perMinute)
		}
		o.paid = next
	}
	o.jobs++
	return nil
}

func (a *admissions) leave(g *grant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.owners[g.name].jobs--
}

func tooMany(code string, again time.Duration, format string, args ...any) *transcript.Error {
	return &transcript.Error{
		Status: http.StatusTooManyRequests, Type: "rate_limit_error", Code: code, RetryAfter: max(again, time.Second),
		Message: fmt.Sprintf(format, args...),
	}
}

// admit lets a request in by its API key, where the site has any; leave is to be called when it has been
// served. What is not let in has been answered.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, pool *Pool, id string) (leave func(), ok bool) {
	if h.keys == nil {
		return func() {}, true
	}
	g := h.keys.of(r)
	if g == nil {
		h.refuseEntry(w, r, pool, id, "unauthorized", unauthorized(w, r))
		return nil, false
	}
	if repl, has := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); has {
		repl.Set(userPlaceholder, g.name)
	}
	if r.Method != http.MethodPost { // asking for models is free
		return func() {}, true
	}
	if problem := pool.admissions.enter(g, time.Now()); problem != nil {
		h.refuseEntry(w, r, pool, id, problem.Code, problem, zap.String("key", g.name))
		return nil, false
	}
	return func() { pool.admissions.leave(g) }, true
}

// unauthorized is in the words and the shape of OpenAI's API.
func unauthorized(w http.ResponseWriter, r *http.Request) *transcript.Error {
	w.Header().Set("WWW-Authenticate", `Bearer realm="whisperpool"`)
	problem := transcript.Invalid("", "invalid_api_key", "the API key is not one that is known here")
	if r.Header.Get("Authorization") == "" {
		problem.Message = "no API key was sent; send one as Authorization: Bearer KEY, which OpenAI's clients do with their option api_key"
	}
	problem.Status = http.StatusUnauthorized
	return problem
}

func (h *Handler) refuseEntry(w http.ResponseWriter, r *http.Request, pool *Pool, id, outcome string, problem *transcript.Error, fields ...zap.Field) {
	logAccess(r.Context(), &access{pool: pool.name, id: id, outcome: outcome, code: problem.Code})
	requestsTotal.WithLabelValues(pool.name, outcome).Inc()
	refusalsTotal.WithLabelValues(pool.name, problem.Code).Inc()
	pool.log().Debug("request refused", append(fields, zap.String("request_id", id), zap.Int("status", problem.Status), zap.String("code", problem.Code))...)
	h.refuse(w, r, nil, problem)
}
