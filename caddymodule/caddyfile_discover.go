package caddymodule

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// sourceArgs is how many arguments a source takes before the GPU class.
var sourceArgs = map[string]int{"srv": 1, "a": 2, "multi": 0}

var refreshOption = option[*Discover]{"refresh <duration>", false, duration(func(d *Discover) *caddy.Duration { return &d.Refresh })}

// parseDiscover reads a source and what its backends have in common. In the block, refresh and the options of
// backend are ours; all else is the source's.
func parseDiscover(d *caddyfile.Dispenser, usage string, h *Handler) error {
	head := d.Token()
	args, err := arguments(d, usage, 1, 4)
	if err != nil {
		return err
	}
	count, ok := sourceArgs[args[0]]
	if !ok {
		return d.Errf("discover %s: there are srv, a and multi; write: %s", args[0], usage)
	}
	if given := len(args) - 1; given != count && given != count+1 {
		return d.Errf("wrong number of values; write: %s", usage)
	}
	var found Discover
	if len(args) == count+2 {
		found.Backend.Class = args[count+1]
		if err := checkClass(found.Backend.Class); err != nil {
			return d.Errf("discover %s: %v", args[0], err)
		}
	}
	segments, err := parseDiscoverBlock(d, &found)
	if err != nil {
		return err
	}
	module, err := caddyfile.UnmarshalModule(sourceDispenser(head, args[:count+1], segments), sourceNamespace+"."+args[0])
	if err != nil {
		return err
	}
	if _, ok := module.(reverseproxy.UpstreamSource); !ok {
		return d.Errf("discover %s finds no backends", args[0])
	}
	found.SourceRaw = caddyconfig.JSONModuleObject(module, "source", args[0], nil)
	h.Discover = append(h.Discover, found)
	return nil
}

// parseDiscoverBlock reads our options of the block, and returns the source's as they are written.
func parseDiscoverBlock(d *caddyfile.Dispenser, found *Discover) (segments []caddyfile.Token, err error) {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		own, ours := backendOptions[name]
		switch {
		case name == "name":
			return nil, d.Errf("discover has no option name; a backend's name is the address that was found")
		case name != "refresh" && !ours:
			segments = append(segments, d.NextSegment()...)
			continue
		case seen[name] && !own.repeat:
			return nil, d.Errf("%s is given twice", name)
		}
		seen[name] = true
		if name == "refresh" {
			err = refreshOption.parse(d, refreshOption.usage, found)
		} else {
			err = own.parse(d, own.usage, &backendBlock{&found.Backend, nil})
		}
		if err != nil {
			return nil, err
		}
	}
	return segments, nil
}

// sourceDispenser has a source's tokens as its module reads them: its name, its arguments, its block.
func sourceDispenser(head caddyfile.Token, args []string, segments []caddyfile.Token) *caddyfile.Dispenser {
	var tokens []caddyfile.Token
	word := func(text string, line int) {
		tokens = append(tokens, caddyfile.Token{File: head.File, Line: line, Text: text})
	}
	for _, arg := range args {
		word(arg, head.Line)
	}
	if len(segments) > 0 {
		word("{", head.Line)
		tokens = append(tokens, segments...)
		last := segments[len(segments)-1]
		word("}", last.Line+strings.Count(last.Text, "\n")+1)
	}
	d := caddyfile.NewDispenser(tokens)
	d.Next()
	return d
}
