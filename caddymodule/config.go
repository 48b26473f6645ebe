package caddymodule

import (
	"encoding/json"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/whisperpool/whisperpool/scheduler"
)

// Defaults of the options that have one; each is told again at its field.
const (
	defaultPoolName   = "default"
	defaultPolicy     = "latency_aware"
	defaultRequests   = 10000
	defaultQueueBytes = 20 << 30
	defaultMaxWait    = 4 * time.Minute
	defaultFailures   = 3
	defaultOpenFor    = 5 * time.Second
	defaultMaxOpenFor = 60 * time.Second
	defaultSlow       = 4
	defaultAttempts   = 3
	defaultBudget     = 0.1
	defaultUploadMax  = 1 << 30
	defaultMemory     = 256 << 20
	defaultRecordSize = 64 << 20
	defaultRecordKeep = 10
)

// Backend is one whisper server that the pool sends transcriptions to.
type Backend struct {
	// Where it is: `host:port`, or a URL with scheme http or https and optionally a path that goes
	// before the paths of its API, such as `https://gpu.internal/whisper`. Required.
	Address string `json:"address,omitempty"`

	// The GPU class, such as `T4` or `H100`: what speed to expect before anything was measured, and
	// a label in metrics. Optional.
	Class string `json:"class,omitempty"`

	// What it is called in response headers, logs and metrics. Default: the address.
	Name string `json:"name,omitempty"`

	// The models that may be sent to it. Default: those that it says it serves; for servers that
	// don't say, any.
	Models []string `json:"models,omitempty"`

	// How many transcriptions it works on at a time. Default: what it reports, else as many as turn out
	// to be useful, from 1 up; 1 for whisper.cpp's server.
	Slots int `json:"slots,omitempty"`

	// What kind of server it is: `whisperpool`, `openai` or `whisper_server`. Default: found out by
	// asking it.
	Kind string `json:"kind,omitempty"`

	// Header fields for every request to it, probes included. Placeholders such as `{env.KEY}` and
	// `{file./run/key}` are expanded once, when the configuration is loaded; one that is empty or
	// unknown then is an error.
	HeaderUp *headers.HeaderOps `json:"header_up,omitempty"`

	// The path to ask for its health. Default: that of its kind.
	HealthURI string `json:"health_uri,omitempty"`

	// How to connect to it. Default: `http` with a dial timeout of 3 s, no compression, and idle
	// connections closed after 4 s, since common whisper servers close theirs after 5 s. TLS is on
	// for addresses with https.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`
}

// Queue bounds what waits for a backend.
type Queue struct {
	// How many requests may wait. One more gets 503 with Retry-After. Default: 10000.
	MaxRequests int `json:"max_requests,omitempty"`

	// How many bytes of uploads may be held at once, in memory and in files together. Default: 20 GiB
	// or half of what is free where uploads are spooled, whichever is less.
	MaxBytes int64 `json:"max_bytes,omitempty"`

	// How long a request may wait. One that would wait longer gets 503 with Retry-After. Default: 4m,
	// since clients built on Node hang up after 5 m without an answer.
	MaxWait caddy.Duration `json:"max_wait,omitempty"`

	// What goes first of a tenant's requests of one priority: `fifo`, or `shortest_first`, which lets
	// short recordings pass long ones a few times. Default: `fifo`.
	Order string `json:"order,omitempty"`
}

// Breaker says when a backend that fails is left alone.
type Breaker struct {
	// After how many failures running. Default: 3.
	Failures int `json:"failures,omitempty"`

	// For how long the first time; doubled each time after. Default: 5s.
	OpenFor caddy.Duration `json:"open_for,omitempty"`

	// For how long at most. Default: 60s.
	MaxOpenFor caddy.Duration `json:"max_open_for,omitempty"`

	// How many times the predicted time a transcription may take before it counts against its backend as
	// slow, where that of others does not. Default: 4.
	SlowFactor float64 `json:"slow_factor,omitempty"`
}

// Record has what the pool's scheduler is told and decides written down, to be looked at or simulated again:
// arrivals with models, lengths and sizes, where they were sent and how they ended, and the backends with their
// addresses. There is no audio, text, file name or key in it.
type Record struct {
	// The folder for the segments, each a file of JSON lines. Required.
	Folder string `json:"folder,omitempty"`

	// How large a segment grows, in bytes. Default: 64 MiB.
	MaxSize int64 `json:"max_size,omitempty"`

	// How many segments are kept. Default: 10.
	Keep int `json:"keep,omitempty"`
}

// Tenant tells who sends, for fairness: tenants take turns, so one who sends a flood delays itself.
type Tenant struct {
	// What tells tenants apart: placeholders that the request gives a value, such as
	// `{http.request.header.Authorization}`. Only its hash is kept, and that is not logged. Requests
	// that give none are one tenant together, to which max_queued does not apply. Required.
	Key string `json:"key,omitempty"`

	// How many requests of one tenant may wait. One more gets 429 with Retry-After. Default: no limit.
	MaxQueued int `json:"max_queued,omitempty"`
}

// Upload bounds the uploads of a site.
type Upload struct {
	// The largest request body in bytes; a larger one gets 413. Default: 1 GiB.
	MaxSize int64 `json:"max_size,omitempty"`

	// How many bytes of all the pool's uploads together are kept in memory. What is beyond goes to
	// files. Default: 256 MiB.
	Memory int64 `json:"memory,omitempty"`

	// The folder for those files. They have no name there and are gone with the process. Default: a
	// folder in Caddy's data directory, since /tmp may be memory.
	Spool string `json:"spool,omitempty"`
}

// governing is the part of a handler's configuration that governs backends, and so must be the same
// wherever a pool is named.
type governing struct {
	Backends    []Backend  `json:"backends"`
	Discover    []Discover `json:"discover"`
	Policy      string     `json:"policy"`
	Queue       Queue      `json:"queue"`
	Breaker     Breaker    `json:"breaker"`
	Attempts    int        `json:"attempts"`
	RetryBudget float64    `json:"retry_budget"`
	Hedge       bool       `json:"hedge"`
	Record      *Record    `json:"record"`
}

// fill puts the defaults where an option was left out.
func (h *Handler) fill() {
	orString(&h.Pool, defaultPoolName)
	orString(&h.Policy, defaultPolicy)
	orNumber(&h.Attempts, defaultAttempts)
	orNumber(&h.RetryBudget, defaultBudget)
	h.Queue, h.Breaker, h.Upload = orNew(h.Queue), orNew(h.Breaker), orNew(h.Upload)
	if h.Record != nil {
		h.Record = orNew(h.Record)
		orNumber(&h.Record.MaxSize, defaultRecordSize)
		orNumber(&h.Record.Keep, defaultRecordKeep)
	}
	orNumber(&h.Queue.MaxRequests, defaultRequests)
	orNumber(&h.Queue.MaxWait, caddy.Duration(defaultMaxWait))
	orString(&h.Queue.Order, string(scheduler.FIFO))
	orNumber(&h.Breaker.Failures, defaultFailures)
	orNumber(&h.Breaker.OpenFor, caddy.Duration(defaultOpenFor))
	orNumber(&h.Breaker.MaxOpenFor, max(caddy.Duration(defaultMaxOpenFor), h.Breaker.OpenFor))
	orNumber(&h.Breaker.SlowFactor, defaultSlow)
	orNumber(&h.Upload.MaxSize, defaultUploadMax)
	orNumber(&h.Upload.Memory, defaultMemory)
	orString(&h.Upload.Spool, defaultSpool())
	for i := range h.Discover {
		orNumber(&h.Discover[i].Refresh, caddy.Duration(defaultRefresh))
	}
	for i := range h.Backends {
		orString(&h.Backends[i].Name, h.Backends[i].Address)
	}
}

// governs is what of the configuration governs backends. Call fill before.
func (h *Handler) governs() governing {
	return governing{
		Backends: h.Backends, Discover: h.Discover, Policy: h.Policy, Queue: *h.Queue, Breaker: *h.Breaker, Attempts: h.Attempts,
		RetryBudget: h.RetryBudget, Hedge: h.Hedge, Record: h.Record,
	}
}

// canonical is JSON that is the same for configurations that mean the same.
func canonical(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	// Raw parts keep the spacing and the order that the user gave them, until decoded.
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return "", err
	}
	text, err = json.Marshal(plain)
	return string(text), err
}

func orString(s *string, def string) {
	if *s == "" {
		*s = def
	}
}

func orNumber[N int | int64 | float64 | caddy.Duration](n *N, def N) {
	if *n == 0 {
		*n = def
	}
}

// orNew is a copy, or something new.
func orNew[T any](p *T) *T {
	out := new(T)
	if p != nil {
		*out = *p
	}
	return out
}
