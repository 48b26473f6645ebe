package caddymodule

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"slices"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
)

// TestSlotOfAClientThatLeft: a server that does not notice that it was left works on, so its slot stays
// taken for about as long as the job was predicted to take; one that notices has it back at once.
func TestSlotOfAClientThatLeft(t *testing.T) {
	for kind, seconds := range map[string]float64{
		"openai":      20,  // predicted to take 1.4 s
		"whisperpool": 100, // 6.3 s
	} {
		t.Run(kind, func(t *testing.T) {
			fixed, perSecond, _ := gpu.Prior("T4", "large-v3")
			predicted := fixed + time.Duration(seconds*float64(perSecond))
			gone := make(chan struct{})
			came := make(chan time.Time, 2)
			backend := newWhisper(t, func(s *whisper) { s.kind, s.models = kind, []string{"large-v3"} })
			backend.answer = func(w http.ResponseWriter, r *http.Request, got sent) {
				came <- time.Now()
				if slices.Contains(got.form["prompt"], "leaves") {
					<-r.Context().Done()
					close(gone)
					return
				}
				speak(w, r, got)
			}
			p := newProxy(t, "backend "+backend.address()+" T4 {\n\tslots 1\n}")
			p.ready(1)
			began := time.Now()
			ctx, leave := context.WithCancel(t.Context())
			go func() { _, _ = p.postWith(ctx, transcriptions, nil, wav(seconds), "model=large-v3", "prompt=leaves") }()
			<-came
			leave()
			<-gone
			noticed := time.Now()
			if r := p.post(transcriptions, wav(1), "model=large-v3", "prompt=stays"); r.status != http.StatusOK {
				t.Fatalf("status %d: %s", r.status, r.body)
			}
			next := <-came
			if waited := next.Sub(began); kind == "openai" && waited < predicted*9/10 {
				t.Errorf("the next job came %v after the one that was left, which was predicted to take %v", waited, predicted)
			}
			if waited := next.Sub(noticed); kind == "whisperpool" && waited > predicted*3/4 {
				t.Errorf("the next job came %v after the one that was left, which was predicted to take %v", waited, predicted)
			}
			// What was sat out does not count as seen.
			if s := p.pool().dispatcher.Snapshot().Backends[0].Speeds[0]; s.Observations > 1 {
				t.Errorf("%d observations of one job that ended", s.Observations)
			}
		})
	}
}

// TestLeavingFreesWhatWasNotSent: where the server has not got all of the request, there is no work that
// could go on.
func TestLeavingFreesWhatWasNotSent(t *testing.T) {
	var w way
	trace := w.trace()
	for _, step := range []struct {
		what string
		do   func()
		want bool
	}{
		{"nowhere", func() {}, false},
		{"connected", func() { trace.GotConn(httptrace.GotConnInfo{}) }, false},
		{"broke off while sending", func() { trace.WroteRequest(httptrace.WroteRequestInfo{Err: context.Canceled}) }, false},
		{"sent", func() { trace.WroteRequest(httptrace.WroteRequestInfo{}) }, true},
		{"answered", trace.GotFirstResponseByte, false},
	} {
		if step.do(); w.atWork() != step.want {
			t.Errorf("%s: at work is %v", step.what, w.atWork())
		}
	}
}
