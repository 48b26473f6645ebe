package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

const transportNamespace = "http.reverse_proxy.transport"

// idleTimeout is how long an idle connection is kept. The servers that whisper usually runs behind,
// cpp-httplib and uvicorn, close theirs after 5 s, and a request on a connection that is being
// closed fails.
const idleTimeout = `"4s"`

// writeBuffer is that of a connection to a backend, in bytes: a recording of some seconds goes out with one
// system call, and without a copy through a buffer that net/http would make for it.
const writeBuffer = "262144"

// headerMax is the most that the header of an answer may have, in bytes; a backend has no use for more.
const headerMax = "262144"

// transportConfig is the JSON of a backend's transport with our defaults in it. https says whether
// the address asks for TLS.
func transportConfig(raw json.RawMessage, https bool) (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, err
		}
	} else {
		fields["protocol"] = json.RawMessage(`"http"`)
	}
	if string(fields["protocol"]) != `"http"` {
		return fields, nil // another module's fields are its own
	}
	if _, ok := fields["compression"]; !ok {
		fields["compression"] = json.RawMessage("false") // it costs more than these answers weigh
	}
	if _, ok := fields["write_buffer_size"]; !ok {
		fields["write_buffer_size"] = json.RawMessage(writeBuffer)
	}
	if _, ok := fields["max_response_header_size"]; !ok {
		fields["max_response_header_size"] = json.RawMessage(headerMax)
	}
	if _, ok := fields["tls"]; !ok && https {
		fields["tls"] = json.RawMessage("{}")
	}
	keepAlive := map[string]json.RawMessage{}
	if given, ok := fields["keep_alive"]; ok {
		if err := json.Unmarshal(given, &keepAlive); err != nil {
			return nil, fmt.Errorf("keep_alive: %w", err)
		}
	}
	if _, ok := keepAlive["idle_timeout"]; !ok {
		if keepAlive == nil { // it was null
			keepAlive = map[string]json.RawMessage{}
		}
		keepAlive["idle_timeout"] = json.RawMessage(idleTimeout)
	}
	var err error
	fields["keep_alive"], err = json.Marshal(keepAlive)
	return fields, err
}

// loadTransport loads the transport module. Its life is that of ctx.
func loadTransport(ctx caddy.Context, fields map[string]json.RawMessage) (http.RoundTripper, error) {
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	holder := Backend{TransportRaw: raw}
	module, err := ctx.LoadModule(&holder, "TransportRaw")
	if err != nil {
		return nil, err
	}
	rt, ok := module.(http.RoundTripper)
	if !ok {
		return nil, fmt.Errorf("%T does no HTTP", module)
	}
	return rt, nil
}

// transports loads what carries a backend's attempts and what carries its probes. They are the same
// unless connections are limited: a probe must not wait for a transcription to end.
func transports(ctx caddy.Context, raw json.RawMessage, https bool) (attempts, probes http.RoundTripper, err error) {
	fields, err := transportConfig(raw, https)
	if err != nil {
		return nil, nil, err
	}
	if attempts, err = loadTransport(ctx, fields); err != nil {
		return nil, nil, err
	}
	if _, limited := fields["max_conns_per_host"]; !limited {
		return attempts, attempts, nil
	}
	fields = maps.Clone(fields)
	delete(fields, "max_conns_per_host")
	probes, err = loadTransport(ctx, fields)
	return attempts, probes, err
}

// closeIdle closes the connections that nobody uses just now.
func closeIdle(rt http.RoundTripper) {
	switch rt := rt.(type) {
	case *reverseproxy.HTTPTransport:
		if rt.Transport != nil {
			rt.Transport.CloseIdleConnections()
		}
	case interface{ CloseIdleConnections() }:
		rt.CloseIdleConnections()
	}
}

// expandHeaders is ops with every placeholder replaced by its value; an empty or unknown one is an
// error that names it and not its value.
func expandHeaders(ops *headers.HeaderOps, repl *caddy.Replacer) (*headers.HeaderOps, error) {
	if ops == nil {
		return nil, nil
	}
	expanded := &headers.HeaderOps{Delete: slices.Clone(ops.Delete)}
	var errs []error
	expand := func(field, value string) string {
		out, err := repl.ReplaceOrErr(value, true, true)
		if err != nil {
			errs = append(errs, fmt.Errorf("header_up %s: %w; a placeholder must have its value when the configuration is loaded", field, err))
		}
		return out
	}
	fields := func(in http.Header) http.Header {
		if in == nil {
			return nil
		}
		out := http.Header{}
		for _, field := range slices.Sorted(maps.Keys(in)) {
			for _, value := range in[field] {
				out.Add(field, expand(field, value))
			}
		}
		return out
	}
	expanded.Add, expanded.Set = fields(ops.Add), fields(ops.Set)
	for _, field := range slices.Sorted(maps.Keys(ops.Replace)) {
		for _, r := range ops.Replace[field] {
			r.Replace = expand(field, r.Replace)
			if expanded.Replace == nil {
				expanded.Replace = map[string][]headers.Replacement{}
			}
			expanded.Replace[field] = append(expanded.Replace[field], r)
		}
	}
	return expanded, errors.Join(errs...)
}
