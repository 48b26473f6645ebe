package caddymodule

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// resolver is a DNS server on this machine.
type resolver struct {
	address string

	mu      sync.Mutex
	records map[string][]string // by name and type; nil: it fails
	asked   map[string]int      // how often, by name
}

func newResolver(t *testing.T, records map[string][]string) *resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{address: conn.LocalAddr().String(), records: records, asked: map[string]int{}}
	server := &dns.Server{PacketConn: conn, Handler: r}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.ActivateAndServe()
	}()
	t.Cleanup(func() {
		_ = server.Shutdown()
		_ = conn.Close()
		<-ended
	})
	return r
}

func (r *resolver) set(records map[string][]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = records
}

// change sets one name's addresses.
func (r *resolver) change(name string, addresses ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records["A "+name] = addresses
}

// looked waits until a name was asked for so often again.
func (r *resolver) looked(t *testing.T, name string, times int) {
	t.Helper()
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.asked[name]
	}
	want := count() + times
	eventually(t, name+" is asked for again", func() bool { return count() >= want })
}

// byName is a pool of what a name's addresses are.
func (r *resolver) byName(name, port string) string {
	return fmt.Sprintf("discover a %s %s {\n\trefresh 100ms\n\tslots 1\n\tresolvers udp/%s\n\tversions ipv4\n}\n", name, port, r.address)
}

// ServeDNS answers.
func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := new(dns.Msg).SetReply(q)
	answer.RecursionAvailable = true // or to have no record is an error of the server's
	if r.records == nil {
		answer.SetRcode(q, dns.RcodeServerFailure)
	}
	question := q.Question[0]
	r.asked[question.Name]++
	kind := dns.TypeToString[question.Qtype]
	for _, record := range r.records[kind+" "+question.Name] {
		rr, err := dns.NewRR(fmt.Sprintf("%s 1 IN %s %s", question.Name, kind, record))
		if err != nil {
			panic(err)
		}
		answer.Answer = append(answer.Answer, rr)
	}
	_ = w.WriteMsg(answer)
}

// newWhisperAt is newWhisper at an address of this machine, with a port that exists there.
func newWhisperAt(t *testing.T, address string) *whisper {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip("this machine has no second loopback address:", err)
	}
	s := &whisper{models: []string{"base"}, slots: 1, kind: "whisperpool"}
	s.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: s}}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func states(p *proxy) map[string]string {
	states := map[string]string{}
	for _, b := range p.pool().dispatcher.Snapshot().Backends {
		states[string(b.ID)] = b.State
	}
	return states
}

// TestDiscover: backends come and go with the records of a name; one that goes away finishes what it has; a
// resolver that fails takes nobody away.
func TestDiscover(t *testing.T) {
	first := newWhisper(t)
	_, port, _ := net.SplitHostPort(first.address())
	second := newWhisperAt(t, "127.0.0.2:"+port)
	gate := make(chan struct{})
	second.answer = held(gate)
	const name = "gpus.discover.test."
	r := newResolver(t, map[string][]string{"A " + name: {"127.0.0.1", "127.0.0.2"}})
	options := fmt.Sprintf("discover a %s %s T4 {\n\trefresh 100ms\n\tslots 1\n\tresolvers udp/%s\n\tversions ipv4\n}\npolicy round_robin\n", name, port, r.address)
	p := newProxy(t, options)
	p.ready(2)
	one, two := "127.0.0.1:"+port, "127.0.0.2:"+port
	for _, b := range p.pool().dispatcher.Snapshot().Backends {
		if b.Class != "T4" || b.Slots != 1 || string(b.ID) != one && string(b.ID) != two {
			t.Errorf("%+v", b)
		}
	}
	var jobs []chan answered // round robin: one of two goes to the second
	eventually(t, "the second runs one", func() bool {
		if !backendRuns(second) && len(jobs) < 20 {
			jobs = append(jobs, p.postLater("model=base"))
		}
		return backendRuns(second)
	})
	r.set(map[string][]string{"A " + name: {"127.0.0.1"}})
	eventually(t, "the second drains", func() bool { return states(p)[two] == "draining" })
	close(gate)
	for _, job := range jobs {
		if a := <-job; a.err != nil || a.status != http.StatusOK {
			t.Errorf("%v, status %d: %s", a.err, a.status, a.body)
		}
	}
	eventually(t, "the second is gone", func() bool { _, there := states(p)[two]; return !there })

	r.set(nil)
	eventually(t, "the failure is logged", func() bool { return strings.Contains(p.log(), "those that were found before are kept") })
	p.mustLoad(site(p.url, options+"attempts 2"))
	if s := states(p); s[one] != "up" || len(s) != 1 {
		t.Errorf("after a failure and a reload: %v", s)
	}
	if a := p.post(transcriptions, wav(1), "model=base"); a.status != http.StatusOK || a.header.Get("X-Whisperpool-Backend") != one {
		t.Errorf("status %d by %s: %s", a.status, a.header.Get("X-Whisperpool-Backend"), a.body)
	}
	r.set(map[string][]string{"A " + name: {"127.0.0.2"}})
	eventually(t, "the second is back, the first is not", func() bool { s := states(p); return s[two] == "up" && len(s) == 1 })
	p.mustLoad(site(p.url, "backend "+first.address()))
	eventually(t, "only what is configured is left", func() bool { s := states(p); return s[first.address()] == "up" && len(s) == 1 })
}

// TestDiscoverSRV: with a port each, and a request that comes before the answer waits for it.
func TestDiscoverSRV(t *testing.T) {
	backends := []*whisper{newWhisper(t), newWhisper(t)}
	const name = "_whisper._tcp.srv.test."
	var records []string
	for _, b := range backends {
		_, port, _ := net.SplitHostPort(b.address())
		records = append(records, "0 0 "+port+" localhost.")
	}
	r := newResolver(t, map[string][]string{"SRV " + name: records})
	p := newProxy(t, fmt.Sprintf("discover srv %s {\n\tresolvers udp/%s\n\theader_up X-Key found\n}", name, r.address))
	if a := p.post(transcriptions, wav(1), "model=base"); a.status != http.StatusOK {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	p.ready(2)
	for _, b := range backends {
		for _, got := range b.requests() {
			if got.header.Get("X-Key") != "found" || !strings.HasPrefix(got.host, "localhost:") {
				t.Errorf("host %q, headers %v", got.host, got.header)
			}
		}
	}
}

// TestDiscoverNothing: while a name has no addresses, requests wait a moment and are then told so, whatever they ask
// for; those that wait are served when an address comes.
func TestDiscoverNothing(t *testing.T) {
	backend := newWhisper(t)
	_, port, _ := net.SplitHostPort(backend.address())
	r := newResolver(t, map[string][]string{})
	p := newProxy(t, r.byName("none.nothing.test.", port))
	r.looked(t, "none.nothing.test.", 3)
	status := p.pool().status(forOperators)
	if len(status.Backends) != 0 || len(status.Discover) != 1 || status.Discover[0].Failure == "" || !strings.HasPrefix(status.Discover[0].Source, "none.nothing.test.") {
		t.Errorf("%+v", status)
	}
	if h := p.get("/health?pool"); h.status != http.StatusServiceUnavailable || !strings.Contains(h.body, `"backends":0`) {
		t.Errorf("status %d: %s", h.status, h.body)
	}
	if h := p.get("/health"); h.status != http.StatusOK {
		t.Errorf("status %d: %s", h.status, h.body)
	}
	named := &proxy{t: t, url: "http://" + freeAddress(t)}
	pool := r.byName("none.nothing.test.", port)
	p.mustLoad(siteOf(p.url, "", pool) + siteOf(named.url, "", pool+"default_model base\n"))
	var refused []chan answered
	for _, at := range []*proxy{p, named} {
		refused = append(refused, at.postLater("model=base"), at.postLater("model=whisper-1", "language=de"),
			at.postLater("model=base", "timestamp_granularities[]=word", "response_format=verbose_json"))
	}
	for _, c := range refused {
		a := <-c
		if a.err != nil {
			t.Fatal(a.err)
		}
		if message, code := a.problem(t); a.status != http.StatusServiceUnavailable || code != "no_backend" || a.header.Get("Retry-After") == "" ||
			a.header.Get("X-Should-Retry") == "false" || !strings.Contains(message, "looking for more finds none") {
			t.Errorf("status %d, %v: %s", a.status, a.header, a.body)
		}
	}
	// A request is not held for long, so on a machine that is busy it may take a few.
	for round := 1; ; round++ {
		name := fmt.Sprintf("round-%d.nothing.test.", round) // of which there was never an address
		p.mustLoad(siteOf(p.url, "", r.byName(name, port)))
		job := p.postLater("model=base")
		eventually(t, "the upload is in", func() bool { return p.pool().uploads.held.Load() > 0 })
		r.change(name, "127.0.0.1")
		a := <-job
		if a.err == nil && a.status == http.StatusOK {
			break
		}
		if round == 5 {
			t.Fatalf("%v, status %d: %s", a.err, a.status, a.body)
		}
	}
	p.ready(1)
	if status := p.pool().status(forOperators); len(status.Backends) != 1 || status.Discover[0].Failure != "" || len(status.Discover[0].Addresses) != 1 {
		t.Errorf("%+v", status)
	}
}

// TestDiscoverNothingMore: when a name loses its last address what was found is kept; a job that waits there runs on
// the next that comes, and where what was kept dies too, requests are told.
func TestDiscoverNothingMore(t *testing.T) {
	first := newWhisper(t)
	_, port, _ := net.SplitHostPort(first.address())
	second, third := newWhisperAt(t, "127.0.0.2:"+port), newWhisperAt(t, "127.0.0.3:"+port)
	gate := make(chan struct{})
	first.answer = held(gate)
	const name = "fewer.test."
	r := newResolver(t, map[string][]string{"A " + name: {"127.0.0.1"}})
	p := newProxy(t, r.byName(name, port))
	p.ready(1)
	runs := p.postLater("model=base")
	eventually(t, "one runs", func() bool { return backendRuns(first) })
	waits := p.postLater("model=base")
	eventually(t, "one waits", func() bool { return p.pool().dispatcher.Snapshot().Queued == 1 })
	r.change(name)
	eventually(t, "the failure is told", func() bool { return p.pool().status(forOperators).Discover[0].Failure != "" })
	if s := states(p); s["127.0.0.1:"+port] != "up" || len(s) != 1 {
		t.Errorf("without any address: %v", s)
	}
	r.change(name, "127.0.0.2")
	if a := <-waits; a.err != nil || a.status != http.StatusOK || a.header.Get("X-Whisperpool-Backend") != "127.0.0.2:"+port {
		t.Errorf("the one that waited: %v, status %d by %s: %s", a.err, a.status, a.header.Get("X-Whisperpool-Backend"), a.body)
	}
	close(gate)
	if a := <-runs; a.err != nil || a.status != http.StatusOK || a.header.Get("X-Whisperpool-Backend") != "127.0.0.1:"+port {
		t.Errorf("the one that ran: %v, status %d by %s: %s", a.err, a.status, a.header.Get("X-Whisperpool-Backend"), a.body)
	}
	eventually(t, "the first is gone", func() bool { return len(states(p)) == 1 })

	r.change(name)
	r.looked(t, name, 2)
	second.CloseClientConnections()
	second.Close()
	eventually(t, "requests are told that there is nobody", func() bool {
		a := p.post(transcriptions, wav(1), "model=base")
		return a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "looking for more finds none") && a.header.Get("Retry-After") != ""
	})
	r.change(name, "127.0.0.3")
	p.ready(1)
	if a := p.post(transcriptions, wav(1), "model=base"); a.status != http.StatusOK || len(third.requests()) == 0 {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

// siteOf is a site with a pool of a name.
func siteOf(url, pool, options string) string {
	return fmt.Sprintf("%s {\n\twhisper_pool %s {\n%s\n\t}\n}\n", url, pool, options)
}

// TestFoundInTwoPools: an address is used by one pool alone: by the one that is configured with it, else by the one
// that found it first.
func TestFoundInTwoPools(t *testing.T) {
	backend := newWhisper(t)
	_, port, _ := net.SplitHostPort(backend.address())
	other := newWhisperAt(t, "127.0.0.2:"+port)
	x, y := backend.address(), other.address()
	const first, second = "first.pools.test.", "second.pools.test."
	r := newResolver(t, map[string][]string{"A " + first: {"127.0.0.1"}, "A " + second: {"127.0.0.1"}})
	p := newProxy(t, r.byName("nobody.pools.test.", port))
	urls := []string{p.url, "http://" + freeAddress(t), "http://" + freeAddress(t)}
	one, two := siteOf(urls[0], "one", r.byName(first, port)), siteOf(urls[1], "two", r.byName(second, port))
	has := func(pool string, want ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("pool %s has %v", pool, want), func() bool {
			pool := loadPool(pool)
			defer pool.release()
			ids := map[string]bool{}
			for _, b := range pool.dispatcher.Snapshot().Backends {
				ids[string(b.ID)] = true
			}
			wanted := map[string]bool{}
			for _, id := range want {
				wanted[id] = true
			}
			return maps.Equal(ids, wanted)
		})
	}
	warned := func(want int) {
		t.Helper()
		if n := strings.Count(p.log(), "a backend that was found is left out"); n != want {
			t.Errorf("%d warnings, not %d", n, want)
		}
	}
	p.mustLoad(one)
	has("one", x)
	p.mustLoad(one + two)
	eventually(t, "the second pool leaves it out", func() bool {
		pool := loadPool("two")
		defer pool.release()
		status := pool.status(forOperators).Discover
		return len(status) == 1 && status[0].LeftOut[x] == "one"
	})
	has("two")
	r.looked(t, second, 5)
	warned(1)
	has("one", x)

	r.change(first, "127.0.0.2")
	has("two", x)
	has("one", y)
	r.change(first, "127.0.0.1", "127.0.0.2")
	r.looked(t, first, 5)
	has("one", y)
	has("two", x)
	warned(2)
	if n := strings.Count(p.log(), "no other pool has it any more"); n != 1 {
		t.Errorf("%d times a backend is said to be used again", n)
	}

	p.mustLoad(one + two + siteOf(urls[2], "three", "backend "+x)) // who is configured with it goes first
	has("three", x)
	has("two")
	has("one", y)
	warned(3)
	p.mustLoad(one + two)
	has("two", x)
	has("one", y)
	p.mustLoad(one)
	has("one", x, y)
	if a := (&proxy{t: t, url: urls[0]}).post(transcriptions, wav(1), "model=base"); a.status != http.StatusOK {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}
