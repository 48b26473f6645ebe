package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

var checks = []scenario{
	{ID: "jitter", Name: "when backends are asked for their health", Theme: health, Short: true,
		Criterion: "every 4 to 6 s, and not all at the same moments", Run: jitteredChecks},
	{ID: "discover", Name: "backends that a name's records give: one dies and comes back, one is added, one removed, the resolver fails", Theme: health, Short: true,
		Criterion: "health is checked there, too: one that dies is out at once and serves within 10 s of its return; one that is added serves within 5 s; nothing new is sent to one that is removed, what runs there is finished; no failures",
		Run:       discovered},
}

// rounds are when a backend was asked: what comes within a second belongs together.
func (f *fake) rounds(since time.Time) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []time.Time
	for _, at := range f.probes {
		if at.After(since) && (len(all) == 0 || at.Sub(all[len(all)-1]) > time.Second) {
			all = append(all, at)
		}
	}
	return all
}

func jitteredChecks(ctx context.Context, e *env) (string, bool, error) {
	fakes, f, err := e.warmPool(ctx, 8, law{Fixed: 20 * time.Millisecond}, setup{})
	if err != nil {
		return "", false, err
	}
	began := time.Now()
	pause(ctx, pick(e, 45*time.Second, 24*time.Second))
	var gaps []time.Duration
	var last []time.Time // each one's last
	for _, one := range fakes {
		all := one.rounds(began)
		for i := range all[:max(0, len(all)-1)] {
			gaps = append(gaps, all[i+1].Sub(all[i]))
		}
		if len(all) > 0 {
			last = append(last, all[len(all)-1])
		}
	}
	if len(gaps) < 2*len(fakes) {
		return fmt.Sprintf("asked only %d times", len(gaps)+len(last)), false, nil
	}
	slices.Sort(gaps)
	most := 0 // of the last ones within a quarter of a second
	for _, at := range last {
		n := 0
		for _, other := range last {
			if d := other.Sub(at); d >= 0 && d < 250*time.Millisecond {
				n++
			}
		}
		most = max(most, n)
	}
	least, longest := gaps[0], gaps[len(gaps)-1]
	return fmt.Sprintf("%d backends, every %s to %s; in the end at most %d within a quarter of a second; up: %v", len(fakes), ms(least), ms(longest), most, f.allUp(ctx, len(fakes))),
		least >= 3900*time.Millisecond && longest <= 6500*time.Millisecond && longest-least >= 300*time.Millisecond && most <= len(fakes)/2 && f.allUp(ctx, len(fakes)), nil
}

func (f *front) allUp(ctx context.Context, n int) bool {
	m, err := f.metrics(ctx)
	return err == nil && int(m.sum("whisperpool_backend_up")) == n
}

// resolver is a DNS server on this machine that knows one name.
type resolver struct {
	address string

	mu        sync.Mutex
	addresses []string // nil: it fails
}

const poolName = "gpus.faults.test"

// resolver starts one; it ends with ctx.
func newResolver(ctx context.Context, addresses ...string) (*resolver, error) {
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &resolver{address: conn.LocalAddr().String(), addresses: addresses}
	server := &dns.Server{PacketConn: conn, Handler: r}
	go func() { _ = server.ActivateAndServe() }() // ends with the connection
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return r, nil
}

func (r *resolver) set(addresses ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addresses = addresses
}

// ServeDNS answers with an A record for each address.
func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := new(dns.Msg)
	answer.SetReply(q)
	if r.addresses == nil {
		answer.SetRcode(q, dns.RcodeServerFailure)
	}
	for _, question := range q.Question {
		for _, address := range r.addresses {
			if question.Qtype == dns.TypeA {
				answer.Answer = append(answer.Answer, &dns.A{Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(address).To4()})
			}
		}
	}
	_ = w.WriteMsg(answer) // who asked asks again
}

func discovered(ctx context.Context, e *env) (string, bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond, Noise: 0.1}
	port, err := freePort()
	if err != nil {
		return "", false, err
	}
	hosts := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}
	var fakes []*fake
	for _, host := range hosts {
		one, err := e.fake(ctx, host, card, at(fmt.Sprintf("%s:%d", host, port)))
		if err != nil {
			return skipped("this machine has no second loopback address: %v", err)
		}
		fakes = append(fakes, one)
	}
	names, err := newResolver(ctx, hosts[:2]...)
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{pool: fmt.Sprintf("discover a %s %d {\n refresh 1s\n slots 1\n resolvers udp/%s\n versions ipv4\n}", poolName, port, names.address)}, nil)
	if err != nil {
		return "", false, err
	}
	if err := f.warm(ctx, 2); err != nil {
		return "", false, err
	}
	stop, done := make(chan struct{}), make(chan *tally)
	go func() { done <- loop(ctx, f.url, 4, 8, between(1, 10), stop) }()
	said, held, err := comeAndGo(ctx, f, names, fakes)
	close(stop)
	got := <-done
	if err != nil {
		return "", false, err
	}
	twice, off := ranOnce(got, fakes[0], fakes[2])
	return fmt.Sprintf("%s; %d broken off, %d run twice, %d of %d failed%s", said, off, twice, len(got.failed()), got.count(), got.firstFailure()),
		held && off == 0 && twice == 0 && len(got.failed()) == 0, nil
}

// comeAndGo lets the second of three backends die and come back, adds the third, removes the first, and then has
// the resolver fail.
func comeAndGo(ctx context.Context, f *front, names *resolver, fakes []*fake) (said string, held bool, err error) {
	first, second, third := fakes[0], fakes[1], fakes[2]
	works := func(one *fake, since time.Time) (took time.Duration, came bool) {
		return await(ctx, 15*time.Second, func() bool {
			for _, r := range one.seen(since) {
				if r.served && r.clip != 0 {
					return true
				}
			}
			return false
		})
	}
	pause(ctx, 2*time.Second)
	second.die()
	out, left := await(ctx, 10*time.Second, func() bool { return f.allUp(ctx, 1) })
	pause(ctx, 6*time.Second)
	asked := len(first.rounds(time.Time{}))
	risen := time.Now()
	if err := second.rise(ctx); err != nil {
		return "", false, err
	}
	back, cameBack := works(second, risen)

	added := time.Now()
	names.set("127.0.0.2", "127.0.0.3", "127.0.0.4")
	new, cameNew := works(third, added)

	names.set("127.0.0.3", "127.0.0.4")
	_, gone := await(ctx, 10*time.Second, func() bool { return first.began.Load() == 0 && f.allUp(ctx, 2) })
	removed := time.Now()
	names.set()
	pause(ctx, 5*time.Second)
	strays := first.between(removed.Add(20*time.Millisecond), time.Now())
	kept := f.allUp(ctx, 2)
	if ctx.Err() != nil {
		return "", false, errors.New("interrupted")
	}
	return fmt.Sprintf("asked for its health %d times; out %s after it died: %v, served %s after its return; the new one served after %s; removed: %v, %d sent there later; while the resolver fails the others are kept: %v",
			asked, ms(out), left, ms(back), ms(new), gone, strays, kept),
		asked >= 2 && left && out <= 2*time.Second && cameBack && back <= 10*time.Second && cameNew && new <= 5*time.Second && gone && strays == 0 && kept, nil
}
