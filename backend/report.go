package backend

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// LoadHeader is on every answer of the transcription routes, refusals included, and says how busy
// the server is at that moment: "slots=2, busy=1, queued=0, instance=4f0c91d2a7b3e865". Proxies
// that share the server learn from it of each other's work, and of restarts.
const LoadHeader = "X-Whisperpool-Load"

// InstanceHeader is on every answer of the transcription routes and holds [Report.Instance].
const InstanceHeader = "X-Whisperpool-Instance"

// EmulatorHeader is "true" on every answer of an emulator, so that nobody takes its text for a
// transcript.
const EmulatorHeader = "X-Whisperpool-Emulator"

// Report is the answer of GET /load-report: what the server is and how busy it is. The names of
// its JSON members are a contract with proxies of other versions: members are added, never renamed.
type Report struct {
	Server   string        `json:"server"`    // "whisperpool": tells this server from others that have the path
	Version  string        `json:"version"`   // of the program
	Instance string        `json:"instance"`  // random, new with every start
	Ready    bool          `json:"ready"`     // takes work: loaded, and not shutting down
	Loading  bool          `json:"loading"`   // the model is not loaded yet
	Draining bool          `json:"draining"`  // shutting down: finishes what it has and takes nothing new
	Slots    int           `json:"slots"`     // jobs that run side by side; 0 while loading
	Busy     int           `json:"busy"`      // jobs that run
	Queued   int           `json:"queued"`    // jobs that were read and wait for a slot, decoding ones included
	QueueMax int           `json:"queue_max"` // jobs that may wait
	GPUClass string        `json:"gpu_class"` // "" when not known
	Engine   string        `json:"engine"`    // "whispercpp" or "emulator"; "" while loading
	Device   string        `json:"device"`    // what the engine runs on, in its own words
	Emulator bool          `json:"emulator"`  // texts are made up
	Models   []ReportModel `json:"models"`    // empty while loading
}

// ReportModel is what a served model can do.
type ReportModel struct {
	ID           string `json:"id"`
	Multilingual bool   `json:"multilingual"` // false: English only, language is neither detected nor chosen
	Translate    bool   `json:"translate"`    // translates to English
	Words        bool   `json:"words"`        // times single words
}

// Report says how the server is at this moment. It never waits.
func (s *Server) Report() Report {
	r := Report{
		Server: "whisperpool", Version: s.cfg.Version, Instance: s.instance,
		Draining: s.gate.closed(), QueueMax: s.cfg.Queue, Models: []ReportModel{},
	}
	d := s.device.Load()
	if d == nil {
		r.Loading = true
		return r
	}
	r.Ready = !r.Draining
	r.Slots = s.slots.now()
	r.Busy, r.Queued = s.slots.load()
	r.GPUClass, r.Engine, r.Device = string(d.class), d.info.Engine, d.info.Device
	r.Emulator = d.emulator()
	r.Models = append(r.Models, ReportModel{
		ID: d.info.Model, Multilingual: d.info.Multilingual, Translate: d.translates(), Words: true,
	})
	return r
}

func (s *Server) serveReport(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.Report())
}

// setLoadHeaders puts on an answer who gives it and how busy that is.
func (s *Server) setLoadHeaders(h http.Header) {
	h.Set(InstanceHeader, s.instance)
	slots, busy, queued := 0, 0, 0
	if d := s.device.Load(); d != nil {
		slots = s.slots.now()
		busy, queued = s.slots.load()
		if d.emulator() {
			h.Set(EmulatorHeader, "true")
		}
	}
	h.Set(LoadHeader, fmt.Sprintf("slots=%d, busy=%d, queued=%d, instance=%s", slots, busy, queued, s.instance))
}

// writeJSON answers with v, which must be of a kind that always encodes.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("backend: an answer does not encode: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone, which is no error of ours
}
