package caddymodule

import (
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisperpool/whisperpool/scheduler"
)

// gauges reads the state of all pools when it is scraped, so that nothing drifts and what is gone
// from the configuration is gone from the metrics. That is one Snapshot a pool.
type gauges struct{}

var (
	perPool     = []string{"pool"}
	perUpstream = []string{"pool", "upstream", "class"}

	queueDepth     = prometheus.NewDesc("whisperpool_queue_depth", "Jobs that wait for a backend.", perPool, nil)
	queueBandDepth = prometheus.NewDesc("whisperpool_queue_band_depth", "Jobs that wait for a backend, by priority.", with(perPool, "band"), nil)
	queueClass     = prometheus.NewDesc("whisperpool_queue_attributed", "Jobs that wait, by the GPU class that is predicted to serve them.", with(perPool, "class"), nil)
	oldestWait     = prometheus.NewDesc("whisperpool_queue_oldest_seconds", "For how long the first of the jobs that wait has waited.", perPool, nil)
	uploadBytes    = prometheus.NewDesc("whisperpool_upload_bytes", "Bytes of uploads that are held, by where they are.", with(perPool, "place"), nil)
	saturation     = prometheus.NewDesc("whisperpool_saturation_ratio", "Jobs that run or wait, over the slots of the backends that can be used.", perPool, nil)
	outstanding    = prometheus.NewDesc("whisperpool_backend_outstanding", "Attempts in flight.", perUpstream, nil)
	backendSlots   = prometheus.NewDesc("whisperpool_backend_slots", "Attempts that the backend is given at a time.", perUpstream, nil)
	backendUp      = prometheus.NewDesc("whisperpool_backend_up", "Whether the backend can be used.", perUpstream, nil)
	backendState   = prometheus.NewDesc("whisperpool_backend_state", "1 for the state that the backend and its breaker are in, 0 for all others.",
		with(perUpstream, "state"), nil)
	learnedSeconds = prometheus.NewDesc("whisperpool_backend_learned_seconds", "Time that a recording of 10 s is predicted to take on the backend.",
		with(perUpstream, "model"), nil)
	learnedSamples = prometheus.NewDesc("whisperpool_backend_learned_samples", "Jobs that the prediction was learned from; 0 while it is the prior.",
		with(perUpstream, "model"), nil)
	learnedSpread = prometheus.NewDesc("whisperpool_backend_learned_spread_ratio", "Standard deviation of the logarithm of actual over predicted times.",
		with(perUpstream, "model"), nil)
	backendInfo = prometheus.NewDesc("whisperpool_backend_info", "1, for what the backend says of its device, to join with what else is known of it.",
		with(perUpstream, "device", "gpu_uuid"), nil)
	buildInfo = prometheus.NewDesc("whisperpool_build_info", "1, for what this process was built from.", []string{"version", "revision", "goversion"}, nil)
)

var gaugeDescs = []*prometheus.Desc{
	queueDepth, queueBandDepth, queueClass, oldestWait, uploadBytes, saturation, outstanding, backendSlots, backendUp, backendState, learnedSeconds,
	learnedSamples, learnedSpread, backendInfo, buildInfo,
}

// backendStates are all of scheduler.BackendSnapshot.State, for gauges that are 0.
var backendStates = []string{"unknown", "up", "loading", "down", "paused", "open", "half-open", "drained", "draining"}

// The names of the bands.
var bandNames = map[scheduler.Priority]string{scheduler.Interactive: "interactive", scheduler.Default: "default", scheduler.Batch: "batch"}

// Describe tells of every series; Caddy's registry insists on it.
func (gauges) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range gaugeDescs {
		out <- desc
	}
}

// Collect reads the pools.
func (gauges) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(buildInfo, prometheus.GaugeValue, 1, built[:]...)
	var all []*Pool
	pools.Range(func(_, pool any) bool {
		all = append(all, pool.(*Pool))
		return true
	})
	for _, p := range all {
		p.collect(out)
	}
}

func (p *Pool) collect(out chan<- prometheus.Metric) {
	s := p.dispatcher.Snapshot()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{p.name}, labels...)...)
	}
	gauge(queueDepth, float64(s.Queued))
	for band, name := range bandNames {
		gauge(queueBandDepth, float64(s.QueuedIn[band]), name)
	}
	attributed := map[string]float64{"": s.Attributed[""]} // it is there without any backend
	for class := range p.classes() {                       // also while there is none of it
		attributed[class] = s.Attributed[class]
	}
	for _, b := range s.Backends {
		attributed[b.Class] = s.Attributed[b.Class]
	}
	for class, jobs := range attributed {
		gauge(queueClass, jobs, class)
	}
	gauge(oldestWait, s.OldestWait.Seconds())
	memory := min(p.uploads.memory.Load(), p.uploads.held.Load())
	gauge(uploadBytes, float64(memory), "memory")
	gauge(uploadBytes, float64(p.uploads.held.Load()-memory), "file")
	gauge(saturation, saturationOf(s))
	for _, b := range s.Backends {
		up := 0.0
		if b.Usable {
			up = 1
		}
		id, class := string(b.ID), b.Class
		gauge(outstanding, float64(b.Outstanding), id, class)
		gauge(backendSlots, float64(b.Slots), id, class)
		gauge(backendUp, up, id, class)
		if report := p.reported(b.ID); report.Device != "" {
			gauge(backendInfo, 1, id, class, report.Device, report.GPUUUID)
		}
		for _, state := range backendStates {
			is := 0.0
			if state == b.State {
				is = 1
			}
			gauge(backendState, is, id, class, state)
		}
		for _, speed := range b.Speeds {
			gauge(learnedSeconds, speed.TenSeconds.Seconds(), id, class, speed.Model)
			gauge(learnedSamples, float64(speed.Observations), id, class, speed.Model)
			gauge(learnedSpread, speed.Spread, id, class, speed.Model)
		}
	}
}

// saturationOf is infinite when there is work and nobody to do it.
func saturationOf(s scheduler.Snapshot) float64 {
	work, slots := s.Running+s.Queued, 0
	for _, b := range s.Backends {
		if b.Usable {
			slots += b.Slots
		}
	}
	switch {
	case work == 0:
		return 0
	case slots == 0:
		return math.Inf(1)
	}
	return float64(work) / float64(slots)
}

// built is the version and the revision of this module, and Go's version.
var built = func() [3]string {
	const module = "github.com/whisperpool/whisperpool"
	out := [3]string{"unknown", "unknown", runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	if strings.HasPrefix(info.Main.Path, module) || info.Main.Path == "" {
		if info.Main.Version != "" {
			out[0] = info.Main.Version
		}
		for _, setting := range info.Settings { // it is that of the main module
			if setting.Key == "vcs.revision" {
				out[1] = setting.Value
			}
		}
		return out
	}
	if i := slices.IndexFunc(info.Deps, func(m *debug.Module) bool { return m.Path == module }); i >= 0 {
		out[0] = info.Deps[i].Version
	}
	return out
}()
