package caddymodule

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// Many clients read no answer before they have sent everything: Python's http.client, Node's fetch. If
// the connection is closed under them they see a reset, and nobody tells them that their upload was too
// large. So what is left of a refused upload is taken in and thrown away for a while, as nginx lingers.
// It is bounded by time, by bytes and by how many do it at once, so that refused uploads are no cheaper
// way to keep the proxy busy than those that are taken.
const (
	lingerTime  = 30 * time.Second
	lingerIdle  = 5 * time.Second // without a byte
	lingerBytes = 256 << 20       // or the site's max_size, if that is more: what an upload may cost anyway
	lingerMost  = 256             // at once, in the process

	// Beyond any of these, only what is on its way already.
	briefBytes = 1 << 20
	briefTime  = 2 * time.Second
)

var lingering = make(chan struct{}, lingerMost)

// lingers tells whether something is left to be taken in after an answer. Over HTTP/2 and 3 an answer
// ends with a word that the rest is not wanted, and reaches the client whatever that one is doing.
func lingers(r *http.Request, b *body) bool {
	if r.ProtoMajor != 1 || r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return false
	}
	if b == nil || b.read == 0 {
		// A client that asked first, and was not told to go on, sends nothing once it has a refusal.
		return !strings.EqualFold(r.Header.Get("Expect"), "100-continue")
	}
	// Else it was read to its end, or can't be read any more.
	return b.err == nil || b.err == errBodyTooLarge || b.err == errHeaderTooLong
}

// linger takes in what is left of a refused upload, within limits, after the answer was written.
func (h *Handler) linger(w http.ResponseWriter, r *http.Request, b *body) {
	most := max(h.Upload.MaxSize, lingerBytes)
	left := r.ContentLength // -1: not known
	if b != nil {
		left -= b.read
	}
	if left > most {
		discard(w, r.Body, briefBytes, briefTime, briefTime)
		return
	}
	select {
	case lingering <- struct{}{}:
		defer func() { <-lingering }()
		discard(w, r.Body, most, lingerTime, lingerIdle)
	default:
		discard(w, r.Body, briefBytes, briefTime, briefTime)
	}
}

// discard reads until the body ends, breaks, or reaches a limit: bytes, time in all, time without a byte.
func discard(w http.ResponseWriter, body io.Reader, bytes int64, whole, idle time.Duration) {
	control := http.NewResponseController(w)
	end := time.Now().Add(whole)
	buffer := make([]byte, 16<<10)
	for bytes > 0 {
		now := time.Now()
		if !now.Before(end) || control.SetReadDeadline(earlier(end, now.Add(idle))) != nil {
			return
		}
		n, err := body.Read(buffer)
		if bytes -= int64(n); err != nil {
			return
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
