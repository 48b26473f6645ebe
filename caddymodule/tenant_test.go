package caddymodule

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/whisperpool/whisperpool/scheduler"
)

// crowd posts requests that wait, one after the other, on a backend with one slot that is taken.
type crowd struct {
	t       *testing.T
	p       *proxy
	answers chan response
	n       int
}

// newCrowd takes the slot.
func newCrowd(t *testing.T, p *proxy, backend *whisper) *crowd {
	t.Helper()
	c := &crowd{t: t, p: p, answers: make(chan response, 20)}
	c.post(p.url, nil, "first")
	eventually(t, "the only slot is taken", func() bool { return len(backend.requests()) == 1 })
	return c
}

func (c *crowd) post(url string, header http.Header, name string) {
	c.n++
	go func() {
		r, err := persistent(func() (response, error) {
			return (&proxy{t: c.t, url: url}).postWith(context.Background(), transcriptions, header, wav(1), "model=base", "prompt="+name)
		})
		if err != nil {
			c.t.Error(err)
		}
		c.answers <- r
	}()
}

// wait posts a request and waits until it waits.
func (c *crowd) wait(url string, header http.Header, name string) {
	c.t.Helper()
	before := c.p.pool().dispatcher.Snapshot().Queued
	c.post(url, header, name)
	eventually(c.t, name+" waits", func() bool { return c.p.pool().dispatcher.Snapshot().Queued == before+1 })
}

// served waits until all are, and returns the order in which the backend got those that waited.
func (c *crowd) served(backend *whisper) []string {
	c.t.Helper()
	for range c.n {
		if r := <-c.answers; r.status != http.StatusOK {
			c.t.Errorf("status %d: %s", r.status, r.body)
		}
	}
	var order []string
	for _, got := range backend.requests()[1:] {
		if prompt := got.form["prompt"]; len(prompt) > 0 { // else it is a trial: the backend was held for long
			order = append(order, prompt[0])
		}
	}
	return order
}

// TestQueueOrder: what the options make of the same requests.
func TestQueueOrder(t *testing.T) {
	for name, c := range map[string]struct {
		options string
		want    []string
	}{
		"none":     {"", []string{"a-batch", "a", "a-now", "a-strange", "b"}},
		"priority": {"priority {header.X-Priority}", []string{"a-now", "a", "a-strange", "b", "a-batch"}},
		"tenants":  {"tenant {header.Authorization}", []string{"a-batch", "b", "a", "a-now", "a-strange"}},
	} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			backend := newWhisper(t)
			backend.answer = held(gate)
			p := newProxy(t, "backend "+backend.address()+" A10G\n"+c.options)
			p.ready(1)
			crowd := newCrowd(t, p, backend)
			for _, r := range []struct{ name, who, priority string }{
				{"a-batch", "a", "batch"}, {"a", "a", ""}, {"a-now", "a", " Interactive "}, {"a-strange", "a", "urgent!"}, {"b", "b", "default"},
			} {
				crowd.wait(p.url, http.Header{"Authorization": {"Bearer " + r.who}, "X-Priority": {r.priority}}, r.name)
			}
			close(gate)
			if got := crowd.served(backend); !slices.Equal(got, c.want) {
				t.Errorf("served in the order %v, want %v", got, c.want)
			}
		})
	}
}

// TestShortestFirst is how the scheduler is told; it is tested there.
func TestShortestFirst(t *testing.T) {
	p := newProxy(t, "backend "+newWhisper(t).address()+"\nqueue {\n\torder shortest_first\n}")
	if got := p.pool().schedulerConfig().Queue.Order; got != scheduler.ShortestFirst {
		t.Errorf("order %q", got)
	}
}

// TestTenantLimit: one tenant's flood is refused with 429, before its uploads are read, and nobody
// else's requests are.
func TestTenantLimit(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t)
	backend.answer = held(gate)
	p := newProxy(t, "backend "+backend.address()+"\ntenant {header.Authorization} {\n\tmax_queued 2\n}")
	p.ready(1)
	crowd := newCrowd(t, p, backend)
	one := http.Header{"Authorization": {"Bearer key-of-tenant-one"}}
	other := http.Header{"Authorization": {"Bearer key-of-tenant-two"}}
	crowd.wait(p.url, one, "one")
	crowd.wait(p.url, one, "one")

	r, err := p.postWith(t.Context(), transcriptions, one, wav(1), "model=base")
	if err != nil {
		t.Fatal(err)
	}
	if _, code := r.problem(t); r.status != http.StatusTooManyRequests || code != "tenant_full" ||
		r.header.Get("Retry-After") == "" || r.header.Get("X-Should-Retry") == "false" {
		t.Errorf("status %d, %s, %v", r.status, code, r.header)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		transcriptions, strings.TrimPrefix(p.url, "http://"), one.Get("Authorization"), 900<<10)
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("unread: %v, %+v", err, resp)
	}

	for range 2 {
		crowd.wait(p.url, other, "other")
		crowd.wait(p.url, nil, "nobody")
	}
	crowd.wait(p.url, nil, "nobody") // is no tenant, and has no limit
	tenants := p.pool().tenants
	tenants.mu.Lock()
	n := len(tenants.waiting)
	tenants.mu.Unlock()
	if n != 2 {
		t.Errorf("%d tenants wait", n)
	}
	close(gate)
	crowd.served(backend)
	eventually(t, "nothing is left of the tenants", func() bool {
		tenants.mu.Lock()
		defer tenants.mu.Unlock()
		return len(tenants.waiting) == 0
	})
	if log := p.log(); strings.Contains(log, "key-of-tenant") || !strings.Contains(log, "tenant_full") {
		t.Errorf("in the log: %s", log)
	}
}

// TestTenantLimitsOfSites: each site refuses by its own limit what waits for all of them.
func TestTenantLimitsOfSites(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t)
	backend.answer = held(gate)
	pool := "backend " + backend.address() + "\n"
	limit := func(n int) string { return fmt.Sprintf("tenant {header.X-User} {\n\tmax_queued %d\n}", n) }
	p := newProxy(t, pool)
	narrow, free := "http://"+freeAddress(t), "http://"+freeAddress(t)
	p.mustLoad(site(p.url, pool+limit(3)) + site(narrow, pool+limit(1)))
	p.ready(1)
	crowd := newCrowd(t, p, backend)
	user := http.Header{"X-User": {"one"}}
	ask := func(url string) int {
		t.Helper()
		r, err := persistent(func() (response, error) {
			return (&proxy{t: t, url: url}).postWith(t.Context(), transcriptions, user, wav(1), "model=base")
		})
		if err != nil {
			t.Fatal(err)
		}
		return r.status
	}
	crowd.wait(p.url, user, "one")
	if status := ask(narrow); status != http.StatusTooManyRequests {
		t.Errorf("the site with the limit of 1: status %d", status)
	}
	crowd.wait(p.url, user, "one")
	crowd.wait(p.url, user, "one")
	if status := ask(p.url); status != http.StatusTooManyRequests {
		t.Errorf("the site with the limit of 3: status %d", status)
	}
	// The scheduler's limit is the largest, and none where a site has none.
	limits := func() int { return p.pool().schedulerConfig().Queue.MaxPerTenant }
	if got := limits(); got != 3 {
		t.Errorf("the scheduler's limit is %d", got)
	}
	p.mustLoad(site(p.url, pool+limit(3)) + site(narrow, pool+limit(1)) + site(free, pool+"tenant {header.X-User}"))
	if got := limits(); got != 0 {
		t.Errorf("the scheduler's limit is %d with a site that has none", got)
	}
	crowd.wait(free, user, "one")
	close(gate)
	crowd.served(backend)
}

// TestTenantIsAHash: the same within a process, another in the next.
func TestTenantIsAHash(t *testing.T) {
	settle := scheduler.Settle{Reason: scheduler.TenantFull, RetryAfter: 7 * time.Second}
	if problem := new(transcription).settled(settle); problem.Status != http.StatusTooManyRequests || problem.RetryAfter != 7*time.Second {
		t.Errorf("refused by the scheduler: %+v", problem)
	}
	h := &Handler{Tenant: &Tenant{Key: "{http.request.header.X-User}"}}
	a, b := newTenants(), newTenants()
	ask := func(user string) *http.Request { return requestWith(t, http.Header{"X-User": {user}}) }
	if one, again := a.of(h, ask("one")), a.of(h, ask("one")); one != again || one == a.of(h, ask("two")) {
		t.Error("a hash does not tell tenants apart")
	}
	if a.of(h, ask("one")) == b.of(h, ask("one")) {
		t.Error("a hash means something outside of the process")
	}
	for _, nobody := range []string{"", "  "} {
		if got := a.of(h, ask(nobody)); got != 0 {
			t.Errorf("%q is tenant %d", nobody, got)
		}
	}
	if got := a.of(new(Handler), ask("one")); got != 0 {
		t.Errorf("without the option: tenant %d", got)
	}
}

// requestWith is a request as Caddy hands it to its handlers.
func requestWith(t *testing.T, header http.Header) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, transcriptions, nil)
	r.Header = header
	return caddyhttp.PrepareRequest(r, caddyhttp.NewTestReplacer(r), nil, nil)
}

// schedulerConfig is what the scheduler has been told.
func (p *Pool) schedulerConfig() scheduler.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current.schedulerConfig(p.seed, p.limits.Load().bytes, p.found(p.current), p.known)
}
