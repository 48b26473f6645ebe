package caddymodule

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/whisperpool/whisperpool/scheduler"
)

// placeholder is what a request gives for a placeholder of the configuration, "" for nothing.
func placeholder(r *http.Request, text string) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if text == "" || !ok {
		return ""
	}
	return strings.TrimSpace(repl.ReplaceAll(text, ""))
}

// priority is the band that a request asks for. Whoever writes something else is in the middle, rather
// than refused.
func (h *Handler) priority(r *http.Request) scheduler.Priority {
	switch strings.ToLower(placeholder(r, h.Priority)) {
	case "interactive":
		return scheduler.Interactive
	case "batch":
		return scheduler.Batch
	}
	return scheduler.Default
}

// tenants knows who sends, without knowing who that is: by the hash of what they are told apart by,
// which is often a secret. The key is the process's own, so that a hash means nothing to anybody else.
type tenants struct {
	key [sha256.Size]byte

	mu      sync.Mutex
	waiting map[scheduler.Tenant]int // jobs inside without an attempt running; no zeros
}

func newTenants() *tenants {
	t := &tenants{waiting: map[scheduler.Tenant]int{}}
	_, _ = rand.Read(t.key[:]) // never fails
	return t
}

// of is a request's tenant, 0 when it has none.
func (t *tenants) of(h *Handler, r *http.Request) scheduler.Tenant {
	if h.Tenant == nil {
		return 0
	}
	who := placeholder(r, h.Tenant.Key)
	if who == "" {
		return 0
	}
	mac := hmac.New(sha256.New, t.key[:])
	mac.Write([]byte(who))
	return scheduler.Tenant(max(1, binary.BigEndian.Uint64(mac.Sum(nil))))
}

// add counts jobs that begin, or with -1 cease, to wait.
func (t *tenants) add(tenant scheduler.Tenant, n int) {
	if tenant == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting[tenant] += n; t.waiting[tenant] == 0 {
		delete(t.waiting, tenant)
	}
}

func (t *tenants) waitingOf(tenant scheduler.Tenant) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting[tenant]
}

// tenantFull tells whether a tenant has as many jobs waiting as this site lets it. The scheduler
// refuses what is beyond the largest limit of the pool's sites; here it is done before the body is
// read, and for sites with a smaller one. As in full, jobs that are about to run count as waiting for a
// moment.
func (p *Pool) tenantFull(h *Handler, tenant scheduler.Tenant) bool {
	if tenant == 0 || h.Tenant == nil || h.Tenant.MaxQueued == 0 {
		return false
	}
	limit := h.Tenant.MaxQueued
	return p.tenants.waitingOf(tenant) >= limit && p.dispatcher.Snapshot().Queued >= limit
}

// tenantLimit is what the sites of a pool let one tenant queue at most.
type tenantLimit struct {
	most int
	none bool // some site has tenants and no limit
}

func (l *tenantLimit) include(t *Tenant) {
	if t != nil {
		l.most, l.none = max(l.most, t.MaxQueued), l.none || t.MaxQueued == 0
	}
}

// value is as the scheduler takes it, 0 for no limit.
func (l *tenantLimit) value() int {
	if l.none {
		return 0
	}
	return l.most
}
