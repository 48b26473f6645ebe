package caddymodule

import (
	"bytes"
	"context"
	"net/http"
	"testing"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// TestTrial: an attempt without a client is sent as any other is, whatever the kind, and says whether words came
// back.
func TestTrial(t *testing.T) {
	for _, kind := range []string{"whisperpool", "openai", "whisper_server"} {
		t.Run(kind, func(t *testing.T) {
			backend := newWhisper(t, func(s *whisper) { s.kind = kind })
			p := newProxy(t, "backend "+backend.address()+" {\n\tname gpu\n}\ndefault_model base")
			p.ready(1)
			try := func() scheduler.Outcome {
				return p.pool().trial(t.Context(), dispatcher.Attempt{Dispatch: scheduler.Dispatch{Backend: "gpu", Model: "base", Trial: true}})
			}
			if o := try(); o.Result != scheduler.Success || !o.Words {
				t.Errorf("%+v", o)
			}
			if got := backend.requests()[0]; got.fileHash != digest(spoken) {
				t.Errorf("%d bytes were sent, not the %d that are spoken", got.fileSize, len(spoken))
			}
			backend.answer = func(w http.ResponseWriter, _ *http.Request, _ sent) { reply(w, map[string]any{"text": ""}) }
			if o := try(); o.Result != scheduler.Success || o.Words {
				t.Errorf("without words: %+v", o)
			}
			backend.answer = func(w http.ResponseWriter, _ *http.Request, _ sent) {
				w.WriteHeader(http.StatusUnsupportedMediaType)
				reply(w, map[string]any{"error": map[string]any{"message": "no", "type": "invalid_request_error"}})
			}
			if o := try(); o.Result != scheduler.ClientError {
				t.Errorf("refused: %+v", o)
			}
			ctx, cancel := context.WithCancel(t.Context())
			backend.answer = func(_ http.ResponseWriter, r *http.Request, _ sent) {
				cancel()
				<-r.Context().Done()
			}
			if o := p.pool().trial(ctx, dispatcher.Attempt{Dispatch: scheduler.Dispatch{Backend: "gpu", Model: "base", Trial: true}}); o.Result != scheduler.Aborted {
				t.Errorf("ended: %+v", o)
			}
			if n := p.pool().running.Load(); n != 0 {
				t.Errorf("%d attempts of clients are counted", n)
			}
		})
	}
}

// TestSpoken: what backends are tried with is what it is said to be.
func TestSpoken(t *testing.T) {
	info, err := audio.Probe(bytes.NewReader(spoken), int64(len(spoken)))
	if err != nil || info.Seconds != spokenSeconds || info.Estimated {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestHedgedServes: where jobs may be started twice, answers and clients that leave are as they are otherwise.
func TestHedgedServes(t *testing.T) {
	backend := newWhisper(t, func(s *whisper) { s.slots = 2 })
	p := newProxy(t, "backend "+backend.address()+"\nhedge on")
	p.ready(1)
	for range 5 {
		if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK || r.header.Get("X-Whisperpool-Attempts") != "1" {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	backend.answer = func(_ http.ResponseWriter, r *http.Request, _ sent) {
		leave()
		<-r.Context().Done()
	}
	if r, err := p.postWith(ctx, transcriptions, nil, wav(1), "model=base"); err == nil {
		t.Errorf("status %d", r.status)
	}
	eventually(t, "nothing is left inside", func() bool {
		s := p.pool().dispatcher.Snapshot()
		return s.Running == 0 && s.HeldBytes == 0 && p.pool().inside.Load() == 0 && p.pool().uploads.held.Load() == 0
	})
}
