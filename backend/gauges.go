package backend

import "github.com/prometheus/client_golang/prometheus"

// gauges are the metrics that are looked up when they are asked for: what the load report tells.
type gauges struct {
	server *Server

	slots, slotsMin, slotsMax, busy, queued, ready *prometheus.Desc
	memoryFree, memoryTotal, modelsMax             *prometheus.Desc
	loaded, modelBytes                             *prometheus.Desc
}

func newGauges(s *Server) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("whisper_backend_"+name, help, labels, nil)
	}
	return &gauges{
		server:      s,
		slots:       desc("slots", "Jobs that can run side by side; 0 while the model loads."),
		slotsMin:    desc("slots_min", "Fewest slots that there may be."),
		slotsMax:    desc("slots_max", "Most slots that there may be."),
		busy:        desc("busy", "Slots that are taken."),
		queued:      desc("queued", "Jobs that wait for a decoder or a slot."),
		ready:       desc("ready", "1 when the server takes work, 0 while it loads or shuts down."),
		memoryFree:  desc("device_memory_free_bytes", "Free memory of the device, where that is known."),
		memoryTotal: desc("device_memory_total_bytes", "Memory of the device, where that is known."),
		modelsMax:   desc("models_max_bytes", "Memory that all loaded models together may take; absent where there is no limit."),
		loaded:      desc("model_loaded", "1 for each model that is loaded, 0 for one that would be loaded if it were asked for.", "model"),
		modelBytes:  desc("model_bytes", "Memory that a loaded model takes with its slots, where that is known.", "model"),
	}
}

// Describe implements [prometheus.Collector].
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		g.slots, g.slotsMin, g.slotsMax, g.busy, g.queued, g.ready, g.memoryFree, g.memoryTotal, g.modelsMax, g.loaded, g.modelBytes,
	} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	r := g.server.Report()
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	known := func(d *prometheus.Desc, value int64) {
		if value > 0 {
			send(d, float64(value))
		}
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	send(g.slots, float64(r.Slots))
	send(g.slotsMin, float64(r.SlotsMin))
	send(g.slotsMax, float64(r.SlotsMax))
	send(g.busy, float64(r.Busy))
	send(g.queued, float64(r.Queued))
	send(g.ready, truth(r.Ready))
	known(g.memoryFree, r.MemoryFree)
	known(g.memoryTotal, r.MemoryTotal)
	known(g.modelsMax, r.ModelsMax)
	for _, m := range r.Models {
		send(g.loaded, truth(m.Loaded), m.ID)
		if m.Loaded && m.Bytes > 0 {
			send(g.modelBytes, float64(m.Bytes), m.ID)
		}
	}
}
