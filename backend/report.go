package backend

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"
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
	GPUUUID  string        `json:"gpu_uuid"`  // of the card; "" where not known
	Emulator bool          `json:"emulator"`  // texts are made up
	Models   []ReportModel `json:"models"`    // empty while loading; those that are not loaded are when they are asked for

	SlotsMin    int     `json:"slots_min"`                // slots come and go
	SlotsMax    int     `json:"slots_max"`                // between these
	GPU         bool    `json:"gpu"`                      // a GPU really is in use
	Threads     int     `json:"threads"`                  // of the CPU, for each slot
	ShortClips  bool    `json:"short_clips"`              // short clips take less time than a whole window
	Build       string  `json:"build"`                    // the engine's library in its own words
	AudioRate   float64 `json:"audio_seconds_per_second"` // audio that was transcribed in the last minute, per second of it
	MemoryFree  int64   `json:"memory_free"`              // bytes of the device's own memory; 0: not known, or none of its own
	MemoryTotal int64   `json:"memory_total"`             // likewise
	ModelsMax   int64   `json:"models_bytes_max"`         // bytes that loaded models may take in all
	ModelsBytes int64   `json:"models_bytes"`             // bytes that they take
}

// ReportModel is what a served model can do.
type ReportModel struct {
	ID           string `json:"id"`
	Multilingual bool   `json:"multilingual"` // false: English only, language is neither detected nor chosen
	Translate    bool   `json:"translate"`    // translates to English
	Words        bool   `json:"words"`        // times single words
	Default      bool   `json:"default"`      // served to who names no model
	Loaded       bool   `json:"loaded"`       // at present
	Loading      bool   `json:"loading"`      // at present
	Bytes        int64  `json:"bytes"`        // of memory that it takes when loaded, measured or estimated
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
	r.GPUClass, r.Engine, r.Device, r.GPUUUID = string(d.class), d.info.Engine, d.info.Device, d.info.DeviceUUID
	r.Emulator = d.emulator()
	r.SlotsMin, r.SlotsMax = s.slotsRange(d)
	r.GPU, r.Threads, r.ShortClips, r.Build = d.info.GPU, d.info.Threads, d.info.ShortClips, d.info.SystemInfo
	r.AudioRate = s.metrics.rate.perSecond(time.Now())
	r.MemoryTotal = int64(d.info.DeviceTotal)
	s.shelf.report(&r)
	return r
}

// slotsRange is between which numbers slots come and go.
func (s *Server) slotsRange(d *device) (least, most int) {
	if s.cfg.MaxSlots > 0 {
		return s.cfg.MinSlots, s.cfg.MaxSlots
	}
	return d.info.Slots, d.info.Slots
}

// report fills in what is known of the models.
func (sh *shelf) report(r *Report) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.ModelsMax = sh.memoryMax
	if r.ModelsMax == math.MaxInt64 {
		r.ModelsMax = 0
	}
	for _, d := range sh.devices {
		r.ModelsBytes += d.bytes
		r.MemoryFree = max(r.MemoryFree, d.free.Load())
	}
	for i, m := range sh.models {
		one := ReportModel{
			ID: m.ID, Multilingual: m.Multilingual, Translate: m.Translates, Words: true, Default: i == 0,
			Loaded: sh.devices[m.ID] != nil, Loading: sh.loads[m.ID] != nil, Bytes: sh.sizes[m.ID],
		}
		if one.Bytes == 0 {
			one.Bytes = m.Bytes + m.SlotBytes*int64(r.Slots)
		}
		r.Models = append(r.Models, one)
	}
}

// rate counts what was done in the last minute.
type rate struct {
	mu      sync.Mutex
	start   time.Time // of the first second
	last    int64     // second since start that was written last
	seconds [60]float64
}

func newRate(start time.Time) *rate { return &rate{start: start} }

// advance empties the seconds between the last one and now. The caller holds mu.
func (r *rate) advance(now time.Time) int64 {
	second := max(r.last, int64(now.Sub(r.start)/time.Second))
	for s := max(r.last+1, second-59); s <= second; s++ {
		r.seconds[s%60] = 0
	}
	r.last = second
	return second
}

func (r *rate) add(now time.Time, amount float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seconds[r.advance(now)%60] += amount
}

// perSecond is the average over the last minute, or since the start if that is shorter ago.
func (r *rate) perSecond(now time.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	span := min(60, r.advance(now)+1)
	sum := 0.0
	for _, amount := range r.seconds {
		sum += amount
	}
	return sum / float64(span)
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
