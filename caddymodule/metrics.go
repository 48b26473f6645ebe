package caddymodule

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisperpool/whisperpool/scheduler"
)

// buckets reach from a short clip on a fast card to the longest that a client waits.
var buckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80, 160, 300, 600}

// The counters live as long as the process: Caddy makes a new registry with every configuration, and
// they are registered with each.
var (
	requestsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisperpool_requests_total",
		Help: "Requests by how they ended; invalid is the client's own mistake.",
	}, []string{"pool", "outcome"})
	queueSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "whisperpool_queue_seconds", Buckets: buckets,
		Help: "Time that jobs waited for a backend, over all of their attempts.",
	}, []string{"pool"})
	serviceSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "whisperpool_service_seconds", Buckets: buckets,
		Help: "Time that successful attempts took, from sending to the last byte of the answer.",
	}, []string{"pool", "upstream", "class"})
	attemptsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisperpool_attempts_total",
		Help: "Attempts by how they ended.",
	}, []string{"pool", "upstream", "class", "result"})
	recordFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisperpool_record_failures_total",
		Help: "Times that steps of the scheduler could not be recorded, because the disk failed or was too slow.",
	}, []string{"pool"})
)

// registerMetrics makes all metrics known to a registry; another handler may have done so.
func registerMetrics(registry prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{requestsTotal, queueSeconds, serviceSeconds, attemptsTotal, recordFailures, gauges{}} {
		if err := registry.Register(c); err != nil {
			if already := (prometheus.AlreadyRegisteredError{}); !errors.As(err, &already) {
				return err
			}
		}
	}
	return nil
}

func (t *transcription) count(outcome string) {
	requestsTotal.WithLabelValues(t.pool.name, outcome).Inc()
}

func countAttempt(pool string, b *backend, result scheduler.Result, took time.Duration) {
	attemptsTotal.WithLabelValues(pool, string(b.id), b.config.Class, result.String()).Inc()
	if result == scheduler.Success {
		serviceSeconds.WithLabelValues(pool, string(b.id), b.config.Class).Observe(took.Seconds())
	}
}

// gauges reads the state of all pools when it is scraped, so that nothing drifts and what is gone
// from the configuration is gone from the metrics.
type gauges struct{}

var (
	perPool      = []string{"pool"}
	perUpstream  = []string{"pool", "upstream", "class"}
	queueDepth   = prometheus.NewDesc("whisperpool_queue_depth", "Jobs that wait for a backend.", perPool, nil)
	uploadBytes  = prometheus.NewDesc("whisperpool_upload_bytes", "Bytes of uploads that are held, by where they are.", []string{"pool", "place"}, nil)
	outstanding  = prometheus.NewDesc("whisperpool_backend_outstanding", "Attempts in flight.", perUpstream, nil)
	backendSlots = prometheus.NewDesc("whisperpool_backend_slots", "Attempts that the backend is given at a time.", perUpstream, nil)
	backendUp    = prometheus.NewDesc("whisperpool_backend_up", "Whether the backend can be used.", perUpstream, nil)
)

// Describe tells of every series; Caddy's registry insists on it.
func (gauges) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{queueDepth, uploadBytes, outstanding, backendSlots, backendUp} {
		out <- desc
	}
}

// Collect reads the pools.
func (gauges) Collect(out chan<- prometheus.Metric) {
	var all []*Pool
	pools.Range(func(_, pool any) bool {
		all = append(all, pool.(*Pool))
		return true
	})
	for _, p := range all {
		s := p.dispatcher.Snapshot()
		gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{p.name}, labels...)...)
		}
		gauge(queueDepth, float64(s.Queued))
		memory := min(p.uploads.memory.Load(), p.uploads.held.Load())
		gauge(uploadBytes, float64(memory), "memory")
		gauge(uploadBytes, float64(p.uploads.held.Load()-memory), "file")
		for _, b := range s.Backends {
			up := 0.0
			if b.Usable {
				up = 1
			}
			gauge(outstanding, float64(b.Outstanding), string(b.ID), b.Class)
			gauge(backendSlots, float64(b.Slots), string(b.ID), b.Class)
			gauge(backendUp, up, string(b.ID), b.Class)
		}
	}
}
