package backend

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/whisperpool/whisperpool/transcript"
)

// metrics is what GET /metrics tells. Each server has a registry of its own. Labels have values that
// the server itself chose, never what a client typed.
type metrics struct {
	registry *prometheus.Registry
	rate     *rate // audio transcribed

	// Requests and jobs.
	requests  *prometheus.CounterVec // by outcome
	refusals  *prometheus.CounterVec // by reason
	perModel  *prometheus.CounterVec // by model
	queue     prometheus.Histogram
	decode    prometheus.Histogram
	inference prometheus.Histogram
	realTime  prometheus.Histogram
	audio     prometheus.Counter
	silence   prometheus.Counter
	windows   prometheus.Counter
	tokens    prometheus.Counter
	fallbacks prometheus.Counter
	short     prometheus.Counter
	again     prometheus.Counter
	aborts    prometheus.Counter

	// Models.
	loads        prometheus.Histogram
	loadFailures prometheus.Counter
	unloads      prometheus.Counter

	now  *gauges
	info *prometheus.GaugeVec

	mu      sync.Mutex
	reasons map[string]bool // that refusals has as labels
}

// secondsBuckets reach from a wait that is none to a recording of hours.
var secondsBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600}

// ratioBuckets are seconds of work for a second of audio: from a fast card with a small model to a
// slow processor, or a clip of a moment that costs a whole window.
var ratioBuckets = []float64{0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10}

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), rate: newRate(s.since), reasons: map[string]bool{}}
	counter := func(name, help string) prometheus.Counter {
		return registered(m, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return registered(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label}))
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return registered(m, prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}))
	}
	m.requests = counters("whisper_backend_requests_total", "Transcription requests by how they ended.", "outcome")
	m.refusals = counters("whisper_backend_refusals_total", "Requests that were refused, by the error's code.", "reason")
	m.perModel = counters("whisper_backend_model_requests_total", "Requests that were transcribed, by the model that did it.", "model")
	m.queue = histogram("whisper_backend_queue_seconds", "Time that jobs waited for a decoder and a slot.", secondsBuckets)
	m.decode = histogram("whisper_backend_decode_seconds", "Time that decoding an upload took.", secondsBuckets)
	m.inference = histogram("whisper_backend_inference_seconds", "Time that successful jobs held a slot.", secondsBuckets)
	m.realTime = histogram("whisper_backend_real_time_factor", "Time that successful jobs held a slot, for each second of their audio.", ratioBuckets)
	m.audio = counter("whisper_backend_audio_seconds_total", "Audio that was transcribed.")
	m.silence = counter("whisper_backend_silence_seconds_total", "Silence that was cut out of recordings before they took a slot.")
	m.windows = counter("whisper_backend_windows_total", "Windows of audio that were encoded, for finding out the language too.")
	m.tokens = counter("whisper_backend_tokens_total", "Tokens of the answers.")
	m.fallbacks = counter("whisper_backend_fallbacks_total", "Windows that were decoded again at a higher temperature.")
	m.short = counter("whisper_backend_short_clips_total", "Jobs that were done on a state with a shrunk context.")
	m.again = counter("whisper_backend_second_passes_total", "Short clips that were done once more on a full state, since the first result could not be trusted.")
	m.aborts = counter("whisper_backend_aborts_total", "Jobs that were stopped in their slot, because the client left or the server shut down.")
	m.loads = histogram("whisper_backend_model_load_seconds", "Time that loading a model took.", secondsBuckets)
	m.loadFailures = counter("whisper_backend_model_load_failures_total", "Models that could not be loaded.")
	m.unloads = counter("whisper_backend_model_unloads_total", "Models that were unloaded, to make room or because nobody used them.")
	m.info = registered(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "whisper_backend_info", Help: "What the server is, in its labels; always 1.",
	}, []string{"version", "engine", "model", "gpu_class", "device", "gpu_uuid"}))
	m.now = registered(m, newGauges(s))
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, outcome := range outcomes { // a rate needs the zero before the first
		m.requests.WithLabelValues(outcome)
	}
	return m
}

func registered[C prometheus.Collector](m *metrics, c C) C {
	m.registry.MustRegister(c)
	return c
}

// outcomes are the values of the label: all that a request can end in.
var outcomes = []string{
	"ok", "invalid", "too_large", "queue_full", "too_many_uploads", "loading", "no_room", "model_failed", "shutting_down", "client_gone", "failed",
}

// outcomeOf says how a request ended.
func outcomeOf(refusal *transcript.Error) string {
	switch {
	case refusal == nil:
		return "ok"
	case refusal.Status == statusClientGone, refusal.Code == codeIncomplete:
		return "client_gone"
	case refusal.Status == http.StatusRequestEntityTooLarge:
		return "too_large"
	case refusal.Status < http.StatusInternalServerError:
		return "invalid"
	}
	for _, o := range outcomes {
		if refusal.Code == o {
			return o
		}
	}
	return "failed"
}

// observe counts a request that has ended.
func (m *metrics) observe(outcome string, j *job) {
	m.requests.WithLabelValues(outcome).Inc()
	if j.decode > 0 {
		m.decode.Observe(j.decode.Seconds())
	}
	if j.inference > 0 {
		m.queue.Observe(j.queue.Seconds())
	}
	if outcome != "ok" {
		return
	}
	m.audio.Add(j.audioSeconds)
	m.rate.add(time.Now(), j.audioSeconds)
	if j.inference == 0 { // nobody speaks in it
		return
	}
	m.inference.Observe(j.inference.Seconds())
	if j.audioSeconds > 0 {
		m.realTime.Observe(j.inference.Seconds() / j.audioSeconds)
	}
}

// worked counts what an engine did for a job that succeeded.
func (m *metrics) worked(model string, w Work) {
	m.perModel.WithLabelValues(model).Inc()
	m.windows.Add(float64(w.Windows))
	m.tokens.Add(float64(w.Tokens))
	m.fallbacks.Add(float64(w.Fallbacks))
	if w.Short {
		m.short.Inc()
	}
	if w.Again {
		m.again.Inc()
	}
}

// refused counts a refusal. Its code is one of the program's own; should they ever become many, the
// rest share a label.
func (m *metrics) refused(code string) {
	const most = 100
	m.mu.Lock()
	if !m.reasons[code] && len(m.reasons) >= most || code == "" {
		code = "other"
	}
	m.reasons[code] = true
	m.mu.Unlock()
	m.refusals.WithLabelValues(code).Inc()
}

func (m *metrics) useDevice(d *device, version string) {
	m.info.WithLabelValues(version, d.info.Engine, d.info.Model, string(d.class), d.info.Device, d.info.DeviceUUID).Set(1)
}
