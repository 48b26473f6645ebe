package caddymodule

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("whisper_pool", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("whisper_pool", httpcaddyfile.Before, "reverse_proxy")
}

func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// option is a subdirective: how it is written, whether it may be repeated, and what reads it. Its
// name has been consumed when parse is called.
type option[T any] struct {
	usage  string
	repeat bool
	parse  parser[T]
}

// parser reads an option's values; usage is how it is written.
type parser[T any] func(d *caddyfile.Dispenser, usage string, into T) error

type options[T any] map[string]option[T]

// countMax is the most of anything that is counted and has no limit of its own.
const countMax = 1_000_000

// The subdirectives of each block.
var (
	poolOptions = options[*Handler]{
		"backend":       {"backend <address> [<gpu class>] { ... }", true, parseBackend},
		"discover":      {"discover srv <name> [<gpu class>] | a <name> <port> [<gpu class>] | multi [<gpu class>] { ... }", true, parseDiscover},
		"policy":        {"policy <name>", false, text(checkPolicy, func(h *Handler) *string { return &h.Policy })},
		"queue":         {"queue { ... }", false, block("queue", queueOptions, func(h *Handler) **Queue { return &h.Queue })},
		"breaker":       {"breaker { ... }", false, block("breaker", breakerOptions, func(h *Handler) **Breaker { return &h.Breaker })},
		"attempts":      {"attempts <count>", false, count(countMax, func(h *Handler) *int { return &h.Attempts })},
		"retry_budget":  {"retry_budget <percentage>%", false, percentage(func(h *Handler) *float64 { return &h.RetryBudget })},
		"hedge":         {"hedge on|off", false, onOff(func(h *Handler) *bool { return &h.Hedge })},
		"record":        {"record <folder> { ... }", false, parseRecord},
		"default_model": {"default_model <model>", false, text(checkModel, func(h *Handler) *string { return &h.DefaultModel })},
		"alias":         {"alias <name> <model>", true, parseAlias},
		"priority":      {"priority <placeholder>", false, text(checkPlaceholder, func(h *Handler) *string { return &h.Priority })},
		"tenant":        {"tenant <placeholder> { ... }", false, parseTenant},
		"upload":        {"upload { ... }", false, block("upload", uploadOptions, func(h *Handler) **Upload { return &h.Upload })},
		"api_keys":      {"api_keys {file.<path>}|{env.<variable>}", false, text(checkAPIKeys, func(h *Handler) *string { return &h.APIKeys })},
	}
	backendOptions = options[*backendBlock]{
		"name":       {"name <name>", false, parseBackendName},
		"models":     {"models <model...>", false, parseModels},
		"slots":      {"slots <count>", false, count(slotsMax, func(b *backendBlock) *int { return &b.Slots })},
		"kind":       {"kind <kind>", false, text(checkKind, func(b *backendBlock) *string { return &b.Kind })},
		"header_up":  {"header_up [+|-]<field> [<value|regexp> [<replacement>]]", true, parseHeaderUp},
		"health_uri": {"health_uri <path>", false, text(checkHealthURI, func(b *backendBlock) *string { return &b.HealthURI })},
		"transport":  {"transport <name> { ... }", false, parseTransport},
	}
	queueOptions = options[*Queue]{
		"max_requests": {"max_requests <count>", false, count(countMax, func(q *Queue) *int { return &q.MaxRequests })},
		"max_bytes":    {"max_bytes <size>", false, size(func(q *Queue) *int64 { return &q.MaxBytes })},
		"max_wait":     {"max_wait <duration>", false, duration(func(q *Queue) *caddy.Duration { return &q.MaxWait })},
		"order":        {"order fifo|shortest_first", false, text(checkOrder, func(q *Queue) *string { return &q.Order })},
	}
	breakerOptions = options[*Breaker]{
		"failures":     {"failures <count>", false, count(countMax, func(b *Breaker) *int { return &b.Failures })},
		"open_for":     {"open_for <duration>", false, duration(func(b *Breaker) *caddy.Duration { return &b.OpenFor })},
		"slow_factor":  {"slow_factor <factor>", false, number(checkSlowFactor, func(b *Breaker) *float64 { return &b.SlowFactor })},
		"max_open_for": {"max_open_for <duration>", false, duration(func(b *Breaker) *caddy.Duration { return &b.MaxOpenFor })},
	}
	recordOptions = options[*Record]{
		"max_size": {"max_size <size>", false, size(func(r *Record) *int64 { return &r.MaxSize })},
		"keep":     {"keep <count>", false, count(countMax, func(r *Record) *int { return &r.Keep })},
	}
	tenantOptions = options[*Tenant]{
		"max_queued": {"max_queued <count>", false, count(countMax, func(t *Tenant) *int { return &t.MaxQueued })},
	}
	uploadOptions = options[*Upload]{
		"max_size": {"max_size <size>", false, size(func(u *Upload) *int64 { return &u.MaxSize })},
		"memory":   {"memory <size>", false, size(func(u *Upload) *int64 { return &u.Memory })},
		"spool":    {"spool <folder>", false, text(checkFolder, func(u *Upload) *string { return &u.Spool })},
	}
)

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	whisper_pool [<matcher>] [<name>] {
//	    backend <address> [<gpu class>] {
//	        name       <name>
//	        models     <model...>
//	        slots      <count>
//	        kind       whisperpool|openai|whisper_server
//	        header_up  [+|-]<field> [<value|regexp> [<replacement>]]
//	        health_uri <path>
//	        transport  <name> {
//	            ...
//	        }
//	    }
//	    discover srv <name> | a <name> <port> | multi [<gpu class>] {
//	        refresh <duration>
//	        <options of backend but name, and of Caddy's dynamic upstream source>
//	    }
//	    policy <name>
//	    queue {
//	        max_requests <count>
//	        max_bytes    <size>
//	        max_wait     <duration>
//	        order        fifo|shortest_first
//	    }
//	    breaker {
//	        failures     <count>
//	        open_for     <duration>
//	        max_open_for <duration>
//	        slow_factor  <factor>
//	    }
//	    attempts     <count>
//	    retry_budget <percentage>%
//	    hedge        on|off
//	    record <folder> {
//	        max_size <size>
//	        keep     <count>
//	    }
//
//	    default_model <model>
//	    alias         <name> <model>
//	    priority      <placeholder>
//	    tenant        <placeholder> {
//	        max_queued <count>
//	    }
//	    upload {
//	        max_size <size>
//	        memory   <size>
//	        spool    <folder>
//	    }
//	    api_keys {file.<path>}|{env.<variable>}
//	}
//
// The same name in two sites is the same pool: what governs its backends (all above the empty line)
// must then be equal in both, what is below may differ.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	switch args := d.RemainingArgs(); len(args) {
	case 0:
	case 1:
		if err := checkName("pool", args[0]); err != nil {
			return d.Errf("%v", err)
		}
		h.Pool = args[0]
	default:
		return d.Errf("whisper_pool takes one name, not %d", len(args))
	}
	if err := parseBlock(d, "whisper_pool", poolOptions, h); err != nil {
		return err
	}
	whole := *h
	whole.Backends, whole.Discover = slices.Clone(h.Backends), slices.Clone(h.Discover)
	whole.fill()
	if err := whole.validate(); err != nil {
		return d.Errf("whisper_pool %s: %v", whole.Pool, err)
	}
	return nil
}

// parseBlock reads the options of a block.
func parseBlock[T any](d *caddyfile.Dispenser, what string, known options[T], into T) error {
	seen := map[string]bool{}
	last := what
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if name == "{" {
			return d.Errf("%s takes no block", last)
		}
		opt, ok := known[name]
		if !ok {
			return d.Errf("%s has no option %s; it has %s", what, name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if seen[name] && !opt.repeat {
			return d.Errf("%s is given twice", name)
		}
		seen[name], last = true, name
		if err := opt.parse(d, opt.usage, into); err != nil {
			return err
		}
	}
	return nil
}

func checkModel(model string) error { return checkName("model", model) }

func parseAlias(d *caddyfile.Dispenser, usage string, h *Handler) error {
	args, err := arguments(d, usage, 2, 2)
	if err != nil {
		return err
	}
	from, to := args[0], args[1]
	if _, ok := h.Aliases[from]; ok {
		return d.Errf("alias %s is given twice", from)
	}
	if err := checkAlias(h.Aliases, from, to); err != nil {
		return d.Errf("%v", err)
	}
	if h.Aliases == nil {
		h.Aliases = map[string]string{}
	}
	h.Aliases[from] = to
	return nil
}

func parseRecord(d *caddyfile.Dispenser, usage string, h *Handler) error {
	h.Record = new(Record)
	if err := text(checkFolder, func(r *Record) *string { return &r.Folder })(d, usage, h.Record); err != nil {
		return err
	}
	return parseBlock(d, "record", recordOptions, h.Record)
}

func parseTenant(d *caddyfile.Dispenser, usage string, h *Handler) error {
	h.Tenant = new(Tenant)
	if err := text(checkPlaceholder, func(t *Tenant) *string { return &t.Key })(d, usage, h.Tenant); err != nil {
		return err
	}
	return parseBlock(d, "tenant", tenantOptions, h.Tenant)
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
