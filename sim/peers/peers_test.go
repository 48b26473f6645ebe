package peers_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/sim/peers"
)

// pool of servers with these rates, of one slot each, that run so many requests.
func pool(rates []float64, outstanding ...int) []peers.Server {
	var all []peers.Server
	for i, r := range rates {
		s := peers.Server{Up: true, Slots: 1, Rate: r}
		if i < len(outstanding) {
			s.Outstanding = outstanding[i]
		}
		all = append(all, s)
	}
	return all
}

func start(t *testing.T, name string, servers []peers.Server) peers.Balancer {
	t.Helper()
	p, ok := peers.ByName(name)
	if !ok {
		t.Fatalf("there is no peer %s", name)
	}
	return p.New(servers, rand.New(rand.NewPCG(1, 2)))
}

// waits is the choice of a balancer that keeps the request.
const waits = -1

func pick(b peers.Balancer, at time.Duration, servers []peers.Server) int {
	i, ok := b.Pick(at, servers)
	if !ok {
		return waits
	}
	return i
}

// TestRulesThatNeedNoHistory: the slow servers are listed first.
func TestRulesThatNeedNoHistory(t *testing.T) {
	rates := []float64{1, 1, 8}
	for _, c := range []struct {
		peer        string
		outstanding []int
		want        []int // any of these
	}{
		{"haproxy_first", []int{0, 0, 0}, []int{2}},
		{"haproxy_first", []int{0, 0, 1}, []int{0}},
		{"haproxy_first", []int{1, 0, 1}, []int{1}},
		{"haproxy_first", []int{1, 1, 1}, []int{waits}},
		{"haproxy_leastconn_tuned", []int{1, 0, 1}, []int{1}},
		{"haproxy_leastconn_tuned", []int{1, 1, 1}, []int{waits}},
		{"haproxy_leastconn", []int{3, 2, 3}, []int{1}},
		{"haproxy_leastconn", []int{1, 1, 0}, []int{2}},
		{"skyserve", []int{1, 1, 7}, []int{2}}, // 7/8 is below 1
		{"skyserve", []int{1, 0, 1}, []int{1}},
		{"caddy_least_conn", []int{2, 1, 1}, []int{1, 2}},
		{"nginx_least_conn", []int{2, 1, 3}, []int{1}},
		{"caddy_round_robin", []int{9, 0, 0}, []int{0}},
		{"caddy_random", []int{9, 0, 0}, []int{0, 1, 2}},
		{"prequal", []int{5, 0, 1}, []int{1}},
	} {
		servers := pool(rates, c.outstanding...)
		if got := pick(start(t, c.peer, servers), 0, servers); !slices.Contains(c.want, got) {
			t.Errorf("%s with %v outstanding chose %d, want one of %v", c.peer, c.outstanding, got, c.want)
		}
	}
}

// TestHAProxyWeights: with one request each the heavier server is next, and an idle one is before it.
func TestHAProxyWeights(t *testing.T) {
	servers := pool([]float64{1, 4}, 1, 3)
	for i := range servers {
		servers[i].Slots = 10
	}
	if got := pick(start(t, "haproxy_leastconn_tuned", servers), 0, servers); got != 1 {
		t.Errorf("chose %d, want 1: (3+1)/4 is below (1+1)/1", got)
	}
	servers[0].Outstanding = 0
	if got := pick(start(t, "haproxy_leastconn_tuned", servers), 0, servers); got != 0 {
		t.Errorf("chose %d, want 0, which is idle", got)
	}
}

// TestEqualsTakeTurns: those that say so hand out equal servers in turn.
func TestEqualsTakeTurns(t *testing.T) {
	for _, peer := range []string{"haproxy_leastconn", "haproxy_leastconn_tuned", "nginx_least_conn", "caddy_round_robin", "traefik_leasttime"} {
		servers := pool([]float64{1, 1, 1, 1})
		b := start(t, peer, servers)
		count := make([]int, len(servers))
		for range 40 {
			i := pick(b, 0, servers)
			count[i]++
			servers[i].Outstanding++
			// It is answered before the next comes.
			servers[i].Outstanding--
			b.Ended(0, i, time.Millisecond, 0)
		}
		if slices.Min(count) < 9 || slices.Max(count) > 11 {
			t.Errorf("%s: picks %v of equal servers that are idle each time, want 10 each", peer, count)
		}
	}
}

func TestServersThatAreDownAreNotChosen(t *testing.T) {
	for _, name := range peers.Names() {
		servers := pool([]float64{8, 1, 1})
		servers[0].Up = false
		b := start(t, name, servers)
		for range 20 {
			if got := pick(b, 0, servers); got == 0 {
				t.Errorf("%s chose a server that is down", name)
				break
			}
		}
	}
}

func TestTraefikPrefersTheQuickestLoaded(t *testing.T) {
	servers := pool([]float64{1, 1})
	b := start(t, "traefik_leasttime", servers)
	b.Ended(0, 0, 100*time.Millisecond, 0)
	if got := pick(b, 0, servers); got != 1 {
		t.Errorf("chose %d, want 1, which it has not seen", got)
	}
	b.Ended(0, 1, 250*time.Millisecond, 0)
	servers[0].Outstanding = 1
	if got := pick(b, 0, servers); got != 0 {
		t.Errorf("chose %d, want 0: 100 ms x 2 is below 250 ms", got)
	}
	servers[0].Outstanding = 2
	if got := pick(b, 0, servers); got != 1 {
		t.Errorf("chose %d, want 1: 250 ms is below 100 ms x 3", got)
	}
	for range 100 { // the mean is of the last hundred
		b.Ended(0, 0, time.Second, 0)
	}
	servers[0].Outstanding = 0
	if got := pick(b, 0, servers); got != 1 {
		t.Errorf("chose %d, want 1: the other takes a second now", got)
	}
}

func TestPeakEWMA(t *testing.T) {
	servers := pool([]float64{1, 1})
	b := start(t, "peak_ewma", servers)
	b.Ended(0, 0, 100*time.Millisecond, 0)
	b.Ended(0, 1, 300*time.Millisecond, 0)
	if got := pick(b, 0, servers); got != 0 {
		t.Errorf("chose %d, want 0, which is quicker", got)
	}
	servers[0].Outstanding = 3
	if got := pick(b, 0, servers); got != 1 {
		t.Errorf("chose %d, want 1: 300 ms is below 4 x 100 ms", got)
	}
	// A peak counts at once, and is forgotten with time.
	servers[0].Outstanding = 0
	b.Ended(0, 0, 10*time.Second, 0)
	if got := pick(b, 0, servers); got != 1 {
		t.Errorf("chose %d, want 1 after a peak of the other", got)
	}
	b.Ended(60*time.Second, 1, 300*time.Millisecond, 0)
	if got := pick(b, 60*time.Second, servers); got != 0 {
		t.Errorf("chose %d a minute later, want 0: its peak has decayed to 25 ms", got)
	}
}

func TestTwoChoicesTakesTheBetterOfTwo(t *testing.T) {
	servers := pool([]float64{1, 1, 1, 1}, 9, 0, 0, 0)
	b := start(t, "p2c", servers)
	for range 100 {
		if pick(b, 0, servers) == 0 {
			t.Fatal("chose the server with nine requests, though every other has none")
		}
	}
}

func TestPrequalAvoidsTheHot(t *testing.T) {
	servers := pool([]float64{1, 1, 1, 1, 1, 1, 1}, 1, 1, 1, 1, 1, 1, 9)
	b := start(t, "prequal", servers)
	for i := range servers {
		b.Ended(0, i, time.Second, 0)
	}
	b.Ended(0, 6, time.Microsecond, 0) // the quickest, if it were not for what waits there
	b.Ended(0, 6, time.Microsecond, 0)
	b.Ended(0, 3, 10*time.Millisecond, 0)
	b.Ended(0, 3, 10*time.Millisecond, 0)
	if got := pick(b, 0, servers); got != 3 {
		t.Errorf("chose %d, want 3: the quickest that is not hot", got)
	}
}
