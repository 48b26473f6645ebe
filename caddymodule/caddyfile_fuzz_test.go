package caddymodule

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

var placed = regexp.MustCompile(`Caddyfile:\d+`)

// FuzzCaddyfile: whatever stands in the block, reading it ends without a panic. An error says where it
// is; what is accepted is a configuration that is accepted as JSON, too.
func FuzzCaddyfile(f *testing.F) {
	for _, seed := range []string{
		"backend 10.0.0.1:8000 T4 {\n\tname a\n\tmodels base large-v3\n\tslots 2\n\tkind openai\n\theader_up Authorization \"Bearer x\"\n\thealth_uri /h\n\ttransport http {\n\t\tdial_timeout 2s\n\t}\n}",
		"backend https://h100.internal/v1 H100\nbackend 10.0.0.1:1",
		"queue {\n\tmax_requests 10\n\tmax_bytes 20GiB\n\tmax_wait 4m\n\torder shortest_first\n}\nattempts 3\nretry_budget 10%\nhedge on",
		"breaker {\n\tfailures 3\n\topen_for 5s\n\tmax_open_for 60s\n\tslow_factor 4\n}\nrecord /r {\n\tmax_size 1MB\n\tkeep 3\n}",
		"tenant {header.Authorization} {\n\tmax_queued 200\n}\npriority {header.X-Priority}\nalias tiny base\ndefault_model base",
		"upload {\n\tmax_size 1GiB\n\tmemory 256MiB\n\tspool /s\n}", "policy random", "header_up +X a b c", "backend a:1 {\n\theader_up -X\n\theader_up X a b\n}",
		"queue {\n\tmax_wait -1s\n\tmax_bytes 99999999999999999999GiB\n}", "backend {\n}", "backend a:1 {\n\ttransport fastcgi\n}", "{", "}", "\"", "backend a:1 { slots", "queue {\n{\n}\n}",
		"backend a:1 {\n\tslots 1e9\n}", "attempts -1", "attempts 1\nattempts 2", "alias a a", "backend user:pw@a:1", "backend {$X}:1", "api_keys {file./k}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := caddyfile.Tokenize([]byte("whisper_pool main {\n"+text+"\n}"), "Caddyfile")
		if err != nil {
			return // Caddy's own lexer says so before any of ours
		}
		h := new(Handler)
		if err := h.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
			// Caddy's transports place theirs themselves.
			if !placed.MatchString(err.Error()) && !strings.Contains(text, "transport") {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		config, err := json.Marshal(h)
		if err != nil {
			t.Fatalf("accepted, but: %v", err)
		}
		again := new(Handler)
		if err := json.Unmarshal(config, again); err != nil {
			t.Fatalf("accepted, but as JSON: %v: %s", err, config)
		}
		again.fill()
		if err := again.validate(); err != nil {
			t.Fatalf("accepted, but not as JSON: %v: %s", err, config)
		}
	})
}

// FuzzAddress: what is accepted is a place without secrets, and stays what it is when it is read again.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"10.0.0.1:8000", "https://h100.internal", "http://[::1]:80/v1/", "a:0", "a:65536", "user:pw@a:1", "ftp://a", "http://a?b", "http://a#", "{x}:1", "http://a:/", "[::1%25eth0]:1", "http://%zz", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAddress(text)
		if err != nil {
			return
		}
		again, err := parseAddress(a.base.String())
		if err != nil || again.base.String() != a.base.String() || again.key() != a.key() || a.base.User != nil || a.base.Hostname() == "" || a.base.Port() == "" {
			t.Fatalf("%q is %q, and that %v, %v", text, a.base, again.base, err)
		}
	})
}
