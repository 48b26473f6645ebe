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

// onCard is an engine on a card that has a name of its own.
type onCard struct{ *emulator.Emulator }

const cardUUID = "GPU-5a1d3e8c-0c6c-11ef-9c1a-0242ac120002"

func (e onCard) Info() whisperbackend.EngineInfo {
	info := e.Emulator.Info()
	info.DeviceUUID = cardUUID
	return info
}

// What a backend says of its card is in the proxy's metrics, to join with what others know of the card.
func TestTheCardIsInTheMetrics(t *testing.T) {
	engine, err := emulator.New(emulator.Config{Class: "T4", Model: "base", Slots: 1, SpeedUp: 1000})
	if err != nil {
		t.Fatal(err)
	}
	s, err := whisperbackend.New(whisperbackend.Config{}, onCard{engine})
	if err != nil {
		t.Fatal(err)
	}
	back := httptest.NewServer(s.Handler())
	defer back.Close()
	m := newMetered(t, "backend "+strings.TrimPrefix(back.URL, "http://")+" T4 {\n\tname a\n}\n")
	m.ready(1)
	if n := m.scrape().sum("whisperpool_backend_info", `upstream="a"`, `class="T4"`, `device="emulated T4"`, `gpu_uuid="`+cardUUID+`"`); n != 1 {
		t.Errorf("whisperpool_backend_info is %v: %s", n, m.text(nil))
	}
}
