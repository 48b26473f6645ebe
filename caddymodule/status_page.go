package caddymodule

import (
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// The page is one document, since Caddy's admin endpoint refuses what browsers ask for as a style sheet or a script of
// an address of its own.
var (
	//go:embed status/page.html
	pageHTML string
	//go:embed status/page.css
	pageCSS string
	//go:embed status/page.js
	pageJS string
)

// page is a document with its policy.
type page struct {
	text   string
	policy string
	tag    string
}

// statusPage shows, each second, what its address with "pools" at the end tells.
var statusPage = newPage(pageHTML, pageCSS, pageJS)

// newPage puts style and script where the document has {{css}} and {{js}}. Nothing but these, known by their hashes,
// is let run, and nothing is fetched but from where the page came from.
func newPage(html, css, js string) page {
	text := strings.NewReplacer("{{css}}", css, "{{js}}", js).Replace(html)
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	sum := sha256.Sum256([]byte(text))
	return page{
		text: text,
		policy: fmt.Sprintf("default-src 'none'; style-src %s; script-src %s; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "+
			"frame-ancestors 'none'", hash(css), hash(js)),
		tag: fmt.Sprintf(`"%x"`, sum[:8]),
	}
}

// ServeHTTP serves the page.
func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	// Caddy's admin endpoint tells by the referrer that a request comes from its own page.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", p.tag)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(p.text))
}
