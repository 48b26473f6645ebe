package caddymodule

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
)

// aac is an AAC stream of so many frames, of nothing that could be decoded.
func aac(frames int) []byte {
	frame := append([]byte{0xff, 0xf1, 0x50, 0x80, 0x0d, 0x7f, 0xfc}, make([]byte, 100)...) // 107 bytes, as the header says
	return bytes.Repeat(frame, frames)
}

// TestContainers: what whisper.cpp does not decode by itself goes to a backend that decodes all, where
// there is one; else to whoever serves the model, who may have been started with --convert.
func TestContainers(t *testing.T) {
	plain := newWhisper(t, func(s *whisper) { s.kind = "whisper_server" })
	all := newWhisper(t)
	texts := func(w http.ResponseWriter, _ *http.Request, _ sent) { reply(w, map[string]any{"text": " ask not\n"}) }
	plain.answer, all.answer = texts, texts
	both := newProxy(t, fmt.Sprintf("backend %s {\n\tname plain\n}\nbackend %s {\n\tname all\n\tmodels base\n}\npolicy round_robin\ndefault_model base", plain.address(), all.address()))
	both.ready(2)
	for range 4 {
		if r := both.post(transcriptions, aac(200), "model=whisper-1"); r.status != http.StatusOK || r.header.Get("X-Whisperpool-Backend") != "all" {
			t.Fatalf("AAC: status %d by %s: %s", r.status, r.header.Get("X-Whisperpool-Backend"), r.body)
		}
	}
	if n := len(plain.requests()); n != 0 {
		t.Errorf("%d AAC files were sent to a server that is not known to decode them", n)
	}
	for range 4 {
		if r := both.post(transcriptions, wav(1), "model=whisper-1"); r.status != http.StatusOK {
			t.Fatalf("WAV: status %d: %s", r.status, r.body)
		}
	}
	if len(plain.requests()) == 0 {
		t.Error("WAV files are kept from the server, too")
	}
}

// TestContainersWithoutChoice: the server that is alone gets them.
func TestContainersWithoutChoice(t *testing.T) {
	plain := newWhisper(t, func(s *whisper) { s.kind = "whisper_server" })
	plain.answer = func(w http.ResponseWriter, _ *http.Request, _ sent) { reply(w, map[string]any{"text": " ask not\n"}) }
	alone := newProxy(t, "backend "+plain.address()+" {\n\tname plain\n}\ndefault_model base")
	alone.ready(1)
	if r := alone.post(transcriptions, aac(200), "model=whisper-1"); r.status != http.StatusOK {
		t.Errorf("alone: status %d: %s", r.status, r.body)
	}
}
