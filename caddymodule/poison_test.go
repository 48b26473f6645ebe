package caddymodule

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"testing"
	"time"
)

func spooled(t *testing.T, data []byte) *spool {
	t.Helper()
	s := &spool{account: new(account), memory: 1 << 20}
	if _, err := s.ReadFrom(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestPoisonIsRememberedForAWhile(t *testing.T) {
	var p poisons
	now := time.Now()
	bad, same, sized, other := spooled(t, []byte("deadly")), spooled(t, []byte("deadly")), spooled(t, []byte("lively")), spooled(t, []byte("harmless"))
	if p.has(bad, now) {
		t.Error("known before it was told")
	}
	p.add(bad, now)
	p.add(bad, now.Add(time.Minute))
	for s, want := range map[*spool]bool{bad: true, same: true, sized: false, other: false} {
		if got := p.has(s, now.Add(poisonTime-1)); got != want {
			t.Errorf("%d bytes: %v", s.size, got)
		}
	}
	if p.has(bad, now.Add(poisonTime)) || len(p.until)+len(p.sizes)+len(p.order) != 0 {
		t.Errorf("it is not forgotten: %+v", &p)
	}
}

func TestPoisonIsBounded(t *testing.T) {
	var p poisons
	now := time.Now()
	one := func(i int) *spool { return spooled(t, binary.BigEndian.AppendUint32(nil, uint32(i))) }
	for i := range poisonMost + 10 {
		s := one(i)
		p.add(s, now.Add(time.Duration(i)))
		s.Close()
	}
	if len(p.until) != poisonMost || len(p.order) != poisonMost || p.sizes[4] != poisonMost {
		t.Errorf("%d, %d, %d are remembered", len(p.until), len(p.order), p.sizes[4])
	}
	if p.has(one(9), now) || !p.has(one(10), now) || !p.has(one(poisonMost+9), now) {
		t.Error("not the oldest are forgotten")
	}
}

// TestPoisonIsRefusedBeforeABackend: once remembered, the same file is refused, whatever it is called, and
// reaches no backend; another one does.
func TestPoisonIsRefusedBeforeABackend(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	p.pool().poisons.add(spooled(t, wav(1)), time.Now())
	r := p.post(transcriptions, wav(1), "model=base")
	if _, code := r.problem(t); r.status != http.StatusUnprocessableEntity || code != "poison" || r.header.Get("X-Should-Retry") != "false" {
		t.Errorf("status %d, %s, %v", r.status, code, r.header)
	}
	if n := len(backend.requests()); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}
	if r := p.post(transcriptions, wav(1.5), "model=base"); r.status != http.StatusOK {
		t.Errorf("another file: %d", r.status)
	}
}
