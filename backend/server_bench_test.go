package backend_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/emulator"
)

// What a request of 5 s of audio costs besides inference: the upload, decoding, the slot, the answer.
func BenchmarkRequest(b *testing.B) {
	e, err := emulator.New(emulator.Config{Class: "H100", Model: "base", Slots: 8, SpeedUp: 1e6})
	if err != nil {
		b.Fatal(err)
	}
	s, err := backend.New(backend.Config{Queue: 1000}, e)
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	contentType, body := form(wav(5), "model", "base")
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	for range b.N {
		resp, err := http.Post(server.URL+"/v1/audio/transcriptions", contentType, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status, err)
		}
		_ = resp.Body.Close()
	}
}
