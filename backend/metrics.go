package backend

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/whisperpool/whisperpool/transcript"
)

// metrics is what GET /metrics tells. Each server has a registry of its own.
type metrics struct {
	registry *prometheus.Registry

	requests  *prometheus.CounterVec // by outcome
	queue     prometheus.Histogram
	decode    prometheus.Histogram
	inference prometheus.Histogram
	audio     prometheus.Counter
	aborts    prometheus.Counter
	loads     prometheus.Histogram
	unloads   prometheus.Counter
	slots     prometheus.Gauge
	busy      prometheus.Gauge
	queued    prometheus.Gauge
	ready     prometheus.Gauge
	info      *prometheus.GaugeVec
}

// secondsBuckets reach from a wait that is none to a recording of hours.
var secondsBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600}

func newMetrics() *metrics {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: secondsBuckets})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisper_backend_requests_total",
			Help: "Transcription requests by how they ended.",
		}, []string{"outcome"}),
		queue:     histogram("whisper_backend_queue_seconds", "Time that jobs waited for a decoder and a slot."),
		decode:    histogram("whisper_backend_decode_seconds", "Time that decoding an upload took."),
		inference: histogram("whisper_backend_inference_seconds", "Time that successful jobs held a slot."),
		audio:     counter("whisper_backend_audio_seconds_total", "Audio that was transcribed."),
		aborts:    counter("whisper_backend_aborts_total", "Jobs that were stopped in their slot, because the client left or the server shut down."),
		loads:     histogram("whisper_backend_model_load_seconds", "Time that loading a model took."),
		unloads:   counter("whisper_backend_model_unloads_total", "Models that were unloaded, to make room or because nobody used them."),
		slots:     gauge("whisper_backend_slots", "Jobs that can run side by side; 0 while the model loads."),
		busy:      gauge("whisper_backend_busy", "Slots that are taken."),
		queued:    gauge("whisper_backend_queued", "Jobs that wait for a decoder or a slot."),
		ready:     gauge("whisper_backend_ready", "1 when the server takes work, 0 while it loads or shuts down."),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "whisper_backend_info", Help: "What the server is, in its labels; always 1.",
		}, []string{"version", "engine", "model", "gpu_class", "device"}),
	}
	m.registry.MustRegister(m.requests, m.queue, m.decode, m.inference, m.audio, m.aborts, m.loads, m.unloads,
		m.slots, m.busy, m.queued, m.ready, m.info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, outcome := range outcomes { // a rate needs the zero before the first
		m.requests.WithLabelValues(outcome)
	}
	return m
}

// outcomes are the values of the label: all that a request can end in.
var outcomes = []string{
	"ok", "invalid", "too_large", "queue_full", "too_many_uploads", "loading", "shutting_down", "client_gone", "failed",
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
	if outcome == "ok" {
		m.inference.Observe(j.inference.Seconds())
		m.audio.Add(j.audioSeconds)
	}
}

func (m *metrics) useDevice(d *device, version string) {
	m.info.WithLabelValues(version, d.info.Engine, d.info.Model, string(d.class), d.info.Device).Set(1)
}

func (m *metrics) loaded(took time.Duration) { m.loads.Observe(took.Seconds()) }

// collecting brings the gauges up to date before they are read.
func (s *Server) collecting(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		report := s.Report()
		s.metrics.slots.Set(float64(report.Slots))
		s.metrics.busy.Set(float64(report.Busy))
		s.metrics.queued.Set(float64(report.Queued))
		s.metrics.ready.Set(0)
		if report.Ready {
			s.metrics.ready.Set(1)
		}
		next.ServeHTTP(w, r)
	}
}
