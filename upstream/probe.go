package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/transcript"
)

// probeBytesMax bounds what is read of a probe's answer; the longest are lists of models.
const probeBytesMax = 4 << 20

// probed is the answer to one request of a probe.
type probed struct {
	method, path string
	status       int
	header       http.Header
	body         []byte
}

// ask sends one request of a probe. An error means that there was no answer.
func ask(ctx context.Context, p Prober, method string, u *url.URL) (probed, error) {
	got := probed{method: method, path: u.EscapedPath()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return got, err
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := p.Do(req)
	if err != nil {
		return got, err
	}
	got.status, got.header = resp.StatusCode, resp.Header
	got.body, err = readBody(resp, probeBytesMax)
	if errors.Is(err, errTooLong) { // answered, if with nothing that a probe can use
		err = nil
	}
	return got, err
}

func get(ctx context.Context, p Prober, u *url.URL) (probed, error) {
	return ask(ctx, p, http.MethodGet, u)
}

func (g probed) ok() bool { return g.status >= 200 && g.status <= 299 }

// json reads the body as a JSON object into v.
func (g probed) json(v any) bool {
	return g.ok() && strings.HasPrefix(strings.TrimSpace(string(g.body)), "{") && json.Unmarshal(g.body, v) == nil
}

// loading: the server says so.
func (g probed) loading() bool {
	return g.status == http.StatusServiceUnavailable && saysLoading(g.header, g.body)
}

// String says what was asked and answered, for error messages.
func (g probed) String() string {
	text := fmt.Sprintf("%s %s: %d", g.method, g.path, g.status)
	switch g.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		text += " (does it want a key? set header_up Authorization)"
	default:
		if !g.ok() && len(g.body) > 0 {
			problem := transcript.ParseError(g.status, g.header.Get("Content-Type"), g.body)
			text += " " + problem.Message
		}
	}
	return oneLine(text)
}

// Limits of what a server tells of itself, which goes into states, metrics and logs.
const (
	wordMax      = 128 // bytes of an identifier
	modelNameMax = 200
	modelsMax    = 1000
	slotsMax     = 1024 // what a configuration may say, too
	countMax     = 1 << 20
)

// word is an identifier as it was told, or "" when it is none: longer than wordMax, or with anything
// but the printable characters of ASCII.
func word(s string) string {
	if len(s) > wordMax || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return s
}

// modelNames are the names that can be a model's, each once. A name goes into requests, lists and labels.
func modelNames(told []string) []string {
	names := []string{} // a server without models serves none, other than one that does not tell
	for _, name := range told {
		if modelName(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
		if len(names) == modelsMax {
			break
		}
	}
	return names
}

func modelName(s string) bool {
	return s != "" && len(s) <= modelNameMax && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// healthURL is where to ask for health: the user's health_uri, which like Caddy's is a path (and
// query) of the host, else the kind's own path below the backend's address.
func healthURL(base *url.URL, p Prober, own ...string) (*url.URL, error) {
	uri := p.HealthURI()
	if uri == "" {
		return endpoint(base, own...), nil
	}
	if !strings.HasPrefix(uri, "/") {
		uri = "/" + uri
	}
	relative, err := url.ParseRequestURI(uri)
	if err != nil {
		return nil, fmt.Errorf("health_uri: %w", err)
	}
	u := *base
	u.Path, u.RawPath, u.RawQuery = relative.Path, relative.RawPath, relative.RawQuery
	return &u, nil
}

// health asks the health path and takes any 2xx for ready.
func health(ctx context.Context, base *url.URL, p Prober, own ...string) (Report, error) {
	u, err := healthURL(base, p, own...)
	if err != nil {
		return Report{}, err
	}
	got, err := get(ctx, p, u)
	if err != nil {
		return Report{}, err
	}
	return got.report(), nil
}

// report is what an answer says of a server's health.
func (g probed) report() Report {
	if g.ok() {
		return Report{Ready: true}
	}
	return Report{Loading: g.loading(), Detail: g.String()}
}
