package caddymodule

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/dustin/go-humanize"
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

// The subdirectives of each block.
var (
	poolOptions = options[*Handler]{
		"backend":       {"backend <address> [<gpu class>] { ... }", true, parseBackend},
		"policy":        {"policy <name>", false, text(checkPolicy, func(h *Handler) *string { return &h.Policy })},
		"queue":         {"queue { ... }", false, block("queue", queueOptions, func(h *Handler) **Queue { return &h.Queue })},
		"breaker":       {"breaker { ... }", false, block("breaker", breakerOptions, func(h *Handler) **Breaker { return &h.Breaker })},
		"attempts":      {"attempts <count>", false, count(func(h *Handler) *int { return &h.Attempts })},
		"default_model": {"default_model <model>", false, text(checkModel, func(h *Handler) *string { return &h.DefaultModel })},
		"alias":         {"alias <name> <model>", true, parseAlias},
		"upload":        {"upload { ... }", false, block("upload", uploadOptions, func(h *Handler) **Upload { return &h.Upload })},
	}
	backendOptions = options[*backendBlock]{
		"name":       {"name <name>", false, parseBackendName},
		"models":     {"models <model...>", false, parseModels},
		"slots":      {"slots <count>", false, count(func(b *backendBlock) *int { return &b.Slots })},
		"kind":       {"kind <kind>", false, text(checkKind, func(b *backendBlock) *string { return &b.Kind })},
		"header_up":  {"header_up [+|-]<field> [<value|regexp> [<replacement>]]", true, parseHeaderUp},
		"health_uri": {"health_uri <path>", false, text(checkHealthURI, func(b *backendBlock) *string { return &b.HealthURI })},
		"transport":  {"transport <name> { ... }", false, parseTransport},
	}
	queueOptions = options[*Queue]{
		"max_requests": {"max_requests <count>", false, count(func(q *Queue) *int { return &q.MaxRequests })},
		"max_bytes":    {"max_bytes <size>", false, size(func(q *Queue) *int64 { return &q.MaxBytes })},
		"max_wait":     {"max_wait <duration>", false, duration(func(q *Queue) *caddy.Duration { return &q.MaxWait })},
	}
	breakerOptions = options[*Breaker]{
		"failures":     {"failures <count>", false, count(func(b *Breaker) *int { return &b.Failures })},
		"open_for":     {"open_for <duration>", false, duration(func(b *Breaker) *caddy.Duration { return &b.OpenFor })},
		"max_open_for": {"max_open_for <duration>", false, duration(func(b *Breaker) *caddy.Duration { return &b.MaxOpenFor })},
	}
	uploadOptions = options[*Upload]{
		"max_size": {"max_size <size>", false, size(func(u *Upload) *int64 { return &u.MaxSize })},
		"memory":   {"memory <size>", false, size(func(u *Upload) *int64 { return &u.Memory })},
		"spool":    {"spool <folder>", false, text(checkSpool, func(u *Upload) *string { return &u.Spool })},
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
//	    policy <name>
//	    queue {
//	        max_requests <count>
//	        max_bytes    <size>
//	        max_wait     <duration>
//	    }
//	    breaker {
//	        failures     <count>
//	        open_for     <duration>
//	        max_open_for <duration>
//	    }
//	    attempts <count>
//
//	    default_model <model>
//	    alias         <name> <model>
//	    upload {
//	        max_size <size>
//	        memory   <size>
//	        spool    <folder>
//	    }
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
	whole.Backends = slices.Clone(h.Backends)
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

// arguments takes the rest of the line, which must have between least and most values, none empty.
func arguments(d *caddyfile.Dispenser, usage string, least, most int) ([]string, error) {
	args := d.RemainingArgs()
	if len(args) < least || len(args) > most {
		return nil, d.Errf("wrong number of values; write: %s", usage)
	}
	if slices.Contains(args, "") {
		return nil, d.Errf("an empty value; write: %s", usage)
	}
	return args, nil
}

// single is a parser of one value.
func single[T any](set func(into T, value string) error) parser[T] {
	return func(d *caddyfile.Dispenser, usage string, into T) error {
		name := d.Val()
		args, err := arguments(d, usage, 1, 1)
		if err != nil {
			return err
		}
		if err := set(into, args[0]); err != nil {
			return d.Errf("%s: %v", name, err)
		}
		return nil
	}
}

func text[T any](check func(string) error, field func(T) *string) parser[T] {
	return single(func(into T, value string) error {
		*field(into) = value
		return check(value)
	})
}

func count[T any](field func(T) *int) parser[T] {
	return single(func(into T, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			return fmt.Errorf("%q is not a number above 0", value)
		}
		*field(into) = n
		return nil
	})
}

func size[T any](field func(T) *int64) parser[T] {
	return single(func(into T, value string) error {
		n, err := humanize.ParseBytes(value)
		if err != nil || n == 0 || n > 1<<62 {
			return fmt.Errorf("%q is not a size above 0, such as 256MiB", value)
		}
		*field(into) = int64(n)
		return nil
	})
}

func duration[T any](field func(T) *caddy.Duration) parser[T] {
	return single(func(into T, value string) error {
		n, err := caddy.ParseDuration(value)
		if err != nil || n < time.Millisecond {
			return fmt.Errorf("%q is not a duration above 0, such as 30s or 4m", value)
		}
		*field(into) = caddy.Duration(n)
		return nil
	})
}

// block is a parser of a block of options for a part of the configuration.
func block[T, B any](name string, known options[*B], field func(T) **B) parser[T] {
	return func(d *caddyfile.Dispenser, usage string, into T) error {
		if d.NextArg() {
			return d.Errf("%s takes a block, not values; write: %s", name, usage)
		}
		part := new(B)
		*field(into) = part
		return parseBlock(d, name, known, part)
	}
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

// backendBlock is a backend while it is read, beside those before it.
type backendBlock struct {
	*Backend
	others []Backend
}

func parseBackend(d *caddyfile.Dispenser, usage string, h *Handler) error {
	args, err := arguments(d, usage, 1, 2)
	if err != nil {
		return err
	}
	b := Backend{Address: args[0]}
	a, err := parseAddress(b.Address)
	if err != nil {
		return d.Errf("backend %s: %v", b.Address, err)
	}
	for _, other := range h.Backends {
		if o, err := parseAddress(other.Address); err == nil && o.key() == a.key() {
			return d.Errf("backend %s is given twice; its parallelism is its option slots", b.Address)
		}
	}
	if len(args) == 2 {
		if err := checkClass(args[1]); err != nil {
			return d.Errf("backend %s: %v", b.Address, err)
		}
		b.Class = args[1]
	}
	if err := parseBlock(d, "backend", backendOptions, &backendBlock{&b, h.Backends}); err != nil {
		return err
	}
	h.Backends = append(h.Backends, b)
	return nil
}

func parseBackendName(d *caddyfile.Dispenser, usage string, b *backendBlock) error {
	return single(func(b *backendBlock, value string) error {
		if slices.ContainsFunc(b.others, func(o Backend) bool { return o.Name == value }) {
			return fmt.Errorf("another backend is already named %s", value)
		}
		b.Name = value
		return checkName("name", value)
	})(d, usage, b)
}

func parseModels(d *caddyfile.Dispenser, usage string, b *backendBlock) error {
	args, err := arguments(d, usage, 1, 1000)
	if err != nil {
		return err
	}
	if err := checkModels(args); err != nil {
		return d.Errf("models: %v", err)
	}
	b.Models = args
	return nil
}

func parseHeaderUp(d *caddyfile.Dispenser, usage string, b *backendBlock) error {
	args := d.RemainingArgs() // a value may be empty
	if len(args) < 1 || len(args) > 3 {
		return d.Errf("wrong number of values; write: %s", usage)
	}
	if err := checkHeaderField(strings.TrimLeft(args[0], "+-")); err != nil {
		return d.Errf("header_up: %v", err)
	}
	deletes := strings.HasPrefix(args[0], "-")
	if (len(args) == 1) != deletes {
		return d.Errf("header_up: a field needs a value, -field has none")
	}
	if b.HeaderUp == nil {
		b.HeaderUp = new(headers.HeaderOps)
	}
	if len(args) == 2 && b.HeaderUp.Set[http.CanonicalHeaderKey(args[0])] != nil {
		return d.Errf("header_up %s is given twice; +%s adds a second value", args[0], args[0])
	}
	value, replacement := "", (*string)(nil)
	if len(args) > 1 {
		value = args[1]
	}
	if len(args) == 3 {
		if _, err := regexp.Compile(value); err != nil {
			return d.Errf("header_up %s: %v", args[0], err)
		}
		replacement = &args[2]
	}
	if err := headers.CaddyfileHeaderOp(b.HeaderUp, args[0], value, replacement); err != nil {
		return d.Errf("header_up: %v", err)
	}
	return nil
}

func parseTransport(d *caddyfile.Dispenser, usage string, b *backendBlock) error {
	if !d.NextArg() {
		return d.Errf("no name; write: %s", usage)
	}
	name := d.Val()
	module, err := caddyfile.UnmarshalModule(d, transportNamespace+"."+name)
	if err != nil {
		return err
	}
	if _, ok := module.(http.RoundTripper); !ok {
		return d.Errf("transport %s can't be used here: it does no HTTP", name)
	}
	b.TransportRaw = caddyconfig.JSONModuleObject(module, "protocol", name, nil)
	return nil
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
