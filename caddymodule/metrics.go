package caddymodule

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
)

// The buckets of histograms.
var (
	// buckets reach from a short clip on a fast card to the longest that a client waits.
	buckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80, 160, 300, 600}
	// ratioBuckets lie around 1, where a prediction came true.
	ratioBuckets = []float64{.1, .25, .5, .7, .8, .9, 1, 1.1, 1.25, 1.5, 2, 4, 8, 16}
	// factorBuckets reach from a fast card in batches to a processor that does not keep up with the speaker.
	factorBuckets = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}
)

// histogram has classic buckets, and native ones for whoever scrapes those.
func histogram(name, help string, bounds []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: bounds,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}, labels)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// The counters live as long as the process: Caddy makes a new registry with every configuration, and
// they are registered with each. What they mean is docs/metrics.md. Labels are names of the configuration, of
// backends or of ours, and never what a client wrote.
var (
	requestsTotal = counter("whisperpool_requests_total",
		"Requests by how they ended; invalid is the client's own mistake.", "pool", "outcome")
	refusalsTotal = counter("whisperpool_refusals_total",
		"Requests that were answered with an error, by its code.", "pool", "code")
	requestSeconds = histogram("whisperpool_request_duration_seconds",
		"Time from a transcription's arrival to the end of its answer.", buckets, "pool", "outcome")
	phaseSeconds = histogram("whisperpool_request_phase_seconds",
		"Where the time of whisperpool_request_duration_seconds went.", buckets, "pool", "phase")
	queueSeconds = histogram("whisperpool_queue_seconds",
		"Time that jobs waited for a backend, over all of their attempts.", buckets, "pool")
	serviceSeconds = histogram("whisperpool_service_seconds",
		"Time that successful attempts took, from sending to the last byte of the answer.", buckets, perUpstream...)
	predictionRatio = histogram("whisperpool_prediction_ratio",
		"Time that successful attempts took, over what was predicted of them.", ratioBuckets, perUpstream...)
	realTimeFactor = histogram("whisperpool_real_time_factor_ratio",
		"Time that successful attempts took, over the length of their audio.", factorBuckets, perUpstream...)
	attemptsTotal = counter("whisperpool_attempts_total",
		"Attempts by how they ended.", with(perUpstream, "result")...)
	placementsTotal = counter("whisperpool_placements_total",
		"Attempts that were begun, by why the backend was chosen.", with(perUpstream, "reason")...)
	retriesTotal = counter("whisperpool_retries_total",
		"Attempts that followed a failed one, by how that ended.", "pool", "reason")
	hedgesTotal = counter("whisperpool_hedges_total",
		"Second attempts beside one that took too long, by what became of them.", "pool", "result")
	transitionsTotal = counter("whisperpool_breaker_transitions_total",
		"Changes of what is believed of a backend, by cause.", with(perUpstream, "verdict", "cause")...)
	audioSeconds = counter("whisperpool_audio_seconds_total",
		"Length of the audio that was transcribed.", with(perUpstream, "model")...)
	unmeasuredTotal = counter("whisperpool_unmeasured_audio_total",
		"Successful attempts with audio whose length nobody told; no metric has it.", perUpstream...)
	recordFailures = counter("whisperpool_record_failures_total",
		"Times that steps of the scheduler could not be recorded, because the disk failed or was too slow.", "pool")
)

func collectors() []prometheus.Collector {
	return []prometheus.Collector{
		requestsTotal, refusalsTotal, requestSeconds, phaseSeconds, queueSeconds, serviceSeconds, predictionRatio, realTimeFactor,
		attemptsTotal, placementsTotal, retriesTotal, hedgesTotal, transitionsTotal, audioSeconds, unmeasuredTotal, recordFailures,
		&tenantAudio, gauges{},
	}
}

// registerMetrics makes all metrics known to a registry; another handler may have done so.
func registerMetrics(registry prometheus.Registerer) error {
	for _, c := range collectors() {
		if err := registry.Register(c); err != nil {
			if already := (prometheus.AlreadyRegisteredError{}); !errors.As(err, &already) {
				return err
			}
		}
	}
	return nil
}

// count counts how the request ended.
func (t *transcription) count(outcome string) {
	t.outcome = outcome
	requestsTotal.WithLabelValues(t.pool.name, outcome).Inc()
}

// countRefusal counts what was answered. The words of backends are not ours, so their codes do not count.
func (t *transcription) countRefusal(problem *transcript.Error) {
	t.code = t.codeOf(problem)
	refusalsTotal.WithLabelValues(t.pool.name, t.code).Inc()
}

// measure tells how long the request took, and where its time went. It is called when all is over.
func (t *transcription) measure(ctx context.Context) {
	end := time.Now()
	if t.outcome == "" { // as when net/http ends it
		t.count("aborted")
	}
	t.story.over(t.outcome, "", 0, nil)
	observe(ctx, requestSeconds.WithLabelValues(t.pool.name, t.outcome), end.Sub(t.arrived).Seconds())
	phases := t.phases(end)
	for phase, took := range phases {
		observe(ctx, phaseSeconds.WithLabelValues(t.pool.name, phaseNames[phase]), took.Seconds())
	}
	logAccess(ctx, t.access(phases))
}

// observe adds the trace that it is an example of, where Caddy's tracing keeps one.
func observe(ctx context.Context, o prometheus.Observer, value float64) {
	if traced := trace.SpanContextFromContext(ctx); traced.IsSampled() && traced.HasTraceID() {
		if example, ok := o.(prometheus.ExemplarObserver); ok {
			example.ObserveWithExemplar(value, prometheus.Labels{"trace_id": traced.TraceID().String()})
			return
		}
	}
	o.Observe(value)
}

// begun counts an attempt that begins.
func (t *transcription) begun(a dispatcher.Attempt, b *backend, at time.Time) {
	placementsTotal.WithLabelValues(t.pool.name, string(b.id), b.config.Class, a.Reason.String()).Inc()
	if t.trial {
		return
	}
	t.story.placed(a, b.config.Class, t.pool.look(t.story.job, lookFor), at)
	if failed := t.course.begin(a.Dispatch, at); failed != 0 && a.Reason != scheduler.Hedging {
		retriesTotal.WithLabelValues(t.pool.name, failed.String()).Inc()
	}
}

// attempted counts an attempt that has ended.
func (t *transcription) attempted(a dispatcher.Attempt, b *backend, o scheduler.Outcome, took time.Duration) {
	labels := []string{t.pool.name, string(b.id), b.config.Class}
	attemptsTotal.WithLabelValues(with(labels, o.Result.String())...).Inc()
	if a.Reason == scheduler.Hedging {
		hedgesTotal.WithLabelValues(t.pool.name, hedgeResult(o.Result)).Inc()
	}
	if o.Result != scheduler.Success {
		return
	}
	serviceSeconds.WithLabelValues(labels...).Observe(took.Seconds())
	if t.trial {
		return
	}
	if a.Predicted > 0 {
		predictionRatio.WithLabelValues(labels...).Observe(took.Seconds() / a.Predicted.Seconds())
	}
	seconds := o.AudioSeconds
	if !(seconds > 0) {
		seconds = t.request.AudioSeconds
	}
	if !(seconds > 0 && seconds <= audioMost) {
		unmeasuredTotal.WithLabelValues(labels...).Inc()
		return
	}
	realTimeFactor.WithLabelValues(labels...).Observe(took.Seconds() / seconds)
	audioSeconds.WithLabelValues(with(labels, a.Model)...).Add(seconds)
	if t.account != "" {
		tenantAudio.add(t.pool.name, t.account, seconds)
	}
}

// audioMost is more than any recording is long; a backend that tells of more is mistaken.
const audioMost = 1e6

// The results of second attempts.
const (
	hedgeWon    = "won"    // it was the first to be done
	hedgeLost   = "lost"   // the other was, or the client has left
	hedgeFailed = "failed" // it failed itself
)

func hedgeResult(r scheduler.Result) string {
	switch r {
	case scheduler.Success, scheduler.ClientError:
		return hedgeWon
	case scheduler.Aborted:
		return hedgeLost
	}
	return hedgeFailed
}

// with is a list with more at its end, and never the same memory.
func with(list []string, more ...string) []string {
	return append(list[:len(list):len(list)], more...)
}
