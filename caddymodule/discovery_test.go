package caddymodule

import (
	"fmt"
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
}

func newResolver(t *testing.T, records map[string][]string) *resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{address: conn.LocalAddr().String(), records: records}
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

// ServeDNS answers.
func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := new(dns.Msg).SetReply(q)
	if r.records == nil {
		answer.SetRcode(q, dns.RcodeServerFailure)
	}
	question := q.Question[0]
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
