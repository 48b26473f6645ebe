package upstream

import (
	"context"
	"net/http"
	"net/url"

	"github.com/whisperpool/whisperpool/transcript"
)

// whisperPool is our own backend. It speaks both dialects, so it is asked in the client's own.
type whisperPool struct{}

func (whisperPool) Name() string { return "whisperpool" }

// FreesOnCancel: it aborts the inference of a client that left.
func (whisperPool) FreesOnCancel() bool { return true }

func (whisperPool) DefaultSlots() int { return 1 }

func (whisperPool) asks(p transcript.Params) asked {
	a := asked{api: p.API, format: p.Format}
	if p.Stream {
		a.format = transcript.JSON
	}
	return a
}

func (k whisperPool) Render(ctx context.Context, base *url.URL, r Request) (*http.Request, error) {
	var f form
	p, a := r.Params, k.asks(r.Params)
	if p.API == transcript.WhisperServer {
		f.set("model", r.Model)
		inferenceFields(&f, p, a)
		return f.post(ctx, endpoint(base, "inference"), r.File)
	}
	openAIFields(&f, r, a)
	if p.Language != "" {
		f.set("language", p.Language)
	}
	return f.post(ctx, audioPath(base, p.Task), r.File)
}

func (k whisperPool) Read(resp *http.Response, r Request) (Verdict, error) {
	v, _, err := read(resp, r, k.asks(r.Params))
	return v, err
}

// loadReport is what the backend answers at /load-report; backend/report.go writes it.
type loadReport struct {
	Instance string `json:"instance"`
	Ready    *bool  `json:"ready"`
	Slots    int    `json:"slots"`
	Busy     int    `json:"busy"`
	Queued   int    `json:"queued"`
	GPUClass string `json:"gpu_class"`
	Engine   string `json:"engine"`
	Device   string `json:"device"`
	Models   []struct {
		ID           string `json:"id"`
		Multilingual *bool  `json:"multilingual"`
	} `json:"models"`
}

// loadReport reads the report; ok tells whether it is one.
func (g probed) loadReport() (report loadReport, ok bool) {
	ok = g.json(&report) && report.Instance != "" && report.Engine != ""
	return report, ok
}

// Probe asks for the load report, and for the health where the report does not tell or the user
// set a health_uri.
func (whisperPool) Probe(ctx context.Context, base *url.URL, p Prober) (Report, error) {
	got, err := get(ctx, p, endpoint(base, "load-report"))
	if err != nil {
		return Report{}, err
	}
	load, ok := got.loadReport()
	if !ok {
		if got.loading() {
			return got.report(), nil
		}
		return Report{Detail: got.String() + ": no load report; is it a backend of whisperpool?"}, nil
	}
	report := load.report()
	if load.Ready != nil && p.HealthURI() == "" {
		return report, nil
	}
	state, err := health(ctx, base, p, "health")
	if err != nil {
		return Report{}, err
	}
	report.Ready = state.Ready && (load.Ready == nil || *load.Ready)
	report.Loading = state.Loading || report.Loading
	report.Detail = state.Detail
	return report, nil
}

func (l loadReport) report() Report {
	report := Report{
		Ready: l.Ready != nil && *l.Ready, Loading: l.Ready != nil && !*l.Ready,
		Instance: l.Instance, Slots: max(l.Slots, 0), Busy: max(l.Busy, 0), Queued: max(l.Queued, 0),
		GPUClass: l.GPUClass, Engine: l.Engine, Device: l.Device,
		Models: []string{}, Can: map[string]Can{},
	}
	if report.Loading {
		report.Detail = "its model is being loaded"
	}
	for _, model := range l.Models {
		if model.ID == "" {
			continue
		}
		can := CanByName(model.ID)
		if model.Multilingual != nil { // better than the name
			can.Languages = *model.Multilingual
			can.Translate = can.Languages && (can.Translate || english.MatchString(model.ID))
		}
		report.Models = append(report.Models, model.ID)
		report.Can[model.ID] = can
	}
	return report
}
