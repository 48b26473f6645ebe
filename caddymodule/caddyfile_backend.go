package caddymodule

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

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
		return d.Errf("backend %s: %v", withoutUser(b.Address), err)
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
