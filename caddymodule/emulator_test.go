package caddymodule

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	whisperbackend "github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/emulator"
)

// The path that switches an emulated backend's faults is on that backend alone.
func TestFaultsAreNotSwitchedThroughTheProxy(t *testing.T) {
	faults := emulator.NewFaults(slog.New(slog.DiscardHandler))
	engine, err := emulator.New(emulator.Config{Class: "T4", Model: "base", Slots: 1, SpeedUp: 1000})
	if err != nil {
		t.Fatal(err)
	}
	s, err := whisperbackend.New(whisperbackend.Config{Wrap: faults.Handler}, engine)
	if err != nil {
		t.Fatal(err)
	}
	back := httptest.NewServer(s.Handler())
	defer back.Close()
	p := newProxy(t, "backend "+strings.TrimPrefix(back.URL, "http://")+" T4")
	p.ready(1)
	const fault = `{"fault":"error"}`
	for _, path := range []string{emulator.FaultPath, transcriptions + "/../../.." + emulator.FaultPath, "//emulator/fault", transcriptions + "?path=" + emulator.FaultPath} {
		for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodGet, http.MethodDelete} {
			r, err := send(t.Context(), method, p.url+path, nil, []byte(fault))
			if err == nil && strings.Contains(r.body, `"kinds"`) {
				t.Errorf("%s %s reaches the backend: %s", method, path, r.body)
			}
		}
	}
	r, err := send(t.Context(), http.MethodGet, back.URL+emulator.FaultPath, nil, nil)
	if err != nil || !strings.Contains(r.body, `"faults":[]`) || !strings.Contains(r.body, `"kinds"`) {
		t.Errorf("a fault came through: %v %+v", err, r)
	}
	if r := p.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Errorf("the pool does not serve: %+v", r)
	}
}
