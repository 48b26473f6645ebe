package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

var reloadOnes = []scenario{
	{ID: "16a", Name: "20 reloads under load: backends added, removed, resized", Theme: reloads, Short: true, Peers: true,
		Criterion: "nothing dropped, nothing run twice, nothing broken off on a backend that was removed, nothing sent there later, speeds kept", Run: reloading},
	{ID: "16d", Name: "the same with TLS, HTTP/1.1 and connections that are kept", Theme: reloads, Short: true,
		Criterion: "nothing dropped, nothing run twice, nothing broken off on a backend that was removed, nothing sent there later, speeds kept", Run: reloadingTLS},
	{ID: "16b", Name: "reloads that fail: nonsense, a port that is taken, a later app that refuses", Theme: reloads, Short: true,
		Criterion: "each is refused and changes nothing: no request fails, is broken off or run twice, the same backends serve, speeds are kept", Run: failedReloads},
	{ID: "16c", Name: "one pool in two sites, one address in two pools", Theme: reloads, Short: true,
		Criterion: "two sites share one count of slots; the same address in two pools is refused", Run: twoSites},
}

// ranOnce checks what backends saw of the load: each clip served once, and none broken off.
func ranOnce(t *tally, fakes ...*fake) (twice, brokenOff int) {
	served := map[uint64]int{}
	for _, f := range fakes {
		for _, r := range f.seen(t.began) {
			if r.clip == 0 {
				continue
			}
			if r.served {
				served[r.clip]++
			}
			if !r.left.IsZero() {
				brokenOff++
			}
		}
	}
	for _, n := range served {
		if n > 1 {
			twice++
		}
	}
	return twice, brokenOff
}

func reloading(ctx context.Context, e *env) (string, bool, error) {
	return reload(ctx, e, client, setup{})
}

func reloadingTLS(ctx context.Context, e *env) (string, bool, error) {
	by, err := secured()
	if err != nil {
		return "", false, err
	}
	return reload(ctx, e, by, setup{tls: true})
}

func reload(ctx context.Context, e *env, by *http.Client, s setup) (string, bool, error) {
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 40 * time.Millisecond, Noise: 0.1}
	fakes, err := e.pool(ctx, 5, "card", card, slots(2))
	if err != nil {
		return "", false, err
	}
	kept, extra := fakes[:3], fakes[3:]
	f, err := e.front(ctx, "front", s, servers(kept...))
	if err != nil {
		return "", false, err
	}
	if err := f.warmBy(ctx, by, len(fakes)); err != nil {
		return "", false, err
	}
	before, err := f.known(ctx)
	if err != nil {
		return "", false, err
	}
	stop, done := make(chan struct{}), make(chan *tally)
	go func() { done <- loopBy(ctx, by, f.url, 10, 16, between(1, 10), stop) }()
	removed := map[*fake]time.Time{}
	strays := 0
	for i := range 20 {
		now := changedPool(i, kept, extra)
		if err := f.reload(ctx, now, s); err != nil {
			close(stop)
			return "", false, fmt.Errorf("reload %d: %w", i+1, err)
		}
		if f.kind == haproxy { // which reloads on a signal, and does not say when it has
			pause(ctx, 400*time.Millisecond)
		}
		loaded := time.Now()
		for _, one := range fakes {
			if !has(now, one) {
				removed[one] = loaded
			} else if at, ok := removed[one]; ok {
				strays += one.between(at.Add(100*time.Millisecond), loaded.Add(-500*time.Millisecond))
				delete(removed, one)
			}
		}
		pause(ctx, pick(e, 1500*time.Millisecond, 700*time.Millisecond))
	}
	close(stop)
	got := <-done
	for one, at := range removed {
		strays += one.between(at.Add(100*time.Millisecond), time.Now())
	}
	twice, off := ranOnce(got, fakes...)
	after, err := f.known(ctx)
	kept = kept[1:] // the first one was removed now and then
	forgotten := 0
	for _, one := range kept {
		if after[one.name] < before[one.name] {
			forgotten++
		}
	}
	return fmt.Sprintf("%d of %d dropped%s, %d run twice, %d broken off, %d sent to a backend after it was removed, %d of %d speeds forgotten",
			len(got.failed()), got.count(), got.firstFailure(), twice, off, strays, forgotten, len(kept)),
		len(got.failed()) == 0 && twice == 0 && off == 0 && strays == 0 && forgotten == 0, err
}

// changedPool is what reload i makes of the pool: something is added, removed or resized.
func changedPool(i int, kept, extra []*fake) []server {
	now := servers(kept...)
	switch i % 4 {
	case 0:
		now = append(now, servers(extra[0])...)
	case 1:
		now = append(now, servers(extra...)...)
	case 2:
		now[0].slots = 1
	case 3:
		now = append(now[1:], servers(extra[1])...)
	}
	return now
}

// known is what is learned of speeds; nothing with balancers that learn none.
func (f *front) known(ctx context.Context) (map[string]int, error) {
	if f.kind != ours {
		return nil, nil
	}
	return f.learned(ctx)
}

func has(all []server, f *fake) bool {
	for _, s := range all {
		if s.address == f.address {
			return true
		}
	}
	return false
}

func failedReloads(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 40 * time.Millisecond, Noise: 0.1}
	fakes, err := e.pool(ctx, 3, "card", card)
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{}, servers(fakes[:2]...))
	if err != nil {
		return "", false, err
	}
	if err := f.warm(ctx, 2); err != nil {
		return "", false, err
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // no name is looked up
	if err != nil {
		return "", false, err
	}
	defer taken.Close()
	changed := f.config(servers(fakes[2]), setup{})
	bad := []string{
		strings.Replace(changed, "whisper_pool {", "whisper_pool {\n nonsense 1", 1),
		strings.Replace(changed, "whisper_pool {", "whisper_pool {\n policy nonsense", 1),
		changed + fmt.Sprintf("http://%s {\n bind 127.0.0.1\n respond taken\n}\n", taken.Addr()),
		// An app that refuses when it is provisioned, after the pool's.
		strings.Replace(changed, "auto_https off", "auto_https off\n storage file_system /dev/null/nowhere\n pki {\n ca local {\n root {\n cert /nowhere.pem\n key /nowhere.key\n }\n }\n }", 1) +
			"http://127.0.0.1:1 {\n bind 127.0.0.1\n acme_server\n}\n",
	}
	stop, done := make(chan struct{}), make(chan *tally)
	go func() { done <- loop(ctx, f.url, 4, 16, between(1, 10), stop) }()
	accepted := 0
	var firstAccepted string
	for round := range 2 {
		for i, config := range bad {
			pause(ctx, 500*time.Millisecond)
			if err := f.load(ctx, config); err == nil {
				accepted++
				firstAccepted = fmt.Sprintf(" (the first: %d)", i+1)
			} else if round == 0 && !strings.HasPrefix(err.Error(), "4") {
				firstAccepted += fmt.Sprintf(" (%d: %v)", i+1, err)
			}
		}
	}
	pause(ctx, time.Second)
	close(stop)
	got := <-done
	twice, off := ranOnce(got, fakes...)
	strays := fakes[2].between(got.began, time.Now())
	quiet := true
	for _, one := range fakes[:2] {
		quiet = quiet && one.between(time.Now().Add(-2*time.Second), time.Now()) > 0
	}
	return fmt.Sprintf("%d of %d accepted%s, %d of %d requests failed%s, %d run twice, %d broken off, %d sent to the backend of the failed one", accepted, 2*len(bad), firstAccepted,
			len(got.failed()), got.count(), got.firstFailure(), twice, off, strays),
		accepted == 0 && len(got.failed()) == 0 && twice == 0 && off == 0 && strays == 0 && quiet, nil
}

func twoSites(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond}
	fakes, err := e.pool(ctx, 2, "card", card)
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	port, err := freePort()
	if err != nil {
		return "", false, err
	}
	one := f.config(servers(fakes...), setup{})
	at := strings.LastIndex(one, "http://127.0.0.1:")
	site := strings.Replace(one[at:], fmt.Sprint(f.ports[0]), fmt.Sprint(port), 1)
	if err := f.load(ctx, one+site); err != nil {
		return "", false, fmt.Errorf("the pool in two sites: %w", err)
	}
	stop := make(chan struct{})
	time.AfterFunc(5*time.Second, func() { close(stop) })
	other := make(chan *tally)
	go func() {
		other <- loop(ctx, fmt.Sprintf("http://127.0.0.1:%d", port), 6, 1, between(1, 5), stop)
	}()
	first := loop(ctx, f.url, 6, 2, between(1, 5), stop)
	second := <-other
	overrun := fakes[0].overrun.Load() + fakes[1].overrun.Load()
	failures := len(first.failed()) + len(second.failed())
	twoPools := f.load(ctx, one+strings.Replace(site, "whisper_pool {", "whisper_pool other {", 1))
	said := "accepted"
	if twoPools != nil {
		said = "refused"
	}
	return fmt.Sprintf("%d requests through two sites, %d failed%s%s, %d times more at a backend than its slots; one address in two pools: %s", first.count()+second.count(), failures,
		first.firstFailure(), second.firstFailure(), overrun, said), failures == 0 && overrun == 0 && twoPools != nil, nil
}
