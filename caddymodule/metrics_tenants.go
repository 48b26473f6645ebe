package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Seconds of audio by tenant. There are series for the largest; the others have one in common. A second counts
// in one series only, whose was listed when it came: then no series ever falls, and their rates add up.
const (
	tenantsListed  = 50
	tenantsCounted = 4096 // of a pool; who sends more names is counted with the others
	// tenantMargin is by how much one must be larger than the smallest that is listed to take its place, or two of
	// a size would change places all the time.
	tenantMargin = 1.25
	otherTenants = "other"
)

// tenantAudio outlives configurations and pools, as all counters do.
var tenantAudio = tenantCounter{pools: map[string]*tenantUse{}}

var tenantAudioDesc = prometheus.NewDesc("whisperpool_tenant_audio_seconds_total",
	"Length of the audio that was transcribed, by the hash of the tenant's key; other is all but the largest.", []string{"pool", "tenant"}, nil)

type tenantCounter struct {
	mu    sync.Mutex
	pools map[string]*tenantUse
}

type tenantUse struct {
	known  map[string]*tenantShare
	listed []*tenantShare
	rest   float64
}

type tenantShare struct {
	account string
	all     float64 // seconds
	shown   float64 // those that came while it was listed
	listed  bool
}

// accountOf is how a request's tenant appears in metrics, "" for none: the first half of the SHA-256 of its key in
// hexadecimal, unlike scheduler.Tenant the same in every process, so that a bill can be made of it.
func (h *Handler) accountOf(r *http.Request) string {
	if h.Tenant == nil {
		return ""
	}
	who := placeholder(r, h.Tenant.Key)
	if who == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(who))
	return hex.EncodeToString(sum[:sha256.Size/2])
}

func (c *tenantCounter) add(pool, account string, seconds float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.pools[pool]
	if u == nil {
		u = &tenantUse{known: map[string]*tenantShare{}}
		c.pools[pool] = u
	}
	s := u.known[account]
	if s == nil {
		u.makeRoom()
		s = &tenantShare{account: account}
		u.known[account] = s
	}
	s.all += seconds
	u.list(s)
	if s.listed {
		s.shown += seconds
	} else {
		u.rest += seconds
	}
}

// makeRoom forgets the smallest when there are too many.
func (u *tenantUse) makeRoom() {
	if len(u.known) < tenantsCounted {
		return
	}
	var least *tenantShare
	for _, s := range u.known {
		if !s.listed && (least == nil || s.all < least.all) {
			least = s
		}
	}
	delete(u.known, least.account)
}

// list gives one a series of its own if it is among the largest.
func (u *tenantUse) list(s *tenantShare) {
	if s.listed {
		return
	}
	if len(u.listed) < tenantsListed {
		s.listed = true
		u.listed = append(u.listed, s)
		return
	}
	least := 0
	for i, other := range u.listed {
		if other.all < u.listed[least].all {
			least = i
		}
	}
	if s.all > tenantMargin*u.listed[least].all {
		u.listed[least].listed, s.listed = false, true
		u.listed[least] = s
	}
}

// Describe tells of the one metric.
func (c *tenantCounter) Describe(out chan<- *prometheus.Desc) { out <- tenantAudioDesc }

// Collect copies what there is, so that a slow reader holds nobody up.
func (c *tenantCounter) Collect(out chan<- prometheus.Metric) {
	var all []prometheus.Metric
	c.mu.Lock()
	for pool, u := range c.pools {
		for _, s := range u.listed {
			all = append(all, prometheus.MustNewConstMetric(tenantAudioDesc, prometheus.CounterValue, s.shown, pool, s.account))
		}
		all = append(all, prometheus.MustNewConstMetric(tenantAudioDesc, prometheus.CounterValue, u.rest, pool, otherTenants))
	}
	c.mu.Unlock()
	for _, m := range all {
		out <- m
	}
}
