package caddymodule

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisperpool/whisperpool/scheduler"
)

// rival is one of two backends of which the first that gets an upload while armed is stuck with it, until it
// is left.
type rival struct {
	*whisper
	race *race
}

// race is what two rivals share.
type race struct {
	reads bool // whoever is stuck has all of the upload; else it is stuck in reading it
	armed atomic.Bool
	won   chan time.Time // when the other one answered
	left  chan time.Time // when the one that is stuck at work was left
	drain chan struct{}  // the one that is stuck in the upload reads on,
	cut   chan error     // and how that ended
	stuck atomic.Pointer[rival]
	takes time.Duration // otherwise
}

// tried is more than what backends are tried with.
const tried = 1 << 20

func (r *race) newRival(t *testing.T) *rival {
	t.Helper()
	v := &rival{&whisper{models: []string{"base"}, slots: 1, kind: "whisperpool"}, r}
	v.answer = func(w http.ResponseWriter, req *http.Request, got sent) {
		if stuck := r.stuck.Load(); stuck != nil && stuck != v && got.fileSize > tried {
			r.won <- time.Now()
			speak(w, req, got)
			return
		}
		taking(r.takes)(w, req, got)
	}
	v.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost && req.ContentLength > tried && r.armed.CompareAndSwap(true, false) {
			r.stuck.Store(v)
			r.hold(req)
			return
		}
		v.ServeHTTP(w, req)
	}))
	v.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10) // or connections hold many megabytes
		return ctx
	}
	v.Start()
	t.Cleanup(func() {
		v.CloseClientConnections()
		v.Close()
	})
	return v
}

// hold notes when an upload's sender goes away.
func (r *race) hold(req *http.Request) {
	if r.reads {
		_, _ = io.Copy(io.Discard, req.Body)
		<-req.Context().Done()
		r.left <- time.Now()
		return
	}
	select {
	case <-r.drain:
	case <-time.After(patience):
	}
	_, err := io.Copy(io.Discard, req.Body) // what was on its way, and not all of it
	r.cut <- err
}

// TestHedge: a job whose backend is stuck is started on the idle one as well; that one's answer reaches the client,
// once, the connection to the other is closed within 100 ms, and nothing is left of either.
func TestHedge(t *testing.T) {
	for name, reads := range map[string]bool{"stuck at work": true, "stuck in the upload": false} {
		t.Run(name, func(t *testing.T) {
			r := &race{
				reads: reads, won: make(chan time.Time, 1), left: make(chan time.Time, 1),
				drain: make(chan struct{}, 1), cut: make(chan error, 1), takes: 30 * time.Millisecond,
			}
			backends := []*rival{r.newRival(t), r.newRival(t)}
			p := newProxy(t, fmt.Sprintf("backend %s T4 {\n\tname 0\n}\nbackend %s T4 {\n\tname 1\n}\nhedge on", backends[0].address(), backends[1].address()))
			p.ready(2)
			p.learn(wav(1))
			upload := padded(wav(1), 6<<20) // more than a connection holds of which nothing is read

			// One round is enough where the machine is not busy; what the proxy itself did late would be late in all.
			var least time.Duration
			for round := range 10 {
				took := p.hedged(r, backends, upload, fmt.Sprintf("hedged-%d", round))
				t.Logf("the connection of the one that lost was closed after %v", took)
				if least = took; least <= 100*time.Millisecond {
					break
				}
			}
			if least > 100*time.Millisecond {
				t.Errorf("the connection of the one that lost was closed after %v", least)
			}
		})
	}
}

// padded is a WAV file with so much in it that is not audio.
func padded(file []byte, size int) []byte {
	out := append(bytes.Clone(file), "JUNK"...)
	out = append(binary.LittleEndian.AppendUint32(out, uint32(size)), make([]byte, size)...)
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
	return out
}

// learn serves jobs two at a time until enough is known of both backends.
func (p *proxy) learn(upload []byte) {
	p.t.Helper()
	eventually(p.t, "both backends' speeds are known", func() bool {
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if r, err := p.postWith(p.t.Context(), transcriptions, nil, upload, "model=base"); err != nil || r.status != http.StatusOK {
					p.t.Errorf("%v, status %d: %s", err, r.status, r.body)
				}
			})
		}
		both.Wait()
		for _, b := range p.pool().dispatcher.Snapshot().Backends {
			if len(b.Speeds) == 0 || b.Speeds[0].Observations < 4 {
				return p.t.Failed()
			}
		}
		return true
	})
}

// hedges is how many second attempts are counted as having ended so.
func hedges(t *testing.T, result string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(hedgesTotal)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() { // its labels are pool and result
			if m.GetLabel()[0].GetValue() == defaultPoolName && m.GetLabel()[1].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// hedged has a job hedged, and returns how long after the answer the other attempt's connection was closed.
func (p *proxy) hedged(r *race, backends []*rival, upload []byte, id string) time.Duration {
	t := p.t
	t.Helper()
	r.armed.Store(true)
	won, lost := hedges(t, hedgeWon), hedges(t, hedgeLost)
	got, err := p.postWith(t.Context(), transcriptions, http.Header{"X-Request-Id": {id}}, upload, "model=base")
	if err != nil {
		t.Fatal(err)
	}
	var left time.Time
	if r.reads {
		left = <-r.left
	} else {
		eventually(t, "the other attempt has ended", func() bool { return p.pool().running.Load() == 0 })
		left = time.Now()
		r.drain <- struct{}{}
		if err := <-r.cut; err == nil {
			t.Fatal("the upload was sent to its end to the one that had lost")
		}
	}
	stuck, answered := r.stuck.Swap(nil), <-r.won
	if stuck == nil {
		t.Fatal("nobody was stuck")
	}
	winner := "0"
	if stuck == backends[0] {
		winner = "1"
	}
	if got.status != http.StatusOK || got.body != `{"text":"ask not what"}`+"\n" && got.body != `{"text":"ask not what"}` ||
		got.header.Get("X-Whisperpool-Backend") != winner || got.header.Get("X-Whisperpool-Attempts") != "2" {
		t.Fatalf("status %d, headers %v: %s; backend %s was idle", got.status, got.header, got.body, winner)
	}
	eventually(t, "nothing is left inside", func() bool {
		pool, s := p.pool(), p.pool().dispatcher.Snapshot()
		for _, b := range s.Backends {
			if b.Outstanding != 0 || pool.member(b.ID).running.Load() != 0 {
				return false
			}
		}
		return s.Running == 0 && s.Queued == 0 && s.HeldBytes == 0 && pool.inside.Load() == 0 && pool.running.Load() == 0 &&
			pool.uploads.held.Load() == 0 && pool.uploads.memory.Load() == 0 && buffers.lent.Load() == 0
	})
	if won, lost = hedges(t, hedgeWon)-won, hedges(t, hedgeLost)-lost; won != 1 || lost != 0 {
		t.Errorf("%v second attempts have won and %v lost", won, lost)
	}
	ends := map[string]int{}
	for line := range strings.Lines(p.log()) {
		if strings.Contains(line, `"`+id+`"`) {
			for _, result := range []scheduler.Result{scheduler.Success, scheduler.Aborted} {
				if strings.Contains(line, `"result":"`+result.String()+`"`) {
					ends[result.String()]++
				}
			}
		}
	}
	if len(ends) != 2 || ends[scheduler.Success.String()] != 1 || ends[scheduler.Aborted.String()] != 1 {
		t.Errorf("the attempts ended so: %v\n%s", ends, p.log())
	}
	// Had the client been sent anything more, this would get it.
	if next := p.post(transcriptions, wav(1), "model=base"); next.status != http.StatusOK || next.header.Get("X-Request-Id") == id {
		t.Errorf("the next request: status %d: %s", next.status, next.body)
	}
	return left.Sub(answered)
}
